from pathlib import Path

import pytest

from mistudio_explain.errors import BadInput
from mistudio_explain.intake.locate import locate


def test_finds_own_file_comes_before_a_folder_of_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "find"
    (folder / "find_a").mkdir(parents=True)
    specified = folder / "find_a" / "feature_analysis.json"
    specified.touch()
    assert locate("find_a", tmp_path) == specified
    own = folder / "find_a_results.json"
    own.touch()
    assert locate("find_a", tmp_path) == own


def test_a_job_that_is_nowhere_is_named_with_every_place_that_was_tried(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        locate("find_a", tmp_path)
    folder = tmp_path / "results" / "find"
    assert f"{folder / 'find_a_results.json'}, {folder / 'find_a' / 'feature_analysis.json'}" in str(caught.value)


@pytest.mark.parametrize("escape", ["../../find_a", "..", "/etc/find_a"])
def test_an_id_cannot_lead_out_of_the_data_folder(tmp_path: Path, escape: str) -> None:
    with pytest.raises(BadInput, match="no find job has such an id"):
        locate(escape, tmp_path)
