"""What the documents name is there: links, commands and their options, settings, files, tests, metrics."""

import re
import tomllib
from collections.abc import Iterator

import pytest
import yaml
from pydantic import BaseModel

from mistudio_explain.settings import Settings
from shipping.documents import ROOT, Document, documents, invocations, plain
from unit.cli.commands import UsageError, every_command, parse

ALL = documents()
OF_OTHERS = "tests/data/formats/README.md"  # which names files of other projects' repositories
COMMANDS = dict(every_command())
PACKAGE = ROOT / "services" / "mistudio_explain"
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
SOURCES = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
CHART = yaml.safe_load((ROOT / "charts" / "mistudio-explain" / "values.yaml").read_text())
WRITTEN_ELSEWHERE = ("out/", "reports/", "state/", "results/")
FILE_ENDINGS = ("py", "toml", "md", "json", "db", "store")

each_document = pytest.mark.parametrize("document", ALL, ids=lambda document: document.name)


def code(document: Document) -> Iterator[str]:
    """Every line of code, in a block or in a sentence."""
    yield from document.inline
    for _, block in document.fences:
        yield from block.splitlines()


@each_document
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(document: Document) -> None:
    by_path = {each.path: each for each in ALL}
    broken = []
    for link in document.links:
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = (document.path.parent / target).resolve() if target else document.path
        if not path.exists() or (anchor and path in by_path and anchor not in by_path[path].anchors):
            broken.append(link)
    assert broken == []


@each_document
def test_every_invocation_in_a_block_parses(document: Document) -> None:
    refused = []
    for language, block in document.fences:
        if language in ("", "sh", "bash", "text"):
            for line in invocations(block):
                try:
                    parse(line)
                except (UsageError, ValueError) as error:
                    refused.append(f"{line}: {error}")
    assert refused == []


def wrong_in(piece: str) -> str | None:
    """What of a command that a sentence names does not exist; None when all does, or when it names none."""
    words = plain(piece.removeprefix("mistudio-explain ")).split()
    names = [name for name in COMMANDS if words[: len(name.split())] == name.split()]
    if not names:
        return f"{words[0]} is no command" if piece.startswith("mistudio-explain ") and words[0].isalpha() and words[0].islower() else None
    name = max(names, key=len)
    command = COMMANDS[name]
    rest = words[len(name.split()) :]
    has_options = any(word.startswith("--") for word in rest)
    if hasattr(command, "commands") and rest and re.fullmatch(r"[a-z]+", rest[0]) and "..." not in piece:
        return f"{name} has no {rest[0]}"
    if piece.startswith("mistudio-explain ") or has_options:
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
        for word in rest:
            if re.fullmatch(r"--[a-z-]+", word) and word not in known:
                return f"{name} has no {word}"
    return None


@each_document
def test_every_command_and_option_that_a_sentence_names_exists(document: Document) -> None:
    assert [f"{piece}: {wrong}" for piece in document.inline if (wrong := wrong_in(piece))] == []


@pytest.mark.parametrize("piece", ["mistudio-explain runn x", "report JOB --formats pdf", "dlq lst", "mistudio-explain lag --wacth"])
def test_a_command_that_does_not_exist_would_be_noticed(piece: str) -> None:
    assert wrong_in(piece)


@each_document
def test_every_target_module_and_benchmark_that_is_to_be_run_exists(document: Document) -> None:
    sources = (ROOT / "benchmarks" / "__main__.py").read_text()
    wrong = []
    for line in code(document):
        wrong += [f"make {target}" for target in re.findall(r"(?:^|[;&(] ?)make ([a-z][a-z-]*)", line) if target not in TARGETS]
        for module, names in re.findall(r"python -m (benchmarks|mistudio_explain|shipping)\b([\w. ]*)", line):
            dotted = re.match(r"\.[\w.]+", names)
            if dotted and not any(
                (root / (module + dotted[0]).replace(".", "/")).with_suffix(".py").exists() for root in (ROOT, PACKAGE.parent, ROOT / "tests")
            ):
                wrong.append(f"python -m {module}{dotted[0]}")
            if module == "benchmarks" and not dotted:
                wrong += [f"python -m benchmarks {name}" for name in names.split() if name != "NAME" and f'"{name}"' not in sources]
    assert wrong == []


@each_document
def test_every_file_of_the_repository_that_a_sentence_names_is_there(document: Document) -> None:
    wrong = []
    for piece in document.inline if document.name != OF_OTHERS else ():
        if not re.fullmatch(r"[\w@.-]+(/[\w@.*-]+)+/?", piece) or piece.startswith(WRITTEN_ELSEWHERE):
            continue
        first = piece.split("/")[0]
        roots = [root for root in (ROOT, ROOT / "tests", PACKAGE, document.path.parent) if (root / first).is_dir()]
        if roots and not any(any(root.glob(piece.rstrip("/"))) for root in roots):
            wrong.append(piece)
    assert wrong == []


@each_document
def test_every_test_that_is_named_as_a_proof_exists(document: Document) -> None:
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    wrong, last = [], ""
    for name, test in re.findall(r"`(?:[\w/]*/)?(test_\w+\.py|\u2026)(?:::(\w+))?`", document.prose):
        last = name if name != "\u2026" else last
        if last not in files or (test and f"def {test}(" not in files[last].read_text()):
            wrong.append(f"{last}::{test}")
    assert wrong == []


@each_document
def test_every_setting_that_a_sentence_names_exists(document: Document) -> None:
    groups = {name: type(info.default) for name, info in Settings.model_fields.items() if isinstance(info.default, BaseModel)}
    wrong = []
    for piece in document.inline if document.name != "CHANGELOG.md" else ():  # which names what is gone, too
        named = re.match(r"([a-z_]+)\.([a-z_]+)(?= |=|$)", piece)
        if named is None or named[1] not in groups or named[2] in FILE_ENDINGS:
            continue
        is_logged, is_in_chart = f'"{named[0]}"' in SOURCES, named[2] in (CHART.get(named[1]) or {})
        if named[2] not in groups[named[1]].model_fields and not is_logged and not is_in_chart:
            wrong.append(named[0])
    assert wrong == []


@each_document
def test_every_metric_and_schema_of_a_database_that_a_sentence_names_exists(document: Document) -> None:
    named = {re.split(r"[{< ]", piece)[0].rstrip("_") for piece in document.inline if piece.startswith("mistudio_explain_")}
    assert {name for name in named if name.removesuffix("_total") not in SOURCES and name.removeprefix("mistudio_explain_") not in SOURCES} == set()


@each_document
def test_every_table_of_settings_is_good(document: Document) -> None:
    for language, block in document.fences:
        if language == "toml":
            found = tomllib.loads(block)
            Settings.model_validate({name: table for name, table in found.items() if name in Settings.model_fields})
