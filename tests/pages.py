"""The pages of documentation, and what tests check in them: blocks of code, commands, links, headings."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.paths import REPOSITORY

FOLDERS = (".", ".github", "search", "trainables", "dashboard", "cluster", "tests")
PAGES = [path.relative_to(REPOSITORY).as_posix() for folder in FOLDERS for path in sorted((REPOSITORY / folder).glob("*.md"))]
SEPARATORS = ("&&", "||", "|", ";")


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the contents of a page's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    """Return the commands of a page's shell blocks as lists of words, without `uv run` and variables in front."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    return [words for line in text.splitlines() for words in _commands_of(line)]


def inline_commands(page: str) -> list[list[str]]:
    """Return the commands in a page's text and tables, such as `injerto resume NAME`; each names a program and says more."""
    spans = re.findall(r"`((?:uv run )?(?:injerto|python|pytest) [^`]+)`", prose(page))
    return [words for span in spans for words in _commands_of(span.replace("\\|", "|"))]


def _commands_of(line: str) -> Iterator[list[str]]:
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), ";"]:
        if word not in SEPARATORS:
            words.append(word)
            continue
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words = words[1:]
        words = words[2:] if words[:2] == ["uv", "run"] else words
        if words:
            yield words
        words = []


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def modules(page: str) -> list[str]:
    """Return the files of the packages that a page's text names by their whole path, such as `search/plan.py`."""
    return re.findall(r"`((?:search|trainables|dashboard|cluster|tests)/[\w/]+\.(?:py|md|yaml))`", prose(page))


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a Markdown file."""
    headings = re.findall(r"^#+ +(.+?)\s*$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_after(heading: str) -> str:
    """Return the first shell block of README.md after a text, as `.ci/run` reads it."""
    return re.search(r"^```sh\n(.*?)^```$", text_of("README.md").partition(heading)[2], re.DOTALL | re.MULTILINE)[1]
