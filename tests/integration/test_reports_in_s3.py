"""Reports and the archive index in a bucket of a real S3-compatible server, by the commands that people use."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from integration.aggregating import JOB, explained, failed, requested, sealed
from integration.components import require
from integration.real_s3 import ACCESS_KEY, SECRET_KEY, RealS3, missing_for_s3
from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.errors import Unreachable
from mistudio_explain.events.codec import encode
from mistudio_explain.events.job import ControlPart, JobEvent, JobReport
from mistudio_explain.reporting import pdf
from mistudio_explain.reporting.archive import differences, entries
from mistudio_explain.reporting.formats import Format
from mistudio_explain.reporting.shelf import Bucket, shelf_of
from mistudio_explain.settings import ReportSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store, reading

PROGRAM = Path(sys.executable).with_name("mistudio-explain")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealS3]:
    reason = missing_for_s3()
    if reason is not None:
        require("an S3 server", reason)
    with RealS3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> StoreSettings:
    """A store with a job of three features."""
    settings = StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    events = [requested(source_training_job="train_1"), explained(1), explained(2), failed(3), sealed(3)]
    with open_store(settings) as rows:
        rows.apply([Change(event, encode(event), "", 1_785_000_000_000) for event in events], {})
    return settings


@pytest.fixture
def reports(s3: RealS3, tmp_path: Path) -> ReportSettings:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET_KEY}\n")
    bucket = s3.new_bucket(f"bucket-{sha256(str(tmp_path).encode()).hexdigest()[:8]}")
    return ReportSettings(directory=f"{bucket}/some/reports", s3_endpoint=s3.endpoint, s3_access_key_id=ACCESS_KEY, s3_secret_key_file=secret)


def command(*arguments: str, store: StoreSettings, reports: ReportSettings, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command with keys of the environment."""
    given = {
        "MISTUDIO_EXPLAIN_STORE__URL": store.url,
        "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(reports.bucket_url),
        "AWS_ENDPOINT_URL": str(reports.s3_endpoint),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        **environment,
    }
    return subprocess.run([str(PROGRAM), *arguments], env=os.environ | given, capture_output=True, text=True, check=False)


@contextmanager
def reporting(store: StoreSettings, reports: ReportSettings) -> Iterator[tuple[JobReports, JobReport]]:
    """An aggregator's reports, and the job's."""
    with reading(store) as rows, closing(JobReports(lambda: rows, Settings(store=store, reports=reports))) as written:
        report = written.numbers(JOB, now_ms=1_785_000_000_000)
        assert report is not None
        yield written, report


def test_all_formats_go_into_a_bucket_byte_by_byte_as_into_a_folder(s3: RealS3, store: StoreSettings, reports: ReportSettings, tmp_path: Path) -> None:
    there = command("report", JOB, "--format", "all", "--json", store=store, reports=reports)
    assert there.returncode == 0, there.stderr
    artefacts = json.loads(there.stdout)["artefacts"]
    here = command("report", JOB, "--format", "all", "--out", str(tmp_path / "here"), store=store, reports=reports)
    assert here.returncode == 0, here.stderr
    prefix = f"{reports.bucket_url}/{JOB}/"
    assert {artefact["uri"].removeprefix(prefix) for artefact in artefacts} == {path.name for path in (tmp_path / "here" / JOB).iterdir()}
    folder = s3.data / str(reports.bucket_url).removeprefix("s3://") / JOB
    for artefact in artefacts:
        name = artefact["uri"].removeprefix(prefix)
        assert (folder / name).read_bytes() == (tmp_path / "here" / JOB / name).read_bytes()
        assert sha256((folder / name).read_bytes()).hexdigest() == artefact["sha256"]


def test_the_archive_tells_of_what_was_written_and_notices_what_was_changed_or_lost(s3: RealS3, store: StoreSettings, reports: ReportSettings) -> None:
    assert command("report", JOB, store=store, reports=reports).returncode == 0
    assert command("report", JOB, store=store, reports=reports).returncode == 0
    (entry,) = entries(shelf_of(reports))
    assert (entry.explain_job_id, entry.lineage.find_job_id, entry.lineage.source_training_job) == (JOB, "find_1", "train_1")
    assert entry.keep_until_ms == 1_785_000_000_000 + 180 * 24 * 3_600_000
    sound = command("archive", JOB, "--verify", store=store, reports=reports)
    assert (sound.returncode, "every file is as it was written" in sound.stdout) == (0, True)
    folder = s3.data / str(reports.bucket_url).removeprefix("s3://") / JOB
    (folder / "explanations.csv").write_bytes(b"changed")
    (folder / "explanation_report.txt").unlink()
    changed = command("archive", "--verify", "--json", store=store, reports=reports)
    assert changed.returncode == 1
    assert {(each["name"], each["what"]) for each in json.loads(changed.stdout)["differences"]} == {
        ("explanations.csv", "is not what was written"),
        ("explanation_report.txt", "is gone"),
    }


def test_a_deleted_job_leaves_nothing_in_the_bucket_but_its_entries(s3: RealS3, store: StoreSettings, reports: ReportSettings) -> None:
    with reporting(store, reports) as (written, report):
        written.with_files(report)
        written.remove_files(JobEvent(explain_job_id=JOB, at_ms=1_785_000_000_001, control=ControlPart(action="delete", who="ada")))
    root = s3.data / str(reports.bucket_url).removeprefix("s3://")
    assert {path.relative_to(root).parts[0] for path in root.rglob("*") if path.is_file()} == {".archive"}
    found = entries(shelf_of(reports), JOB)
    assert [entry.kind for entry in found] == ["written", "removed"]
    assert differences(shelf_of(reports), found) == []


def test_volumes_of_an_earlier_report_go_away_in_the_bucket_too(
    s3: RealS3, store: StoreSettings, reports: ReportSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = s3.data / str(reports.bucket_url).removeprefix("s3://") / JOB
    for volume, files in ((1, 3), (500, 1)):
        monkeypatch.setattr(pdf, "FEATURES_A_VOLUME", volume)
        with reporting(store, reports) as (written, report):
            written.with_files(report, [Format.PDF])
        assert len(list(folder.iterdir())) == files
    assert differences(shelf_of(reports), entries(shelf_of(reports))) == []


def test_a_refused_key_ends_the_command_with_3_and_names_no_secret(store: StoreSettings, reports: ReportSettings) -> None:
    refused = command("report", JOB, store=store, reports=reports, AWS_SECRET_ACCESS_KEY="wrong-secret-of-mine")
    assert refused.returncode == 3
    assert str(reports.bucket_url) in refused.stderr
    assert "wrong-secret-of-mine" not in refused.stderr + refused.stdout


def test_a_server_that_is_away_ends_the_command_with_3(store: StoreSettings, reports: ReportSettings) -> None:
    away = command("report", JOB, store=store, reports=reports, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert away.returncode == 3
    assert "reports.s3_endpoint" in away.stderr


def test_a_server_that_goes_away_is_an_outage_and_no_loss(s3: RealS3, store: StoreSettings, reports: ReportSettings) -> None:
    with reporting(store, reports) as (written, report):
        s3.stop()
        try:
            with pytest.raises(Unreachable):
                written.with_files(report)
        finally:
            s3.start()
        assert len(written.with_files(report).artefacts) == 5


def test_files_of_a_bucket_are_listed_and_read_in_parts(s3: RealS3, store: StoreSettings, reports: ReportSettings) -> None:
    with reporting(store, reports) as (written, report):
        written.with_files(report, [Format.CSV, Format.JSON])
    shelf = shelf_of(reports)
    assert isinstance(shelf, Bucket)
    assert [file.name for file in shelf.files(JOB)] == ["explanation_results.json", "explanations.csv", "feature_explanations.json"]
    whole = (s3.data / str(reports.bucket_url).removeprefix("s3://") / JOB / "explanations.csv").read_bytes()
    assert b"".join(shelf.pieces(JOB, "explanations.csv", 3, 20)) == whole[3:21]
    assert b"".join(shelf.pieces(JOB, "explanations.csv", 0, len(whole) - 1)) == whole
    assert shelf.files("explain") == []
