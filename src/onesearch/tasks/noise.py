"""Text augmentation: how shoppers really write. Typos, fragments of a title as a shopper would remember it, babble.

Each function takes the caller's random generator, so that a seed fixes every text.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

NEIGHBOURS = {
    **dict(zip("qwertyuiop", ["wa", "qes", "wrd", "etf", "ryg", "tuh", "yij", "uok", "ipl", "o"], strict=True)),
    **dict(zip("asdfghjkl", ["qsz", "adwx", "sfec", "dgrv", "fhtb", "gjyn", "hkum", "jli", "ko"], strict=True)),
    **dict(zip("zxcvbnm", ["xa", "zcs", "xvd", "cbf", "vng", "bmh", "nj"], strict=True)),
}
"""Keys beside each key of a QWERTY keyboard."""


def typo(text: str, rng: random.Random) -> str:
    """One slip of the fingers: a letter dropped, doubled, swapped or replaced by its neighbour; a space lost or new."""
    letters = [i for i, c in enumerate(text) if c.isalnum()]
    if len(letters) < 3:
        return text
    i = rng.choice(letters)
    kind = rng.randrange(6)
    if kind == 0:
        return text[:i] + text[i + 1 :]
    if kind == 1:
        return text[:i] + text[i] + text[i:]
    if kind == 2 and i + 1 < len(text):
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if kind == 3 and " " in text:
        j = rng.choice([j for j, c in enumerate(text) if c == " "])
        return text[:j] + text[j + 1 :]
    if kind == 4 and i and text[i - 1] != " ":
        return text[:i] + " " + text[i:]
    return text[:i] + rng.choice(NEIGHBOURS.get(text[i], text[i])) + text[i + 1 :]


def fragment(words: Sequence[str], rng: random.Random, max_words: int = 4) -> str:
    """A few words of a title, mostly neighbours and mostly in order, as a shopper would type them.

    Args:
        words: the title, split and normalised.
        rng: source of chance.
        max_words: the longest fragment; real queries hold two to three words.
    """
    if not words:
        return ""
    length = min(len(words), rng.randint(1, max_words))
    if rng.random() < 0.7:
        start = 0 if rng.random() < 0.5 else rng.randrange(len(words) - length + 1)
        return " ".join(words[start : start + length])
    return " ".join(words[i] for i in sorted(rng.sample(range(len(words)), length)))


class Babbler:
    """Writes queries that nobody can read: letters follow each other as in real ones, a Markov chain of order two.

    Args:
        queries: real ones, at least one that is not empty.
    """

    def __init__(self, queries: Iterable[str]) -> None:
        self._next: dict[str, list[str]] = defaultdict(list)
        for query in queries:
            padded = "  " + query + "\n"
            for i in range(2, len(padded)):
                self._next[padded[i - 2 : i]].append(padded[i])

    def write(self, rng: random.Random, longest: int = 30) -> str:
        """One query of at most `longest` letters; now and then a real one."""
        text = "  "
        while not text.endswith("\n") and len(text) < longest + 2:
            text += rng.choice(self._next[text[-2:]])
        return text.strip()
