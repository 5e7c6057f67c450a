"""Who may use the gateway: keys, tenants, origins, limits, and what is written down of it."""

import sqlite3
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from integration.gates import HERE, calling, gateway_app, gateway_settings, job_of, new_key, stored
from mistudio_explain.gateway import keyring
from mistudio_explain.gateway.guard import Guard
from mistudio_explain.gateway.keyring import KeyRing
from mistudio_explain.gateway.service import web_server
from mistudio_explain.reporting.stage import report_directory
from mistudio_explain.settings import Settings
from mistudio_explain.store.audit import audit_log
from mistudio_explain.store.keys import StoredKeys, parsed


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return gateway_settings(tmp_path)


@pytest.fixture
def two_tenants(settings: Settings) -> Settings:
    stored(settings, [*job_of("ours", "explain.ours_1"), *job_of("theirs", "explain.theirs_1")])
    return settings


def read_anew(app: FastAPI) -> None:
    """Let two seconds pass for the keys."""
    app.state.keys._read_at = None


def test_without_any_key_whoever_is_on_this_machine_may_do_everything(settings: Settings) -> None:
    assert calling(gateway_app(settings)).get("/api/v1/session").json() == {"tenant": "default", "scopes": ["admin", "read", "write"], "key_id": None}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8350", "localhost.evil.example", "10.0.0.7:8350", ""])
def test_without_keys_a_name_that_was_bound_to_this_machine_from_outside_is_refused(settings: Settings, host: str) -> None:
    answer = calling(gateway_app(settings)).get("/api/v1/jobs", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["type"] == "urn:mistudio-explain:problem:foreign-host"


async def test_at_an_address_that_others_reach_nobody_is_let_in_until_there_is_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = gateway_settings(tmp_path, host="0.0.0.0", port=0)
    app = gateway_app(settings)
    async with web_server(app, settings.gateway) as address, httpx.AsyncClient(base_url=address.replace("0.0.0.0", "127.0.0.1")) as client:
        assert "there is no API key, so nobody is let in" in capsys.readouterr().out
        assert (await client.get("/api/v1/jobs")).status_code == 401
        key = new_key(settings)
        read_anew(app)
        assert (await client.get("/api/v1/jobs", headers={"authorization": f"Bearer {key}"})).status_code == 200
        assert (await client.get("/api/v1/jobs")).status_code == 401


def test_once_a_key_was_made_nothing_is_read_without_one_even_when_it_is_revoked(settings: Settings) -> None:
    app = gateway_app(settings)
    key = new_key(settings)
    assert calling(app).get("/api/v1/jobs").status_code == 401
    assert calling(app, key).get("/api/v1/jobs").status_code == 200
    StoredKeys(settings.store).revoke(parsed(key)[0], 5)  # type: ignore[index]
    read_anew(app)
    answers = [calling(app).get("/api/v1/jobs"), calling(app, key).get("/api/v1/jobs")]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in answers)


def test_a_gateway_that_knew_keys_stays_shut_when_their_file_is_gone(settings: Settings) -> None:
    app = gateway_app(settings)
    new_key(settings)
    assert calling(app).get("/api/v1/jobs").status_code == 401
    app.state.keys.close()
    for file in Path(settings.store.url.removeprefix("sqlite:///")).parent.iterdir():
        file.unlink()
    read_anew(app)
    assert calling(app).get("/api/v1/jobs").status_code == 401


def test_keys_that_cannot_be_read_count_for_half_a_minute_and_then_nobody_is_let_in(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    app, key = gateway_app(settings), new_key(settings)
    now = [0.0]
    monkeypatch.setattr(app.state.keys, "_clock", lambda: now[0])
    assert calling(app, key).get("/api/v1/jobs").status_code == 200
    damaged = Path(settings.store.url.removeprefix("sqlite:///")).with_name("explain-access.db")
    app.state.keys.close()
    damaged.write_bytes(b"no database")
    for suffix in ("-wal", "-shm"):
        damaged.with_name(damaged.name + suffix).unlink(missing_ok=True)
    now[0] = keyring.STALE_S - 1
    assert calling(app, key).get("/api/v1/jobs").status_code == 200
    now[0] = keyring.STALE_S + 1
    answer = calling(app, key).get("/api/v1/jobs")
    assert answer.status_code == 503
    assert str(damaged) not in answer.text


@pytest.mark.parametrize(
    "wrong",
    ["", "mse_", "mse_aaaaaaaa_" + "A" * 43, "Basic abc", "mse_\x00", "' or 1=1 --", "mse_aaaaaaaa_" + "A" * 42 + "\u212a", "A" * 5000],
)
def test_what_is_no_key_opens_nothing(settings: Settings, wrong: str) -> None:
    app = gateway_app(settings)
    new_key(settings)
    assert calling(app).get("/api/v1/jobs", headers={b"authorization": b"Bearer " + wrong.encode()}).status_code == 401
    assert calling(app).get("/api/v1/jobs", headers={b"cookie": b"mistudio_explain_session=" + wrong.encode()}).status_code == 401


def test_a_key_with_one_other_character_opens_nothing(settings: Settings) -> None:
    app, key = gateway_app(settings), new_key(settings)
    for at in (4, 12, 13, len(key) - 2):
        other = "b" if key[at] != "b" else "c"
        assert calling(app, key[:at] + other + key[at + 1 :]).get("/api/v1/jobs").status_code == 401


def test_the_store_has_no_key_but_its_hash(settings: Settings) -> None:
    key = new_key(settings)
    StoredKeys(settings.store).close()
    _, secret = parsed(key)  # type: ignore[misc]
    for file in Path(settings.store.url.removeprefix("sqlite:///")).parent.iterdir():
        assert secret.encode() not in file.read_bytes()
    (row,) = sqlite3.connect(Path(settings.store.url.removeprefix("sqlite:///")).with_name("explain-access.db")).execute("select hash from api_key")
    assert len(row[0]) == 64


def test_a_hash_in_another_keys_row_opens_nothing(settings: Settings) -> None:
    """Whoever may write rows cannot lend one key the rights of another without being able to make keys."""
    app = gateway_app(settings)
    mine, theirs = new_key(settings, "read"), new_key(settings, "admin")
    connection = sqlite3.connect(Path(settings.store.url.removeprefix("sqlite:///")).with_name("explain-access.db"))
    with connection:
        connection.execute("update api_key set hash = (select hash from api_key where id = ?) where id = ?", (parsed(mine)[0], parsed(theirs)[0]))  # type: ignore[index]
    lent = f"mse_{parsed(theirs)[0]}_{parsed(mine)[1]}"  # type: ignore[index]
    assert calling(app, lent).get("/api/v1/jobs").status_code == 401


def test_a_scope_includes_those_before_it_and_no_other(settings: Settings) -> None:
    app = gateway_app(settings)
    reader, writer, admin = (new_key(settings, scope) for scope in ("read", "write", "admin"))
    assert [calling(app, key).get("/api/v1/session").json()["scopes"] for key in (reader, writer, admin)] == [
        ["read"],
        ["read", "write"],
        ["admin", "read", "write"],
    ]
    assert [calling(app, key).get("/api/v1/audit").status_code for key in (reader, writer, admin)] == [403, 403, 200]


def test_another_tenants_job_is_answered_as_one_that_is_not_there(two_tenants: Settings) -> None:
    app, key = gateway_app(two_tenants), new_key(two_tenants, tenant="ours")
    assert calling(app, key).get("/api/v1/jobs/explain.ours_1").status_code == 200
    theirs, nobodys = (calling(app, key).get(f"/api/v1/jobs/{job}") for job in ("explain.theirs_1", "explain.nobody_1"))
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text.replace("theirs", "nobody") == nobodys.text
    assert {name: value for name, value in theirs.headers.items() if name != "content-length"} == {
        name: value for name, value in nobodys.headers.items() if name != "content-length"
    }


def test_a_list_of_jobs_has_the_callers_alone(two_tenants: Settings) -> None:
    app, key = gateway_app(two_tenants), new_key(two_tenants, tenant="ours")
    assert [job["explain_job_id"] for job in calling(app, key).get("/api/v1/jobs?limit=1").json()["jobs"]] == ["explain.ours_1"]
    assert calling(app, key).get("/api/v1/jobs/explain.ours_1").json()["jobs_of_the_same_find_job"] == []


def test_a_page_of_another_origin_orders_nothing_and_its_own_may(settings: Settings) -> None:
    client = calling(gateway_app(settings))
    foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    assert client.delete("/api/v1/session", headers=foreign).status_code == 403
    assert client.delete("/api/v1/session", headers={"origin": HERE, "sec-fetch-site": "same-origin"}).status_code == 204
    assert client.delete("/api/v1/session").status_code == 204


def test_no_page_elsewhere_may_read_unless_its_origin_is_configured(tmp_path: Path) -> None:
    asking = {"origin": "https://lab.example", "access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    shut = calling(gateway_app(gateway_settings(tmp_path / "a")))
    assert not any(name.startswith("access-control") for name in shut.get("/api/v1/jobs", headers=asking).headers)
    assert "access-control-allow-origin" not in shut.options("/api/v1/jobs", headers=asking).headers
    ajar = calling(gateway_app(gateway_settings(tmp_path / "b", cors_origins=("https://lab.example",))))
    assert ajar.options("/api/v1/jobs", headers=asking).headers["access-control-allow-origin"] == "https://lab.example"
    assert ajar.get("/api/v1/jobs", headers=asking).headers["access-control-allow-origin"] == "https://lab.example"
    assert "access-control-allow-credentials" not in ajar.get("/api/v1/jobs", headers=asking).headers
    assert "access-control-allow-origin" not in ajar.get("/api/v1/jobs", headers={"origin": "https://evil.example"}).headers


def test_a_key_that_asks_too_often_is_told_when_to_come_again_and_others_are_not(tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path, requests_per_s=0.2, requests_at_once=3)
    app, greedy, modest = gateway_app(settings), new_key(settings), new_key(settings)
    answers = [calling(app, greedy).get("/api/v1/session") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 6
    assert calling(app, modest).get("/api/v1/session").status_code == 200


def test_a_body_that_is_too_large_is_refused_by_what_it_says_and_by_what_it_is(tmp_path: Path) -> None:
    client = calling(gateway_app(gateway_settings(tmp_path, body_bytes=2048)))
    assert client.post("/api/v1/session", content=b"x" * 2049).status_code == 413
    assert client.post("/api/v1/session", content=iter([b'{"key": "', b"x" * 4096, b'"}'])).status_code == 413
    assert client.post("/api/v1/session", content=b"", headers={"content-length": "-1"}).status_code == 413
    assert client.post("/api/v1/session", json={"key": "x"}).status_code == 200  # a gateway without keys needs none


def test_behind_tls_browsers_are_told_to_stay_there(tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path, behind_tls=True)
    app, key = gateway_app(settings), new_key(settings)
    opened = TestClient(app, base_url="https://localhost").post("/api/v1/session", json={"key": key})
    assert opened.headers["strict-transport-security"] == "max-age=31536000"
    assert "Secure" in opened.headers["set-cookie"]
    assert "strict-transport-security" not in calling(gateway_app(gateway_settings(tmp_path / "plain"))).get("/api/v1/jobs").headers


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/jobs/nobody", "/api/v1/nothing", "/livez", "/", "/api/v1/jobs/%00", "/api/v1/jobs?limit=x"])
def test_every_answer_tells_browsers_what_it_may_do(settings: Settings, path: str) -> None:
    headers = calling(gateway_app(settings)).get(path).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_what_people_order_is_written_down_with_who_and_without_what_is_no_id(settings: Settings) -> None:
    app = gateway_app(settings)
    writer, admin = new_key(settings, "write"), new_key(settings, "admin")
    calling(app, writer).delete("/api/v1/session")
    calling(app, writer).get("/api/v1/jobs")
    entries = calling(app, admin).get("/api/v1/audit").json()["entries"]
    assert [(line["who"], line["action"], line["path"], line["status"]) for line in entries] == [(parsed(writer)[0], "DELETE", "/api/v1/session", 204)]  # type: ignore[index]


def test_an_administrator_sees_what_was_done_in_their_own_tenant_alone(settings: Settings) -> None:
    app = gateway_app(settings)
    ours, theirs = new_key(settings, tenant="ours"), new_key(settings, tenant="theirs")
    for key in (ours, theirs, ours):
        calling(app, key).delete("/api/v1/session")
    page = calling(app, ours).get("/api/v1/audit?limit=1").json()
    assert [line["who"] for line in page["entries"]] == [parsed(ours)[0]]  # type: ignore[index]
    older = calling(app, ours).get(f"/api/v1/audit?before={page['before']}").json()
    assert [line["who"] for line in older["entries"]] == [parsed(ours)[0]]  # type: ignore[index]
    assert older["before"] is None


def test_an_order_that_cannot_be_written_down_goes_to_the_log(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    app = gateway_app(settings)

    def fail(*_: object) -> None:
        from mistudio_explain.errors import Unreachable

        raise Unreachable("the disk is full")

    monkeypatch.setattr(app.state.audit, "add", fail)
    assert calling(app).delete("/api/v1/session").status_code == 204
    logged = capsys.readouterr().out
    assert "audit.unwritten" in logged
    assert "/api/v1/session" in logged


def test_metrics_are_an_administrators_once_there_are_keys(settings: Settings) -> None:
    app = gateway_app(settings)
    assert calling(app).get("/metrics").status_code == 200
    reader, admin = new_key(settings, "read"), new_key(settings, "admin")
    read_anew(app)
    assert [calling(app, key).get("/metrics").status_code for key in (None, reader, admin)] == [401, 403, 200]
    assert calling(app).get("/livez").status_code == 200


def test_deeds_are_numbered_in_the_order_in_which_they_were_done(settings: Settings) -> None:
    app = gateway_app(settings)
    for _ in range(3):
        calling(app).delete("/api/v1/session")
    ids = [entry.id for entry in audit_log(settings).newest(10)]
    assert ids == [3, 2, 1]


async def test_a_stream_ends_once_the_key_that_opened_it_is_revoked(settings: Settings) -> None:
    key = new_key(settings)
    keys = KeyRing(StoredKeys(settings.store), lambda: 0.0)
    told: list[Message] = []

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})

    async def hear(message: Message) -> None:
        told.append(message)
        if len(told) == 5:
            StoredKeys(settings.store).revoke(parsed(key)[0], 9)  # type: ignore[index]
            keys._read_at = None

    async def nothing() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {key}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/api/v1/events", "headers": headers}
    sessions = gateway_app(settings).state.sessions
    await Guard(long, settings=settings.gateway, keys=keys, sessions=sessions, audit=audit_log(settings), now_ms=lambda: 1)(scope, nothing, hear)
    assert len(told) == 6
    assert told[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_an_upload_is_bounded_as_it_comes_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    client = calling(gateway_app(gateway_settings(tmp_path / "state", upload_bytes=4096, body_bytes=1024)))
    pieces = ([b"[", *[b"1," * 500] * 10, b"1]"][number] for number in range(12))
    assert client.post("/api/v1/uploads", content=pieces, headers={"content-type": "application/json"}).status_code == 413
    assert client.post("/api/v1/uploads", content=b" " * 4097, headers={"content-type": "application/json"}).status_code == 413
    assert client.post("/api/v1/uploads", content=b" " * 2000, headers={"content-type": "application/json"}).status_code not in (413, 500)
    assert list(tmp_path.glob("mistudio-explain-upload-*")) == []


OUTSIDE = (  # what is not a plain name, or not a plain file
    "..",
    "../secret",
    "..%2Fsecret",
    "%2e%2e",
    "%2e%2e%2fsecret",
    "..%5csecret",
    "~secret",
    "..~secret",
    ".hidden",
    "%00",
    "a%00.html",
    "/etc/passwd",
    "link.html",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_names_a_file_that_the_job_does_not_have(name: str, two_tenants: Settings) -> None:
    ours = report_directory(two_tenants.reports.directory, "explain.ours_1")
    ours.mkdir(parents=True)
    (two_tenants.reports.directory / "secret").write_text("zebrafish")
    (ours / ".hidden").write_text("zebrafish")
    (ours / "link.html").symlink_to(two_tenants.reports.directory / "secret")
    client = calling(gateway_app(two_tenants), new_key(two_tenants, tenant="ours"))
    for path in (
        f"/api/v1/jobs/explain.ours_1/files/{name}",
        f"/api/v1/jobs/explain.ours_1~..{name}/files/secret",
        f"/explorer/{name}",
        f"/api/v1/jobs/{name}",
    ):
        answer = client.get(path)
        assert "zebrafish" not in answer.text
        if name != "..":  # which clients take for the folder above
            assert answer.status_code in (404, 422), (path, answer.text)
