"""The Kubernetes API server that tests of discovery ask."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from integration.local_tls import self_signed
from mistudio_explain.llm.kubernetes import Cluster
from unit.llm.fake_kubernetes import ApiServer
from unit.llm.fake_llm import FakeLlm


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, Cluster]]:
    certificate, context = self_signed(tmp_path)
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("mistudio-services")
    api = ApiServer()
    async with FakeLlm(api.answer, tls=context) as server:
        api.server = server
        assert certificate.name == "ca.crt"
        yield api, Cluster(server.url, tmp_path)
