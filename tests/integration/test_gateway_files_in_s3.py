"""A job's files over HTTP, out of a bucket of a real S3-compatible server."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from integration.aggregating import JOB, explained, failed, requested, sealed
from integration.gates import calling, gateway_app
from integration.real_s3 import RealS3
from integration.test_gateway_jobs import problem
from integration.test_reports_in_s3 import reporting, reports, s3
from mistudio_explain.events.codec import encode
from mistudio_explain.reporting.formats import Format
from mistudio_explain.settings import ReportSettings, Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store

__all__ = ["reports", "s3"]  # fixtures

FILES = f"/api/v1/jobs/{JOB}/files"
CSV = f"{FILES}/explanations.csv"


@pytest.fixture
def client(reports: ReportSettings, tmp_path: Path) -> TestClient:
    """A gateway whose store has a job with its report in the bucket."""
    store = StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    events = [requested(), explained(1), explained(2), failed(3), sealed(3)]
    with open_store(store) as rows:
        rows.apply([Change(event, encode(event), "", 1_785_000_000_000) for event in events], {})
    with reporting(store, reports) as (written, report):
        written.with_files(report, [Format.CSV, Format.JSON])
    return calling(gateway_app(Settings(store=store, reports=reports)))


def folder(s3: RealS3, reports: ReportSettings) -> Path:
    return s3.data / str(reports.bucket_url).removeprefix("s3://") / JOB


def test_files_of_a_bucket_are_listed_and_read_as_those_of_a_folder_are(client: TestClient, s3: RealS3, reports: ReportSettings) -> None:
    listed = client.get(FILES).json()["files"]
    assert [file["name"] for file in listed] == ["explanation_results.json", "explanations.csv", "feature_explanations.json"]
    for file in listed:
        answer = client.get(f"{FILES}/{file['name']}")
        assert (answer.status_code, answer.content) == (200, (folder(s3, reports) / file["name"]).read_bytes())
        assert (answer.headers["content-type"], len(answer.content)) == (file["content_type"], file["size"])


@pytest.mark.parametrize(("asked", "span"), [("bytes=0-9", slice(0, 10)), ("bytes=5-", slice(5, None)), ("bytes=-7", slice(-7, None))])
def test_a_range_of_a_file_in_a_bucket_is_sent_alone(client: TestClient, s3: RealS3, reports: ReportSettings, asked: str, span: slice) -> None:
    whole = (folder(s3, reports) / "explanations.csv").read_bytes()
    answer = client.get(CSV, headers={"range": asked})
    assert (answer.status_code, answer.content) == (206, whole[span])
    assert answer.headers["content-range"].endswith(f"/{len(whole)}")
    assert client.get(CSV, headers={"range": f"bytes={len(whole)}-"}).status_code == 416


def test_what_a_caller_has_of_a_bucket_is_sent_again_only_when_it_was_written_anew(client: TestClient, s3: RealS3, reports: ReportSettings) -> None:
    tag = client.get(CSV).headers["etag"]
    assert client.get(CSV, headers={"if-none-match": tag}).status_code == 304
    assert client.get(CSV, headers={"range": "bytes=0-1", "if-range": tag}).status_code == 206
    (folder(s3, reports) / "explanations.csv").unlink()
    (folder(s3, reports) / "explanations.csv").write_bytes(b"another")
    anew = client.get(CSV, headers={"if-none-match": tag})
    assert (anew.status_code, anew.content) == (200, b"another")
    assert client.get(CSV, headers={"range": "bytes=0-1", "if-range": tag}).status_code == 200


@pytest.mark.parametrize("name", ["..%2F.archive%2Findex", "%2e%2e", ".archive", "~", "..%2F..%2Fother", "a%00b", "nothing.csv"])
def test_no_name_leads_out_of_the_jobs_part_of_a_bucket(client: TestClient, s3: RealS3, reports: ReportSettings, name: str) -> None:
    (folder(s3, reports).parent / "secret.csv").write_text("zebrafish")
    answer = client.get(f"{FILES}/{name}")
    assert answer.status_code in (404, 422)
    assert "zebrafish" not in answer.text


def test_a_bucket_that_is_away_is_a_problem_that_names_no_address_and_passes(client: TestClient, s3: RealS3, reports: ReportSettings) -> None:
    s3.stop()
    try:
        for path in (FILES, CSV):
            said = problem(client.get(path), 503, "unreachable")
            assert str(s3.port) not in said
            assert str(reports.bucket_url) not in said
    finally:
        s3.start()
    assert client.get(CSV).status_code == 200
