"""What the measuring of time and memory says of itself."""

from pathlib import Path

import pytest

from mistudio_explain.evaluation import latency


def test_memory_is_that_of_the_process_where_the_system_tells_and_not_of_the_one_that_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\n")
    monkeypatch.setattr(latency, "_STATUS", status)
    assert latency._memory_mb() == 2.0


def test_memory_is_told_where_the_system_keeps_no_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_STATUS", tmp_path / "none")
    assert latency._memory_mb() > 1
