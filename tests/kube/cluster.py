"""A real Kubernetes API server on an etcd, on loopback: everything that a cluster decides, and nothing that runs a container."""

import json
import secrets
import signal
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from integration.local_server import end_server, free_ports, last_lines, run_command, start_server, wait_until
from kube.programs import kube_programs

Manifest = Mapping[str, Any]
START_TIMEOUT_S = 120.0  # 5 s on an idle machine
_SOMEWHERE = "192.0.2.1"  # TEST-NET-1: the API server refuses to advertise a loopback address
_SERVICES = "10.0.0.0/24"


class Refused(Exception):
    """The API server's no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class _Kind:
    path: str
    plural: str
    is_namespaced: bool


class KubeCluster:
    """The API server, its etcd, and Kubernetes' EndpointSlice controller; requests are an administrator's unless a token says otherwise."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "kube-apiserver.log"
        self.kubeconfig = folder / "kubeconfig"
        self.port, self._etcd_port, self._peer_port = free_ports(3)
        self._token = secrets.token_hex(16)
        self._running: list[subprocess.Popen[bytes]] = []
        self._kinds: dict[tuple[str, str], _Kind] = {}

    @property
    def url(self) -> str:
        """Where the API server answers."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """What its certificate is checked with, PEM."""
        return self.folder / "certificates" / "apiserver.crt"

    def __enter__(self) -> Self:
        self._write_files()
        self._start_etcd()
        self.start()
        self._client = self.client_of(self._token)
        self._run("endpointslices", str(self.kubeconfig), log="endpointslices.log")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server in reversed(self._running):
            end_server(server, signal.SIGTERM)
        self._running.clear()

    def start(self) -> None:
        """Start the API server, and return when it is ready. Raises RuntimeError with the log's end when it does not get so."""
        server = self._api_server = self._run("kube-apiserver", *self._options(), log=self.log.name)
        if not wait_until(lambda: server.poll() is not None or self._is_ready(), START_TIMEOUT_S) or server.poll() is not None:
            raise RuntimeError(f"the API server did not get ready (code {server.returncode}); the end of {self.log}:\n{last_lines(self.log)}")

    def stop(self) -> None:
        """Stop the API server at once, as a crash would; etcd keeps what it said."""
        end_server(self._api_server, signal.SIGKILL)
        self._running.remove(self._api_server)

    def client_of(self, token: str) -> httpx.Client:
        """Asks the API server as whom a token is for."""
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {token}"}, verify=ssl.create_default_context(cafile=str(self.ca_file)), timeout=30
        )

    def apply(self, manifest: Manifest, namespace: str | None = None, *, dry_run: bool = False) -> Any:
        """Make or change an object by server-side apply; unknown and repeated fields are refused. Returns it. Raises Refused."""
        query = {"fieldManager": "tests", "fieldValidation": "Strict", "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        headers = {"content-type": "application/apply-patch+yaml"}
        return self._said(self._client.patch(self._path(manifest, namespace), params=query, headers=headers, content=json.dumps(manifest)))

    def set_status(self, manifest: Manifest, namespace: str, status: Mapping[str, Any]) -> None:
        """Say what a kubelet would."""
        headers = {"content-type": "application/merge-patch+json"}
        self._said(self._client.patch(f"{self._path(manifest, namespace)}/status", headers=headers, content=json.dumps({"status": status})))

    def get(self, manifest: Manifest, namespace: str | None = None) -> Any:
        """An object as the API server has it. Raises Refused."""
        return self._said(self._client.get(self._path(manifest, namespace)))

    def post(self, path: str, body: Mapping[str, Any], token: str | None = None) -> Any:
        """Ask what is answered to a POST, such as for a token or a review. Raises Refused."""
        client = self._client if token is None else self.client_of(token)
        return self._said(client.post(path, json=body))

    def objects(self, api_version: str, kind: str, namespace: str) -> Sequence[Any]:
        """All objects of a kind in a namespace."""
        found = self._said(self._client.get(self._collection(api_version, kind, namespace)))
        return list(found["items"])

    def delete(self, manifest: Manifest, namespace: str | None = None) -> None:
        """Delete an object at once. Raises Refused."""
        self._said(self._client.delete(self._path(manifest, namespace), params={"gracePeriodSeconds": "0"}))

    def token_of(self, account: str, namespace: str) -> str:
        """A token of a service account, as its pods get one."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        token: str = self.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)["status"]["token"]
        return token

    def _path(self, manifest: Manifest, namespace: str | None) -> str:
        about = manifest["metadata"]
        return f"{self._collection(manifest['apiVersion'], manifest['kind'], about.get('namespace') or namespace)}/{about['name']}"

    def _collection(self, api_version: str, kind: str, namespace: str | None) -> str:
        found = self._kind(api_version, kind)
        return f"{found.path}/namespaces/{namespace or 'default'}/{found.plural}" if found.is_namespaced else f"{found.path}/{found.plural}"

    def _kind(self, api_version: str, kind: str) -> _Kind:
        if (api_version, kind) not in self._kinds:
            path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
            for each in self._said(self._client.get(path))["resources"]:
                if "/" not in each["name"]:
                    self._kinds[api_version, each["kind"]] = _Kind(path, each["name"], each["namespaced"])
        return self._kinds[api_version, kind]

    def _said(self, answer: httpx.Response) -> Any:
        if answer.is_error:
            raise Refused(answer.status_code, answer.json().get("message", answer.text))
        return answer.json()

    def _is_ready(self) -> bool:
        if not self.ca_file.is_file():
            return False
        try:
            with self.client_of(self._token) as client:
                return client.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _write_files(self) -> None:
        run_command("openssl", "genrsa", "-out", str(self._accounts_key), "2048")
        self._tokens.write_text(f"{self._token},administrator,administrator,system:masters\n")
        cluster = {"name": "c", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}
        user = {"name": "u", "user": {"token": self._token}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "default"}}
        config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}
        self.kubeconfig.write_text(json.dumps(config))

    @property
    def _accounts_key(self) -> Path:
        return self.folder / "accounts.key"

    @property
    def _tokens(self) -> Path:
        return self.folder / "tokens.csv"

    def _start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        clients = ("--listen-client-urls", client, "--advertise-client-urls", client)
        peers = ("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}")
        self._run("etcd", "--data-dir", str(self.folder / "etcd"), *clients, *peers, "--unsafe-no-fsync", log="etcd.log")

    def _options(self) -> Sequence[str]:
        return (
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--advertise-address={_SOMEWHERE}",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--cert-dir={self.ca_file.parent}",
            f"--service-cluster-ip-range={_SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._accounts_key}",
            f"--service-account-signing-key-file={self._accounts_key}",
            f"--token-auth-file={self._tokens}",
            "--authorization-mode=RBAC",
        )

    def _run(self, program: str, *arguments: str, log: str) -> "subprocess.Popen[bytes]":
        server = start_server(str(kube_programs() / program), *arguments, log=self.folder / log)
        self._running.append(server)
        return server
