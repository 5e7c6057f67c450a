"""The archive index in a folder."""

from pathlib import Path

from reporting_samples import explained, job_report

from mistudio_explain.events.job import JobEvent, JobPart, ReplayPart, RequestPart
from mistudio_explain.reporting.archive import ARCHIVE, add, differences, entries, written
from mistudio_explain.reporting.shelf import Folder
from mistudio_explain.reporting.stage import report_directory, write_reports


def test_the_same_files_are_one_entry_and_others_another_and_none_is_ever_changed(tmp_path: Path) -> None:
    shelf = Folder(tmp_path)
    for quality in (0.9, 0.9, 0.8, 0.8, 0.9):
        artefacts = shelf.write("explain_1", lambda folder, q=quality: write_reports(job_report(), lambda: [explained(quality_score=q)], folder))  # type: ignore[misc]
        before = {path: path.read_bytes() for path in (tmp_path / ARCHIVE).rglob("*.json")}
        add(shelf, written(job_report(artefacts=artefacts), {}, 180.0))
        assert {path: path.read_bytes() for path in before} == before
    first, second, third = entries(shelf, "explain_1")
    assert [each.uri.rpartition("/")[2] for each in first.artefacts] == [each.uri.rpartition("/")[2] for each in second.artefacts]
    assert first.artefacts == third.artefacts != second.artefacts
    assert differences(shelf, [first, second, third]) == []
    assert [each.name for each in differences(shelf, [first, second])]
    (table,) = (file for file in shelf.files("explain_1") if file.name == "explanations.csv")
    assert shelf.hash("explain_1", table) == third.artefacts[3].sha256


def test_an_entry_names_the_job_s_lineage(tmp_path: Path) -> None:
    request = JobEvent(explain_job_id="explain_1", at_ms=1, request=RequestPart(find_job_id="find_1", source_training_job="train_1"))
    replay = JobEvent(explain_job_id="explain_1", at_ms=1, replay=ReplayPart(from_job="find_1", of="explain_0"))
    entry = written(job_report(as_of={"0": 7}), {JobPart.REQUEST: request, JobPart.REPLAY: replay}, 1.0)
    assert entry.lineage.model_dump() == {
        "find_job_id": "find_1", "source_training_job": "train_1", "target_model": "gpt2", "replay_of": "explain_0", "as_of": {"0": 7},
    }  # fmt: skip
    assert entry.keep_until_ms == job_report().at_ms + 24 * 3_600_000


def test_no_job_s_folder_is_the_archive_s() -> None:
    assert all(report_directory(Path(), job).name != ARCHIVE for job in (".archive", "archive", "/.archive", "..archive"))


def test_entries_hold_no_text_of_a_feature(tmp_path: Path) -> None:
    shelf = Folder(tmp_path)
    artefacts = shelf.write("explain_1", lambda folder: write_reports(job_report(), lambda: [explained()], folder))
    add(shelf, written(job_report(artefacts=artefacts), {}, 180.0))
    (path,) = (tmp_path / ARCHIVE).rglob("*.json")
    assert "JSON schema" not in path.read_text()
