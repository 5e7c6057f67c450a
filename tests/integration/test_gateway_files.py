"""A job's files over HTTP: whole, in parts, and none but them."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.live_gateway import LiveGateway, live_gateway
from integration.test_gateway_jobs import a_job, problem

JOB = "explain_files"
FILES = f"/api/v1/jobs/{JOB}/files"
RESULTS = "explanation_results.json"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveGateway]:
    with live_gateway(tmp_path_factory.mktemp("gateway")) as made:
        a_job(made, JOB)
        made.until(lambda: any(file["sha256"] for file in made.get(f"/jobs/{JOB}/files")["files"]))
        yield made


def folder(gateway: LiveGateway) -> Path:
    return gateway.settings.reports.directory / JOB


def test_a_jobs_files_are_listed_with_type_size_and_hash_and_read_as_they_are(gateway: LiveGateway) -> None:
    listed = gateway.get(f"/jobs/{JOB}/files")["files"]
    assert {file["name"] for file in listed} == {path.name for path in folder(gateway).iterdir() if not path.name.startswith(".")}
    for file in listed:
        answer = gateway.client.get(f"{FILES}/{file['name']}")
        assert answer.content == (folder(gateway) / file["name"]).read_bytes()
        assert (answer.headers["content-type"], len(answer.content)) == (file["content_type"], file["size"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox") == file["name"].endswith(".html")


@pytest.mark.parametrize(("asked", "span"), [("bytes=0-9", (0, 10)), ("bytes=5-", (5, None)), ("bytes=-7", (-7, None)), ("bytes=3-999999999", (3, None))])
def test_a_range_of_a_file_is_sent_alone(gateway: LiveGateway, asked: str, span: tuple[int, int | None]) -> None:
    whole = (folder(gateway) / RESULTS).read_bytes()
    answer = gateway.client.get(f"{FILES}/{RESULTS}", headers={"range": asked, "accept-encoding": "gzip"})
    assert (answer.status_code, answer.content) == (206, whole[slice(*span)])
    first = span[0] % len(whole)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=9-3", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "bytes=a-b", "bytes=0-", ""])
def test_a_range_that_cannot_be_understood_or_is_everything_is_answered_with_the_whole_file(gateway: LiveGateway, asked: str) -> None:
    answer = gateway.client.get(f"{FILES}/{RESULTS}", headers={"range": asked})
    assert (answer.status_code, answer.content) == (200, (folder(gateway) / RESULTS).read_bytes())


def test_a_range_beyond_the_end_is_refused(gateway: LiveGateway) -> None:
    size = (folder(gateway) / RESULTS).stat().st_size
    answer = gateway.client.get(f"{FILES}/{RESULTS}", headers={"range": f"bytes={size}-"})
    problem(answer, 416, "no-such-range")
    assert answer.headers["content-range"] == f"bytes */{size}"


def test_a_part_is_added_only_to_the_file_that_it_is_a_part_of(gateway: LiveGateway) -> None:
    tag = gateway.client.get(f"{FILES}/{RESULTS}").headers["etag"]
    assert gateway.client.get(f"{FILES}/{RESULTS}", headers={"if-none-match": tag}).status_code == 304
    assert gateway.client.get(f"{FILES}/{RESULTS}", headers={"range": "bytes=0-1", "if-range": tag}).status_code == 206
    assert gateway.client.get(f"{FILES}/{RESULTS}", headers={"range": "bytes=0-1", "if-range": '"another"'}).status_code == 200


def test_whatever_is_said_of_tags_and_ranges_a_file_is_answered_or_refused(gateway: LiveGateway) -> None:
    """A tag that is not the file's never hides a change, and no range gives bytes that the file does not have."""
    whole = (folder(gateway) / RESULTS).read_bytes()
    tag = gateway.client.get(f"{FILES}/{RESULTS}").headers["etag"]
    for kept, status in (
        (tag, 304), (f"W/{tag}", 304), (f'"a", {tag}', 304), ("*", 304), (tag.strip('"'), 200), (f"{tag[:-2]}\"", 200), ('""', 200),
        (tag.upper(), 200), (",,,", 200), ('"' + "a" * 7000 + '"', 200), (", ".join(['"a"'] * 1500), 200), ('W/W/"a"', 200), ("\udcff\udcfe", 200),
    ):  # fmt: skip
        answer = gateway.client.get(f"{FILES}/{RESULTS}", headers={b"if-none-match": kept.encode(errors="surrogateescape")})
        assert (answer.status_code, answer.content) == (status, b"" if status == 304 else whole), kept
    chosen = random.Random(8350)
    numbers = ("", "0", "5", str(len(whole) - 1), str(len(whole)), "9" * 19, "9" * 20, "-1", "+1", "1.5", " 1", "a", "\u0661")
    for _ in range(150):
        asked = f"{chosen.choice(('bytes', 'bytes', 'bytes', 'Bytes', 'items', ''))}={chosen.choice(numbers)}-{chosen.choice(numbers)}"
        answer = gateway.client.get(f"{FILES}/{RESULTS}", headers={b"range": asked.encode()})
        if answer.status_code == 206:
            first, last = map(int, answer.headers["content-range"].removeprefix("bytes ").partition("/")[0].split("-"))
            assert answer.content == whole[first : last + 1] != b"", asked
        else:
            assert answer.status_code in (200, 416), asked
            assert answer.status_code == 416 or answer.content == whole, asked


ESCAPES = (
    "..%2F..%2Fexplain.db", "..%5Cexplain.db", "%2e%2e", ".hidden", "~", "explain.db", "a%00b", "..%252Fexplain.db", "%2Fetc%2Fpasswd", "link.json",
)  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_leads_out_of_the_jobs_folder(gateway: LiveGateway, name: str) -> None:
    secret = gateway.settings.reports.directory.parent / "secret.txt"
    secret.write_text("secret")
    (folder(gateway) / ".hidden").write_text("secret")
    (link := folder(gateway) / "link.json").unlink(missing_ok=True)
    link.symlink_to(secret)
    answer = gateway.client.get(f"{FILES}/{name}")
    assert answer.status_code in (404, 422)
    assert "secret" not in answer.text
    assert "link.json" not in {file["name"] for file in gateway.get(f"/jobs/{JOB}/files")["files"]}
