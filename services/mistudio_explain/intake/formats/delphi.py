"""Explanations as EleutherAI's delphi keeps them: `<hookpoint>_latent<number>.txt`, each one JSON text.

Shape: EleutherAI/delphi, delphi/__main__.py (explainer_postprocess) and delphi/latents/latents.py (Latent's name).
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mistudio_explain.intake.document import Document, Flawed, Span, named
from mistudio_explain.intake.formats.said import Explained

NOT_EXPLAINED = frozenset({"Explanation could not be parsed.", "No explanation found"})
"""What delphi writes where it has no explanation (delphi/explainers/explainer.py)."""

_NAME = re.compile(r"(?P<hookpoint>.+)_latent(?P<number>\d+)", re.ASCII)


def explained(document: Document) -> Explained | None:
    """Read one file; None where delphi has no explanation. Raises Flawed."""
    name = _NAME.fullmatch(document.file.name.removesuffix(".txt"))
    if name is None:
        raise Flawed(document.problem((), "the file's name does not end in _latent and a number, as delphi's do"))
    text = document.decode(Span(0, len(document.text)), ())
    if not isinstance(text, str):
        raise Flawed(document.problem((), f"{named(text)}, where a text was expected: delphi's explanation"))
    if text in NOT_EXPLAINED or not text.strip():
        return None
    return Explained(name["hookpoint"], str(int(name["number"])), text)


def files_of(folder: Path) -> Iterable[Path]:
    """The files of explanations in a run's folder, or in its `explanations/`."""
    return sorted(_texts(folder / "explanations")) or sorted(_texts(folder))


def _texts(folder: Path) -> Iterator[Path]:
    return folder.glob("*_latent*.txt")
