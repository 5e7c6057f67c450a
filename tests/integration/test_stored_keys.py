"""API keys and the audit log on real SQLite and real PostgreSQL, and through the command line."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from integration.real_postgres import RealPostgres
from mistudio_explain.cli.main import app
from mistudio_explain.errors import BadInput
from mistudio_explain.settings import StoreSettings
from mistudio_explain.store.audit import Deed, StoredAudit
from mistudio_explain.store.beside import file_beside
from mistudio_explain.store.keys import ACCESS, StoredKeys, hash_of, made, parsed


def kept(settings: StoreSettings, kept_ms: int = 1_000, most: int = 1_000) -> StoredAudit:
    return StoredAudit(settings, kept_ms=kept_ms, most=most)


def bytes_from(first: int) -> Callable[[int], bytes]:
    numbers = iter(range(first, 1_000))
    return lambda count: bytes(next(numbers) % 256 for _ in range(count))


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    if request.param == "sqlite":
        return StoreSettings(url=f"sqlite:///{tmp_path}/state/explain.db")
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.new_store()


def deed(number: int, tenant: str = "ours") -> Deed:
    return Deed(number, tenant, "k3v7a2qd", "127.0.0.1", "DELETE", f"/api/v1/jobs/explain_{number}", 202)


def test_keys_are_kept_until_they_are_revoked_and_known_afterwards(settings: StoreSettings) -> None:
    keys = StoredKeys(settings)
    assert keys.all() == []
    first, text = made("ours", "write", "Ada", now_ms=1, random_bytes=bytes_from(0))
    second, _ = made("theirs", "read", "Bob", now_ms=2, random_bytes=bytes_from(100))
    keys.add(first)
    keys.add(second)
    assert StoredKeys(settings).all() == [first, second]
    assert StoredKeys(settings).all()[0].is_opened_by(parsed(text)[1])  # type: ignore[index]
    assert keys.revoke(first.id, 9).revoked_ms == 9
    assert keys.revoke(first.id, 10).revoked_ms == 9
    assert not StoredKeys(settings).all()[0].is_opened_by(parsed(text)[1])  # type: ignore[index]
    with pytest.raises(BadInput, match="there is no key 'nobodys'"):
        keys.revoke("nobodys", 11)


def test_looking_for_keys_or_deeds_makes_no_database(settings: StoreSettings) -> None:
    assert StoredKeys(settings).all() == []
    assert kept(settings).newest(10) == []
    if settings.url.startswith("sqlite"):
        assert not file_beside(settings, ACCESS).exists()


def test_gateways_that_write_at_once_lose_no_deed(settings: StoreSettings) -> None:
    logs = [kept(settings) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: logs[number % 4].add(deed(number)), range(40)))
    entries = logs[0].newest(100)
    assert [entry.id for entry in entries] == list(range(40, 0, -1))
    assert {entry.deed.at_ms for entry in entries} == set(range(40))


def test_the_log_is_read_by_tenant_and_in_pages(settings: StoreSettings) -> None:
    log = kept(settings)
    for number in range(6):
        log.add(deed(number, "ours" if number % 2 else "theirs"))
    assert [entry.deed.at_ms for entry in log.newest(2, tenant="ours")] == [5, 3]
    assert [entry.deed.at_ms for entry in log.newest(2, tenant="ours", before=4)] == [1]
    assert [entry.deed for entry in log.newest(1)] == [deed(5, "ours")]


def test_entries_go_when_they_are_too_old_or_too_many_and_their_numbers_are_not_given_again(settings: StoreSettings) -> None:
    log = kept(settings, kept_ms=10, most=5)
    for number in range(8):
        log.add(deed(number))
    assert [(entry.id, entry.deed.at_ms) for entry in log.newest(100)] == [(8, 7), (7, 6), (6, 5), (5, 4), (4, 3)]
    log.add(deed(16))
    assert [(entry.id, entry.deed.at_ms) for entry in log.newest(100)] == [(9, 16), (8, 7), (7, 6)]
    log.add(deed(1000))
    assert [(entry.id, entry.deed.at_ms) for entry in log.newest(100)] == [(10, 1000)]


def test_a_bound_that_is_lowered_is_reached_a_hundred_entries_at_a_time(settings: StoreSettings) -> None:
    log = kept(settings)
    for number in range(120):
        log.add(deed(number))
    log.close()
    fewer = kept(settings, most=10)
    fewer.add(deed(120))
    assert len(fewer.newest(1000)) == 21
    fewer.add(deed(121))
    assert [entry.deed.at_ms for entry in fewer.newest(1000)] == list(range(121, 111, -1))


@pytest.mark.parametrize(
    ("tenant", "scope", "name", "complaint"),
    [
        ("Our Lab", "read", "Ada", "tenant 'Our Lab'"),
        ("", "read", "Ada", "tenant ''"),
        ("ours", "root", "Ada", "scope 'root'"),
        ("ours", "read", " ", "name ' '"),
        ("ours", "read", "\x1b[31mAda", "name "),
        ("ours", "read", "A" * 101, "name "),
    ],
)
def test_a_key_for_nobody_in_particular_is_not_made(tenant: str, scope: str, name: str, complaint: str) -> None:
    with pytest.raises(BadInput) as refused:
        made(tenant, scope, name, now_ms=1, random_bytes=bytes_from(0))
    assert str(refused.value).startswith(complaint)
    assert "\x1b" not in str(refused.value)


def test_the_hash_of_a_secret_is_another_for_each_key() -> None:
    assert hash_of("aaaaaaaa", "secret") != hash_of("bbbbbbbb", "secret")


def test_a_key_is_made_listed_and_revoked_on_the_command_line_and_each_step_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "ada")

    def run(*arguments: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    (made_key,) = run("keys", "create", "--name", "the lab's CI", "--scope", "write", "--tenant", "lab")
    key_id, secret = parsed(str(made_key["key"])) or ("", "")
    assert made_key["id"] == key_id
    (listed,) = run("keys", "list")
    assert listed | {"key": made_key["key"]} == made_key
    assert run("keys", "list", "--tenant", "other") == []
    (revoked,) = run("keys", "revoke", key_id)
    assert revoked["revoked_ms"] is not None
    log = run("audit")
    assert [(line["tenant"], line["who"], line["action"], line["path"]) for line in log] == [
        ("lab", "ada", "keys revoke", f"{key_id} (write)"),
        ("lab", "ada", "keys create", f"{key_id} (write)"),
    ]
    assert secret not in json.dumps([listed, revoked, log])
    shown = CliRunner().invoke(app, ["keys", "list"]).stdout
    assert "the lab's CI" in shown
    assert secret not in shown
    assert CliRunner().invoke(app, ["keys", "create", "--name", "x", "--scope", "root"]).exit_code == 1
