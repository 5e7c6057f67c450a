"""The repository's documents as tests read them: their links, their code, and the invocations of our program in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "tests" / "data").rglob("README.md")])
_FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """A document; `fences` are its blocks of code with their languages, `inline` the pieces of code in its sentences."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def fences(self) -> list[tuple[str, str]]:
        return _FENCE.findall(self.text)

    @property
    def inline(self) -> list[str]:
        return [piece.replace(r"\|", "|").replace("\u2026", "...") for piece in _INLINE.findall(self.prose)]

    @property
    def prose(self) -> str:
        """Everything but the blocks of code."""
        return _FENCE.sub("", self.text)

    @property
    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """What `#...` may name, as GitHub and the site make it of a heading."""
        return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in _HEADING.findall(self.prose)}


def documents() -> list[Document]:
    return [Document(path, path.read_text(encoding="utf-8")) for path in DOCUMENTS]


def invocations(block: str) -> Iterator[str]:
    """Our program's invocations in a block of shell; what stands before them in a line (`docker compose exec ...`) is left out."""
    for line in block.replace("\\\n", " ").splitlines():
        for part in re.split(r" \| | && ", re.sub(r"\s+# .*", "", line)):
            if found := re.search(r"(?:^|\s|bin/)(mistudio-explain [a-z-].*)$", part):
                yield plain(found[1])


def plain(synopsis: str) -> str:
    """A synopsis as an invocation: optional parts are given, and of alternatives the first."""
    given = re.sub(r"\[(-[^\]]*|[A-Z]+(?:\.\.\.)?)\]", r"\1", synopsis).replace("...", "")
    return re.sub(r"(?<=[\w-])(?:\|[\w-]+)+", "", given)
