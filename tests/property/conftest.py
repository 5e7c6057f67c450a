"""Stores of both kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.real_postgres import RealPostgres
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.jobs import JobStore, open_store


@pytest.fixture(params=["sqlite", "postgresql"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "sqlite":
        return StoreSettings(url=f"sqlite:///{tmp_path}/explain.db")
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.new_store()


@pytest.fixture
def store(at: StoreSettings) -> Iterator[JobStore]:
    with open_store(at) as opened:
        yield opened
