"""`keys create|list|revoke` and `audit`: who may use the gateway, and who did what."""

import getpass
import secrets
import time
from contextlib import closing
from pathlib import Path

from rich.text import Text

from mistudio_explain.cli.letter_text import moment
from mistudio_explain.cli.show import console, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.settings import Settings
from mistudio_explain.store.audit import Deed, Entry, audit_log
from mistudio_explain.store.keys import ApiKey, StoredKeys, access_store, made


def create_key(name: str, scope: str, tenant: str, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Make a key, and print it this once. Raises BadInput."""
    settings = prepare(config=config, profile=profile, quiet=True)
    key, text = made(tenant, scope, name, now_ms=_now_ms(), random_bytes=secrets.token_bytes)
    with closing(StoredKeys(access_store(settings))) as stored:
        stored.add(key)
    _note(settings, "keys create", key)
    if as_json:
        print_json(_json(key) | {"key": text})
        return 0
    out = console()
    out.print(Text(plain(f"{key.id} may {' and '.join(sorted(key.scopes))} the jobs of tenant {key.tenant}. The key, which is shown this once:")))
    out.print(text, soft_wrap=True)
    return 0


def list_keys(tenant: str | None, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the keys that were made."""
    settings = prepare(config=config, profile=profile, quiet=True)
    with closing(StoredKeys(access_store(settings))) as stored:
        keys = [key for key in stored.all() if tenant in (None, key.tenant)]
    if as_json:
        for key in keys:
            print_json(_json(key))
        return 0
    if not keys:
        console().print("there are no keys")
        return 0
    rows = [(key.id, key.name, key.tenant, key.scope, moment(key.made_ms), moment(key.revoked_ms) if key.revoked_ms else "-") for key in keys]
    console().print(table(None, ("key", "name", "tenant", "scope", "made (UTC)", "revoked (UTC)"), rows, wrap={"name": None}))
    return 0


def revoke_key(key_id: str, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Revoke a key. Raises BadInput for one that is not there."""
    settings = prepare(config=config, profile=profile, quiet=True)
    with closing(StoredKeys(access_store(settings))) as stored:
        key = stored.revoke(key_id, _now_ms())
    _note(settings, "keys revoke", key)
    if as_json:
        print_json(_json(key))
    else:
        console().print(Text(plain(f"{key.id} ({key.name}) opens nothing any more; gateways that run refuse it within two seconds")))
    return 0


def show_audit(tenant: str | None, limit: int, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show the audit log, newest first."""
    settings = prepare(config=config, profile=profile, quiet=True)
    with closing(audit_log(settings)) as stored:
        entries = stored.newest(limit, tenant=tenant)
    if as_json:
        for entry in entries:
            print_json({"id": entry.id, **_deed(entry)})
        return 0
    if not entries:
        console().print("nothing was done through the gateway yet")
        return 0
    columns = ("when (UTC)", "tenant", "who", "from", "what", "of what", "status")
    console().print(table(None, columns, map(_row, entries), wrap={"of what": None}))
    return 0


def _note(settings: Settings, action: str, key: ApiKey) -> None:
    with closing(audit_log(settings)) as stored:
        stored.add(Deed(_now_ms(), key.tenant, _login(), "", action, f"{key.id} ({key.scope})"))


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _json(key: ApiKey) -> dict[str, object]:
    return {"id": key.id, "name": key.name, "tenant": key.tenant, "scope": key.scope, "made_ms": key.made_ms, "revoked_ms": key.revoked_ms}


def _deed(entry: Entry) -> dict[str, object]:
    deed = entry.deed
    return {
        "at_ms": deed.at_ms, "tenant": deed.tenant, "who": deed.who, "address": deed.address, "action": deed.action, "path": deed.path, "status": deed.status
    }  # fmt: skip


def _row(entry: Entry) -> tuple[str, ...]:
    deed = entry.deed
    return moment(deed.at_ms), deed.tenant, deed.who, deed.address or "-", deed.action, deed.path, "-" if deed.status is None else str(deed.status)


def _now_ms() -> int:
    return int(time.time() * 1000)
