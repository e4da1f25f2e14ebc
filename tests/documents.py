"""The documents as tests read them: their fenced blocks, and the commands inside."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks" / "RESULTS.md"]

FENCE = re.compile(r"^(```+)(\w*)([^\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r'^(\w+)="([^"]*)"$')


class Block(NamedTuple):
    """A fenced block of code."""

    where: str  # file and line
    language: str
    title: str  # `title="…"` behind the language, "" without
    text: str


def blocks(path: Path, language: str) -> list[Block]:
    """The fenced blocks of a document in one language."""
    text, found = path.read_text("utf-8"), []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match[3])
        where = f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}"
        found.append(Block(where, match[2], title[1] if title else "", match[4]))
    return [block for block in found if block.language == language]


def commands(block: Block) -> Iterator[list[str]]:
    """The command lines of a bash block as words: continued lines joined, comments dropped, variables put in."""
    variables: dict[str, str] = {}
    for line in block.text.replace("\\\n", " ").splitlines():
        if assigned := ASSIGNMENT.match(line.strip()):
            variables[assigned[1]] = assigned[2]
            continue
        for name, value in variables.items():
            line = line.replace(f"${name}", value)
        words: list[str] = []
        for word in [*shlex.split(line, comments=True), "&&"]:
            if word not in ("&&", "||", ";", "|"):
                words.append(word)
            elif words:
                yield words
                words = []


def onesearch(words: list[str]) -> list[str] | None:
    """What stands behind `onesearch` in a command line; None where it calls something else."""
    for place, word in enumerate(words):
        if word == "onesearch" or word.endswith("/onesearch"):
            return words[place + 1 :]
        if "=" not in word and word not in ("exec", "sudo"):  # a variable set for this command alone
            return None
    return None
