"""`make audit` with the real pip-audit, against a service on this machine that speaks as OSV does."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from integration.local_server import free_ports
from shipping.audit import FOUND, KNOWN, NOT_CHECKED, audit

CANARY = {KNOWN: "PYSEC-2019-217"}


@contextmanager
def osv(knows: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """A service that knows a vulnerability of each release in `knows`, and of nothing else."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            identity = knows.get(f"{asked['package']['name']}=={asked['version']}")
            vulnerability = {"id": identity, "summary": "planted", "aliases": [], "affected": [{"package": asked["package"], "ranges": []}]}
            body = json.dumps({"vulns": [vulnerability]} if identity else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "-s", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "some.lock"
    path.write_text(f"idna==3.10 \\\n    --hash=sha256:{'0' * 64}\n")
    return path


def test_where_nobody_who_knows_can_be_asked_it_says_so_and_does_not_pass(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    away = ("-s", "osv", "--osv-url", f"http://127.0.0.1:{port}/v1/query")
    with osv({}) as empty:
        assert audit([away, empty], [lock]) == NOT_CHECKED
    said = capsys.readouterr().out
    assert "NOT CHECKED" in said
    assert "No known vulnerabilities" not in said


def test_a_lock_of_which_nothing_is_known_passes(lock: Path) -> None:
    with osv(CANARY) as service:
        assert audit([service], [lock]) == 0


def test_a_locked_package_with_a_known_vulnerability_fails_by_name(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with osv({**CANARY, "idna==3.10": "PYSEC-2099-1"}) as service:
        assert audit([service], [lock]) == FOUND
    said = capsys.readouterr().out
    assert "PYSEC-2099-1" in said
    assert "idna" in said
