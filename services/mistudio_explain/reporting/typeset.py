"""The process that sets one volume of the PDF: `python -m mistudio_explain.reporting.typeset FOLDER MEGABYTES`.

It is a process of its own because setting pages takes much memory, all of which is given back with it, and because a
text that the typesetter cannot digest must end nothing else. It reads nothing but FOLDER and fonts.
"""

import json
import re
import resource
import sys
import unicodedata
from pathlib import Path
from typing import Any

import typst

PAGES, TEXTS, VOLUME = "report.typ", "data.json", "report.pdf"

_FAMILIES = ("Liberation Sans", "Noto Sans", "Arimo", "DejaVu Sans", "Libertinus Serif")
"""Those that are there are taken, the first one for all that it has; typst brings the last. For the rest it looks through all fonts of the machine."""
_PROBE = '#let characters = json("characters.json")\n#for each in characters [#each ]'
_UNCOVERED = re.compile(r'the text `"(.)"` could not be displayed')
_MOST_CHARACTERS = 2_000
"""Different characters that are looked for in the fonts."""


def main(folder: Path, megabytes: int) -> None:
    """Set FOLDER's data.json by its report.typ into report.pdf; raises typst.TypstError when that fails."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    fonts = typst.Fonts()
    compiler = typst.Compiler(root=folder, font_paths=fonts, package_path=folder, package_cache_path=folder)
    data = json.loads((folder / TEXTS).read_bytes())
    data["fonts"] = [family for family in _FAMILIES if family in fonts.families()]
    data["warnings"] += font_warnings(_uncovered(compiler, folder, data))
    (folder / TEXTS).write_text(json.dumps(data), encoding="utf-8")
    compiler.compile(folder / PAGES, output=folder / VOLUME, format="pdf", timestamp=0)


def font_warnings(uncovered: list[str]) -> list[str]:
    """What is said when the machine's fonts lack characters."""
    if not uncovered:
        return []
    scripts = sorted({unicodedata.name(character, "UNNAMED").split()[0] for character in uncovered})
    return [
        f"The fonts of this machine lack {len(uncovered):,} of the characters in this volume ({', '.join(scripts[:8])}{', …' if len(scripts) > 8 else ''}): "
        "they show as empty boxes here, and as they are in the HTML page and the JSON files. Install fonts that have them, and write the PDF again."
    ]


def _uncovered(compiler: typst.Compiler, folder: Path, data: dict[str, Any]) -> list[str]:
    """Characters that no font of the machine has: PDF/A forbids them, so that typst names them all when it is asked for PDF/A."""
    characters = sorted({each for each in json.dumps(data, ensure_ascii=False) if each > "\u02ff" and unicodedata.category(each)[0] not in "CMZ"})
    if not characters:
        return []
    (folder / "characters.json").write_text(json.dumps(characters[:_MOST_CHARACTERS]), encoding="utf-8")
    try:
        compiler.compile(_PROBE.encode(), format="pdf", pdf_standards=["a-2b"], timestamp=0)
    except typst.TypstError as error:
        return sorted(set(_UNCOVERED.findall(error.diagnostic)))
    return []


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
