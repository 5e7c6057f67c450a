"""Hostile texts, ids and addresses against everything that goes out: files, answers, logs and terminals."""

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path

import pypdfium2
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from integration.aggregating import requested
from integration.gates import gateway_app, gateway_settings, stored
from mistudio_explain.cli.main import app
from mistudio_explain.events.explanation import FeatureReviewed
from mistudio_explain.events.job import ControlPart, JobEvent, SealedPart
from mistudio_explain.gateway import sse
from mistudio_explain.reporting.delphi import write_delphi
from mistudio_explain.reporting.formats import Format
from mistudio_explain.reporting.neuronpedia import Target, write_neuronpedia
from mistudio_explain.reporting.stage import report_directory, write_reports
from unit.reporting.reporting_samples import HOSTILE, explained, hostile, job_report, skipped

FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, or hides what a text says."""
ACTIVE_PDF = (b"/JavaScript", b"/JS", b"/Launch", b"/OpenAction", b"/AA", b"/SubmitForm", b"/EmbeddedFile", b"/RichMedia", b"evil.example")


class Elements(HTMLParser):
    """The elements of a page with the names of their attributes, and the addresses in it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.kinds: Counter[tuple[str, ...]] = Counter()
        self.addresses: set[str] = set()
        self.feed(page)

    @property
    def scripts(self) -> int:
        """How many script elements there are."""
        return sum(count for (tag, *_), count in self.kinds.items() if tag == "script")

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.kinds[tag, *sorted(name for name, _ in attributes)] += 1
        self.addresses |= {value for name, value in attributes if value and name in {"href", "src", "action", "formaction", "srcset", "data", "style"}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """Every file that is made of a job whose every text is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    made = sorted(hostile(), key=lambda outcome: outcome.subject.feature_key)
    report = job_report(target_model=HOSTILE[0], find_job_id="find_1", notes=list(HOSTILE))
    write_reports(report, lambda: iter(made), folder, tuple(Format))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory: pytest.TempPathFactory) -> Elements:
    """The page of a job whose texts are not."""
    folder = tmp_path_factory.mktemp("plain")
    write_reports(job_report(), lambda: iter([explained(), skipped()]), folder, (Format.HTML,))
    return Elements(next(folder.iterdir()).read_text())


def check_html(content: bytes) -> None:
    page = Elements(content.decode())
    tags = {tag for tag, *_ in page.kinds}
    assert not tags & {"img", "iframe", "object", "embed", "base", "link", "applet"}
    assert not [kind for kind in page.kinds if any(attribute.startswith("on") for attribute in kind[1:])]
    assert not [address for address in page.addresses if not address.startswith(("#", "data:image/")) and ":" in address]
    for executable in re.findall(rb"<script(?![^>]*application/json)[^>]*>(.*?)</script>", content, re.DOTALL):
        assert b"alert(" not in executable
        assert b"evil.example" not in executable


def check_csv(content: bytes) -> None:
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert len(rows) == 1 + 2 * len(HOSTILE)
    for row in rows:
        assert len(row) == len(rows[0])
        for cell in row:
            assert not re.match(r"\s*[=+@\uff1d\uff0b\uff20]|\s*[-\uff0d](?!\d+(\.\d+)?$)|[\t\r\n]", cell), cell[:80]
            assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", cell)


def check_json(content: bytes) -> None:
    said = json.dumps(json.loads(content), ensure_ascii=False)
    assert json.dumps(HOSTILE[0], ensure_ascii=False)[1:-1] in said


def check_lines(content: bytes) -> None:
    lines = content.split(b"\n")
    assert len(lines) == 2 * len(HOSTILE) + 1
    assert lines[-1] == b""
    assert all(isinstance(json.loads(line), dict) for line in lines[:-1])


def check_text(content: bytes) -> None:
    assert FORBIDDEN.search(content.decode()) is None
    assert "\r" not in content.decode()


def check_parquet(content: bytes) -> None:
    table = parquet.read_table(io.BytesIO(content))
    assert table.num_rows == 2 * len(HOSTILE)
    assert HOSTILE[5] in "".join(map(str, table.to_pylist()))


def check_pdf(content: bytes) -> None:
    document = pypdfium2.PdfDocument(content)
    assert not [mark for mark in ACTIVE_PDF if mark in content]
    said = "".join(page.get_textpage().get_text_range() for page in document)
    assert "alert(1)" in said.replace("\u200b", "").replace("\r\n", "")  # as words, not as anything else
    assert "{{" in said


CHECKS: Mapping[str, Callable[[bytes], None]] = {
    ".html": check_html, ".csv": check_csv, ".json": check_json, ".jsonl": check_lines, ".txt": check_text, ".parquet": check_parquet, ".pdf": check_pdf,
}  # fmt: skip


def opened(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for name, content in files.items():
        yield (name.removesuffix(".gz"), gzip.decompress(content)) if name.endswith(".gz") else (name, content)


def test_hostile_texts_stay_texts_in_every_file_that_is_made_of_a_job(files: Mapping[str, bytes]) -> None:
    for name, content in opened(files):
        check = CHECKS.get(Path(name).suffix)
        assert check is not None, f"{name}: nobody checks what hostile texts do in this format; add it to CHECKS"
        check(content)


def test_hostile_texts_add_no_script_to_a_page(files: Mapping[str, bytes], plain_page: Elements) -> None:
    page = Elements(next(content for name, content in files.items() if name.endswith(".html")).decode())
    assert page.scripts == plain_page.scripts


def test_every_format_is_among_the_files(files: Mapping[str, bytes]) -> None:
    assert {Path(name).suffix for name, _ in opened(files)} == set(CHECKS)
    assert len(Format) == len(CHECKS)


@pytest.mark.parametrize("job", ["..", ".", "../../etc/cron.d/x", "/etc/passwd", "a/../../b", ".hidden", "a b", "explain_1/..", "....//", "C:/x", "@", "~"])
def test_no_job_id_leads_out_of_the_reports_folder_or_to_another_jobs(job: str, tmp_path: Path) -> None:
    folder = report_directory(tmp_path / "reports", job)
    assert folder.resolve().parent == (tmp_path / "reports").resolve()
    assert folder != report_directory(tmp_path / "reports", job + "x")
    assert not folder.name.startswith(".")


COMMANDS = (
    ("job", "list"), ("job", "show", "explain_1"), ("reviews", "explain_1"), ("compare", "explain_1", "explain_2"), ("keys", "list"), ("audit",),
)  # fmt: skip
"""What shows texts that others wrote on a terminal; `dlq` has a test of its own (tests/unit/cli/test_letter_text.py), `explain` too."""


@pytest.fixture
def hostile_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in which every text is hostile."""
    settings = gateway_settings(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISTUDIO_EXPLAIN_STORE__URL", settings.store.url)
    for job in ("explain_1", "explain_2"):
        outcomes = [each.model_copy(update={"subject": each.subject.model_copy(update={"explain_job_id": job})}) for each in hostile()]
        why = "".join(HOSTILE)[-900:]
        asked = requested(job, filters=list(HOSTILE)).model_copy(update={"tenant": "default"})
        control = JobEvent(explain_job_id=job, at_ms=5, control=ControlPart(action="cancel", who=HOSTILE[11], why=why))
        seal = JobEvent(explain_job_id=job, at_ms=6, sealed=SealedPart(expected=len(outcomes), notes=list(HOSTILE)))
        said = [
            FeatureReviewed(explain_job_id=job, feature_key=str(1000 + i), verdict="wrong", corrected=text[:400], who=f"{text[:80]} x", why=text[:400], at_ms=7)
            for i, text in enumerate(HOSTILE)
        ]
        stored(settings, [asked, seal, control, *outcomes, *said])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.usefixtures("hostile_store")
def test_hostile_texts_move_no_cursor_of_a_terminal(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, list(command))
    assert result.exit_code == 0, (result.output, result.exception)
    assert not (found := FORBIDDEN.search(result.output)), result.output[max(0, found.start() - 200) :][:300]
    if command[0] in ("job", "reviews") and command[1] != "list":
        assert "alert(1)" in result.output


@pytest.mark.parametrize("command", COMMANDS[:3], ids=" ".join)
@pytest.mark.usefixtures("hostile_store")
def test_hostile_texts_end_no_line_of_json(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    lines = result.stdout.split("\n")
    assert all(isinstance(json.loads(line), dict) for line in lines[:-1])
    assert not re.search(r"[\x00-\x1f]", "".join(lines))


ELSEWHERE = ("..", "../../x", "/etc/passwd", ".", "a/../../b", "C:/x", "@", "..:..")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_name_in_a_job_leads_out_of_the_folder_that_it_is_exported_to(name: str, tmp_path: Path) -> None:
    """Ids and names are hostile too: these are all that the rules for ids let through."""
    out = tmp_path / "a" / "b" / "out"
    outcomes = [
        explained("5", subject_changes={"source_id": name, "target_model": name, "find_job_id": name, "explain_job_id": name, "feature_key": f"{name}/5"}),
        explained(name, subject_changes={"source_id": None, "feature_key": name}),
    ]
    write_delphi(out / "delphi", outcomes)
    write_neuronpedia(out / "neuronpedia", outcomes, 1, Target())
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert made
    assert all(path.is_relative_to(out) for path in made)
    assert len(list((out / "neuronpedia").iterdir())) == 2, "the model's folder, and the one with names"


def test_no_request_names_an_address_that_the_gateway_would_call(tmp_path: Path) -> None:
    """What it calls stands in the settings: endpoints of models (whose redirects nobody follows) and webhooks (tests/unit/gateway/test_outbound.py)."""
    description = gateway_app(gateway_settings(tmp_path)).openapi()
    asked = {each["name"] for methods in description["paths"].values() for said in methods.values() for each in said.get("parameters", ())}
    bodies = {
        ref for methods in description["paths"].values() for said in methods.values() for ref in re.findall(r"schemas/(\w+)", str(said.get("requestBody", "")))
    }
    assert bodies
    fields = {name for body in bodies for name in description["components"]["schemas"][body].get("properties", {})}
    assert not [name for name in asked | fields if re.search(r"ur[il]|host|address|callback|webhook|endpoint|proxy", name, re.IGNORECASE)]


def test_hostile_texts_end_no_event_of_a_stream() -> None:
    for text in HOSTILE:
        said = sse.event("outcome", {text: text}, 7)
        assert said.endswith(b"\n\n")
        assert said.count(b"\n") == 4
        assert b"\r" not in said
        assert json.loads(said.split(b"data: ", 1)[1]) == {text: text}
