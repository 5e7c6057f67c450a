"""Browsers' sessions: what a cookie opens, for how long, and what is kept of it."""

import os
import stat
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from integration.gates import calling, gateway_app, gateway_settings, new_key
from mistudio_explain.errors import Unreachable
from mistudio_explain.gateway import keyring
from mistudio_explain.settings import Settings
from mistudio_explain.store.keys import StoredKeys, parsed

COOKIE = "mistudio_explain_session"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return gateway_settings(tmp_path)


def browser_of(app: FastAPI, key: str) -> TestClient:
    """A browser that showed its key."""
    browser = calling(app)
    assert browser.post("/api/v1/session", json={"key": key}).status_code == 200
    return browser


def copied(browser: TestClient) -> dict[str, str]:
    """The browser's cookie, as somebody else would send it."""
    return {"cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}


def status(app: FastAPI, headers: dict[str, str]) -> int:
    return calling(app).get("/api/v1/jobs", headers=headers).status_code


def test_a_browser_gets_a_cookie_that_scripts_and_other_sites_do_not_see_and_that_has_nothing_of_its_key(settings: Settings) -> None:
    app, key = gateway_app(settings), new_key(settings, "write")
    browser = calling(app)
    opened = browser.post("/api/v1/session", json={"key": key})
    assert opened.json()["scopes"] == ["read", "write"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(opened.headers["set-cookie"].split("; "))
    assert not any(part in opened.headers["set-cookie"] for part in parsed(key) or ())
    assert browser.get("/api/v1/jobs").status_code == 200
    assert browser.post("/api/v1/session", json={"key": key[:-1]}).status_code == 401


def test_a_session_that_was_ended_opens_nothing_even_for_whoever_copied_its_cookie(settings: Settings) -> None:
    app, key = gateway_app(settings), new_key(settings)
    browser = browser_of(app, key)
    cookie = copied(browser)
    assert status(app, cookie) == 200
    assert browser.delete("/api/v1/session").status_code == 204
    assert browser.get("/api/v1/jobs").status_code == 401
    assert status(app, cookie) == 401
    assert calling(app, key).get("/api/v1/jobs").status_code == 200


def test_whoever_shows_a_key_again_gets_another_session_and_the_one_before_is_over(settings: Settings) -> None:
    app, key = gateway_app(settings), new_key(settings)
    browser = browser_of(app, key)
    before = copied(browser)
    browser.post("/api/v1/session", json={"key": key})
    assert copied(browser) != before
    assert browser.get("/api/v1/jobs").status_code == 200
    assert status(app, before) == 401


def test_a_session_ends_when_its_time_is_over_or_its_key_is_revoked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    app, key, revoked = gateway_app(settings), new_key(settings), new_key(settings)
    browser, other = browser_of(app, key), browser_of(app, revoked)
    StoredKeys(settings.store).revoke(parsed(revoked)[0], 5)  # type: ignore[index]
    app.state.keys._read_at = None
    assert [each.get("/api/v1/jobs").status_code for each in (browser, other)] == [200, 401]
    later = app.state.gateway.now_ms() + int(settings.gateway.session_h * 3_600_000)
    monkeypatch.setattr(app.state.sessions, "_now_ms", lambda: later)
    assert browser.get("/api/v1/jobs").status_code == 401


def test_another_gateway_knows_a_session_at_once_and_its_end_within_two_seconds(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key(settings)
    here, there = gateway_app(settings), gateway_app(settings)
    now = [0.0]
    monkeypatch.setattr(there.state.sessions, "_clock", lambda: now[0])
    browser = browser_of(here, key)
    cookie = copied(browser)
    assert status(there, cookie) == 200
    browser.delete("/api/v1/session")
    now[0] = keyring.FRESH_S + 0.1
    assert status(there, cookie) == 401


def test_the_store_has_nothing_of_a_cookie_but_its_hash(settings: Settings) -> None:
    app = gateway_app(settings)
    browser = browser_of(app, new_key(settings))
    for each in (app.state.keys, app.state.sessions, app.state.audit):
        each.close()
    for file in Path(settings.store.url.removeprefix("sqlite:///")).parent.iterdir():
        assert str(browser.cookies[COOKIE]).encode() not in file.read_bytes()


def test_sessions_that_cannot_be_looked_up_count_for_half_a_minute(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = gateway_app(settings)
    browser = browser_of(app, new_key(settings))
    now = [0.0]
    monkeypatch.setattr(app.state.sessions, "_clock", lambda: now[0])
    assert browser.get("/api/v1/jobs").status_code == 200

    def away(_: object) -> None:
        raise Unreachable("the store is away")

    monkeypatch.setattr(app.state.sessions._stored, "get", away)
    for waited_s, expected in ((keyring.STALE_S - 1, 200), (keyring.STALE_S + 1, 503)):
        now[0] = waited_s
        assert browser.get("/api/v1/jobs").status_code == expected


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_but_its_owner_reads_the_file_of_keys_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        settings = gateway_settings(tmp_path)
        browser_of(gateway_app(settings), new_key(settings))
        files = list((tmp_path / "state").glob("explain-access.db*"))
    finally:
        os.umask(before)
    assert {file.name for file in files} >= {"explain-access.db", "explain-access.db-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_file_of_keys_that_others_could_read_is_closed_to_them(settings: Settings) -> None:
    new_key(settings)
    file = Path(settings.store.url.removeprefix("sqlite:///")).with_name("explain-access.db")
    file.chmod(0o644)
    new_key(settings)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
