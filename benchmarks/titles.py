"""Titles like those of a shop, English and Chinese, and keywords that they hold; the same for the same generator.

Words fall by Zipf's law; one in ten is a model number. English titles have capitals and signs between words, Chinese
ones Latin brands, spaces and full-width signs and digits; a few begin with ™, a combining accent or full-width letters.
"""

import numpy as np

from onesearch.keywords.folding import fold

NUM_WORDS = 20_000
SYLLABLES = [consonant + vowel for consonant in "bcdfghklmnprstvwz" for vowel in "aeiou"]
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
WIDE = str.maketrans({digit: chr(ord(digit) + 0xFEE0) for digit in "0123456789"})
SPOILT = ("Sony™ ", "Cafe\u0301 ", "Ｓｏｎｙ ")  # what a few titles begin with


def write_titles(language: str, count: int, rng: np.random.Generator) -> list[str]:
    """Titles of 5 to 12 words in English, 6 to 15 in Chinese."""
    english = language == "English"
    latin = _words(SYLLABLES, ["", "n", "s", "r"], 4, NUM_WORDS if english else NUM_WORDS // 10, rng)
    words = latin if english else [*_words(HAN, [""], 3, NUM_WORDS, rng), *latin]
    rng.shuffle(words)
    lengths = rng.integers(5, 13, count) if english else rng.integers(6, 16, count)
    drawn = iter(_zipf(len(words), int(lengths.sum()), rng).tolist())
    write = _english if english else _chinese
    return [_spoil(write(words, [next(drawn) for _ in range(length)], rng), rng) for length in lengths]


def draw_keywords(titles: list[str], count: int, rng: np.random.Generator) -> list[str]:
    """Distinct folded keywords: 1 to 4 words of an English title, 2 to 6 characters of a Chinese one.

    One in ten is noise: a keyword that lacks its last letter, so that it cuts a word.
    """
    keywords: dict[str, None] = {}
    while len(keywords) < count:
        title = fold(titles[rng.integers(len(titles))])
        parts, glue, shortest, longest = (list(title), "", 2, 6) if max(title) in HAN else (title.split(), " ", 1, 4)
        length = int(rng.integers(shortest, longest + 1))
        start = int(rng.integers(0, max(1, len(parts) - length + 1)))
        keyword = fold(glue.join(parts[start : start + length]))
        keyword = keyword[:-1].strip() if rng.random() < 0.1 else keyword
        if len(keyword) > 1:
            keywords[keyword] = None
    return list(keywords)


def _english(words: list[str], drawn: list[int], rng: np.random.Generator) -> str:
    signs = rng.choice([" ", ", ", "-", " & "], len(drawn), p=[0.88, 0.05, 0.05, 0.02])
    return "".join(_model(words[word].title(), rng) + sign for word, sign in zip(drawn, signs, strict=True)).strip()


def _chinese(words: list[str], drawn: list[int], rng: np.random.Generator) -> str:
    signs = rng.choice(["", " ", "，"], len(drawn), p=[0.9, 0.07, 0.03])
    body = "".join(_model(words[word], rng) + sign for word, sign in zip(drawn, signs, strict=True))
    return f"【{body}】" if rng.random() < 0.2 else body.translate(WIDE)


def _model(word: str, rng: np.random.Generator) -> str:
    return f"{word[0]}{rng.integers(1, 1000)}" if rng.random() < 0.1 else word


def _spoil(title: str, rng: np.random.Generator) -> str:
    return SPOILT[rng.integers(len(SPOILT))] + title if rng.random() < 0.03 else title


def _words(parts: list[str], endings: list[str], longest: int, count: int, rng: np.random.Generator) -> list[str]:
    words: dict[str, None] = {}
    while len(words) < count:
        drawn = _zipf(len(parts), int(rng.integers(1, longest + 1)), rng)
        words["".join(parts[part] for part in drawn) + endings[rng.integers(len(endings))]] = None
    return list(words)


def _zipf(size: int, count: int, rng: np.random.Generator) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    chances = 1 / np.arange(1, size + 1)
    return rng.choice(size, count, p=chances / chances.sum())
