"""What a job's numbers are read from, and that it is closed again."""

from contextlib import closing
from pathlib import Path

import psutil

from integration.aggregating import JOB, explained, requested, sealed
from mistudio_explain.aggregation.reports import JobReports
from mistudio_explain.events.codec import encode
from mistudio_explain.settings import Settings, StoreSettings
from mistudio_explain.store.jobs import Change, open_store, reading
from mistudio_explain.store.ledger import Caps, Ledger


async def test_whoever_closes_the_reports_leaves_no_ledger_open(tmp_path: Path) -> None:
    store = StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    with open_store(store) as rows:
        rows.apply([Change(event, encode(event), "", 1) for event in (requested(), explained(1), sealed(1))], {})
    with closing(Ledger(store)) as ledger:
        await ledger.reserve(JOB, "1", revision=1, call_micro=1, calls=1, caps=Caps(1, 10))

    def is_open() -> bool:
        return any(each.path.startswith(f"{tmp_path}/explain-ledger.db") for each in psutil.Process().open_files())

    assert not is_open()
    with reading(store) as rows, closing(JobReports(lambda: rows, Settings(store=store))) as reports:
        assert reports.numbers(JOB, now_ms=2) is not None
        assert is_open()
    assert not is_open()
