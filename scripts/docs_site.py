"""What the site has beside docs/: the repository's other documents, and pages made of the commands and settings themselves.

mkdocs calls the functions whose names begin with `on_` (mkdocs.yml, `hooks`). Links in all documents are as the repository's folders
have them; here they become links between the site's pages, and text where they lead to a file that the site does not have.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from typer.core import TyperCommand, TyperGroup

from mistudio_explain.cli.main import app
from mistudio_explain.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples/index.md",
    "examples/features/README.md": "examples/features.md",
    "examples/safety/README.md": "examples/safety.md",
    "tests/data/formats/README.md": "examples/formats.md",
}
IN_REPOSITORY = {site: path for path, site in ELSEWHERE.items()}
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for path, site in ELSEWHERE.items():
        files.append(File.generated(config, site, abs_src_path=str(ROOT / path)))
    files.append(File.generated(config, "commands.md", content="\n".join(commands())))
    files.append(File.generated(config, "settings.md", content="\n".join(settings())))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Turn links between the repository's documents into links between the site's pages."""
    here = page.file.src_uri

    def turned(found: re.Match[str]) -> str:
        meant = document_of(found["target"], here)
        if meant is None:
            return found[0]
        site = site_of(meant)
        if site is None:
            return found["text"]
        text = title(meant) if found["text"].endswith(".md") else found["text"]
        _, mark, anchor = found["target"].partition("#")
        return f"{found['image']}[{text}]({os.path.relpath(site, PurePosixPath(here).parent)}{mark}{anchor})"

    return "".join(part if part.startswith("```") else LINK.sub(turned, part) for part in FENCE.split(markdown))


def document_of(target: str, here: str) -> str | None:
    """The path in the repository that a link of the page `here` means; None for a link to elsewhere or within the page."""
    path = target.partition("#")[0]
    if not path or "://" in path:
        return None
    meant = posixpath.normpath(posixpath.join(posixpath.dirname(IN_REPOSITORY.get(here, f"docs/{here}")), path))
    if meant.startswith("docs/") and (ROOT / meant).is_dir():
        return min(each.relative_to(ROOT).as_posix() for each in (ROOT / meant).glob("*.md"))
    return meant


def site_of(meant: str) -> str | None:
    """Where the site has a document of the repository; None when it does not."""
    return ELSEWHERE.get(meant) or (meant.removeprefix("docs/") if meant.startswith("docs/") else None)


def title(meant: str) -> str:
    """A document's first heading."""
    return (ROOT / meant).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def commands() -> Iterator[str]:
    """A page with every command's help, as the program itself prints it."""
    yield "# Commands"
    yield ""
    yield "What `mistudio-explain COMMAND --help` prints."
    root = typer.main.get_command(app)
    for names, command in leaves(root, ("mistudio-explain",)):
        context = typer.Context(command, info_name=" ".join(names), terminal_width=80, max_content_width=80)
        yield ""
        yield f"## {' '.join(names[1:])}"
        yield ""
        yield "```text"
        yield command.get_help(context)
        yield "```"


def leaves(command: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Every command that does something, with the words that call it."""
    if isinstance(command, TyperGroup):
        for name in sorted(command.commands):
            yield from leaves(command.commands[name], (*names, name))
    else:
        yield names, command


def settings() -> Iterator[str]:
    """A page with every setting, out of the settings model."""
    yield "# Settings"
    yield ""
    yield (
        "What stands in `mistudio-explain.toml` (`--config FILE`), by table. Each can be set by the environment too: "
        f"`{ENV_PREFIX}KAFKA__BOOTSTRAP_SERVERS` is `kafka.bootstrap_servers`. The environment wins over the file's profile "
        "(`[profile.NAME]`, `--profile NAME`), and that over the rest of the file. `mistudio-explain config show` says what is set "
        "and where it comes from. No setting and no option takes a secret: they name the file, or the variable of the environment, that holds it."
    )
    yield from _group(Settings, "")


def _group(model: type[BaseModel], name: str) -> Iterator[str]:
    single = {field: info for field, info in model.model_fields.items() if _model(info.annotation) is None}
    if single:
        yield ""
        yield f"## {name or 'At the top'}"
        if model.__doc__:
            yield ""
            yield " ".join(model.__doc__.split())
        yield ""
        yield "| setting | default | meaning |"
        yield "| --- | --- | --- |"
        for field, info in single.items():
            default = "required" if info.is_required() else _shown(info.get_default(call_default_factory=True))
            yield f"| `{field}` | {default} | {_cell(info.description or '')} |"
    for field, info in model.model_fields.items():
        if (inner := _model(info.annotation)) is not None:
            many = inner is not info.annotation
            path = f"{name}.{field}" if name else field
            yield from _group(inner, f"[{path}]" if many else path)


def _model(annotation: Any) -> type[BaseModel] | None:
    """The group that a field holds, one or several of."""
    for each in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _shown(value: object) -> str:
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(each) for each in value)}]`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")
