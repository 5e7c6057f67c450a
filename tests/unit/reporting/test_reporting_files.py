import gc
import hashlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from reporting_samples import concerning, explained, failed, hostile, job_report, skipped

from mistudio_explain.events.explanation import FeatureOutcome
from mistudio_explain.reporting.stage import report_directory, write_reports

FILES = {"feature_explanations.json", "explanation_results.json", "explanation_report.html", "explanations.csv", "explanation_report.txt"}


def test_the_same_outcomes_and_report_give_the_same_bytes(tmp_path: Path) -> None:
    outcomes = [explained("1"), skipped("2"), failed("3"), concerning("4"), *hostile()]
    first = write_reports(job_report(), lambda: outcomes, tmp_path / "a")
    second = write_reports(job_report(), lambda: iter(outcomes), tmp_path / "b")
    assert [a.sha256 for a in first] == [b.sha256 for b in second]


def test_the_artefacts_say_where_the_files_are_and_what_is_in_them(tmp_path: Path) -> None:
    artefacts = write_reports(job_report(), lambda: [explained()], tmp_path / "new" / "job 1")
    assert {Path(a.uri).name for a in artefacts} == FILES
    for artefact in artefacts:
        path = tmp_path / "new" / "job 1" / Path(artefact.uri).name
        assert artefact.uri == path.as_uri()
        assert (artefact.sha256, artefact.size) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def test_a_failure_in_the_middle_leaves_the_earlier_files_and_nothing_else(tmp_path: Path) -> None:
    write_reports(job_report(), lambda: [explained()], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    calls = 0

    def broken() -> Iterator[FeatureOutcome]:
        nonlocal calls
        calls += 1
        yield explained("2")
        if calls == 2:
            raise OSError("the store is gone")

    with pytest.raises(OSError, match="the store is gone"):
        write_reports(job_report(), broken, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_other_users_of_the_machine_may_read_the_files_as_far_as_the_umask_allows(tmp_path: Path) -> None:
    earlier = os.umask(0o022)
    try:
        write_reports(job_report(), lambda: [explained()], tmp_path)
    finally:
        os.umask(earlier)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_outcomes_are_streamed_and_never_held_together(tmp_path: Path) -> None:
    alive: weakref.WeakSet[FeatureOutcome] = weakref.WeakSet()
    most = 0

    def stream() -> Iterator[FeatureOutcome]:
        nonlocal most
        for i in range(60):
            outcome = _Watched(**dict(explained(str(i))))
            alive.add(outcome)
            if i % 20 == 0:
                gc.collect()
                most = max(most, len(alive))
            yield outcome

    write_reports(job_report(), stream, tmp_path)
    assert most <= 25


class _Watched(FeatureOutcome):
    __hash__ = object.__hash__


@pytest.mark.parametrize("job", ["explain_20260726_151321_d9675dce", "explain.acme_1", "explain_1"])
def test_a_plain_job_id_is_its_folder_s_name(job: str) -> None:
    assert report_directory(Path("reports"), job) == Path("reports") / job


@pytest.mark.parametrize("job", ["../../etc", "..", ".", "a/b", "/etc", "a b", ".hidden", "a:b"])
def test_no_job_id_leads_out_of_the_reports_folder(job: str) -> None:
    folder = report_directory(Path("reports"), job)
    assert folder.parent == Path("reports")
    assert not folder.name.startswith(".")


def test_two_jobs_whose_ids_differ_only_in_what_a_folder_cannot_hold_get_two_folders() -> None:
    assert len({report_directory(Path("reports"), job) for job in ("a/b", "a:b", "a b", "a-b")}) == 4
