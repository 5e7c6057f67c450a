"""A Kubernetes API server as far as EndpointSlices go, as a test tells it."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from unit.llm.fake_llm import FakeLlm, Reply

SERVICE_URL = "http://ollama.mistudio-services.svc.cluster.local:11434"
SLICES_PATH = "/apis/discovery.k8s.io/v1/namespaces/mistudio-services/endpointslices"
TIME_IS_OVER, HANG_UP = object(), object()
"""What can be done to a watch."""


@dataclass
class ApiServer:
    """Answers a list in pages of one slice, and a watch with what changed since the version that it goes on from."""

    slices: list[dict[str, Any]] = field(default_factory=list)
    token: str = "first"
    status: int = 200
    version: int = 1
    history: list[tuple[int, bytes]] = field(default_factory=list)
    watches: "list[asyncio.Queue[bytes | object]]" = field(default_factory=list)
    server: FakeLlm = field(init=False)
    watched_from: list[str] = field(default_factory=list)
    lists: int = 0

    async def answer(self, reply: Reply) -> None:
        parts = urlsplit(reply.path)
        query = {name: value for name, (value,) in parse_qs(parts.query).items()}
        if reply.headers.get("authorization") != f"Bearer {self.token}" or self.status != 200:
            status = self.status if self.status != 200 else 401
            await reply.whole(status, json.dumps({"kind": "Status", "message": "endpointslices.discovery.k8s.io is forbidden", "code": status}).encode())
            return
        assert (parts.path, query["labelSelector"]) == (SLICES_PATH, "kubernetes.io/service-name=ollama")
        if "watch" in query:
            self.watched_from.append(query["resourceVersion"])
            await self._tell(reply, int(query["resourceVersion"]))
            return
        at = int(query.get("continue", "0"))
        self.lists += at == 0
        about = {"resourceVersion": str(self.version)} | ({"continue": str(at + 1)} if at + 1 < len(self.slices) else {})
        page = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": about, "items": self.slices[at : at + 1]}
        await reply.whole(200, json.dumps(page).encode())

    def tells(self, kind: str, told: dict[str, Any]) -> None:
        """Say to who watches, or goes on later, that a slice was ADDED, MODIFIED or DELETED."""
        self.version += 1
        event = line({"type": kind, "object": {**told, "metadata": {**told["metadata"], "resourceVersion": str(self.version)}}})
        self.history.append((self.version, event))
        for watch in self.watches:
            watch.put_nowait(event)

    async def says(self, what: bytes | object) -> None:
        """Say something to the watch that there is, or do to it; waits for one."""
        async with asyncio.timeout(60):
            while not self.watches:
                await asyncio.sleep(0.01)
        self.watches[-1].put_nowait(what)

    async def _tell(self, reply: Reply, since: int) -> None:
        events: asyncio.Queue[bytes | object] = asyncio.Queue()
        for version, told in self.history:
            if version > since:
                events.put_nowait(told)
        self.watches.append(events)
        try:
            await reply.start()
            while isinstance(event := await events.get(), bytes):
                await reply.send(event)
            if event is TIME_IS_OVER:
                await reply.end()
        finally:
            self.watches.remove(events)


def line(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode() + b"\n"


def endpoint(address: str, ready: bool | None = True) -> dict[str, Any]:
    return {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}, "targetRef": {"kind": "Pod", "name": f"ollama-{address}"}}


def slice_of(*endpoints: dict[str, Any], kind: str = "IPv4", ports: tuple[int, ...] = (11434,), name: str | None = None) -> dict[str, Any]:
    told = [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports]
    addresses = "".join(each["addresses"][0] for each in endpoints)
    return {"metadata": {"name": name or f"ollama-{kind}{addresses}"}, "addressType": kind, "endpoints": list(endpoints), "ports": told}
