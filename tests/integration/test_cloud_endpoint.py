"""An endpoint of a cloud provider, from the command line: what `doctor` says of it, and what a wrong key comes to."""

import asyncio
import json
from pathlib import Path

import pytest

from integration.test_whole_way import EXAMPLE, Command
from unit.llm.fake_llm import AnthropicWire, FakeLlm, Reply

KEY = "sk-very-secret"


async def run(folder: Path, *arguments: str, expect: int, endpoint: dict[str, object], **environment: str) -> tuple[str, str]:
    settings = {
        "MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([{"name": "cloud", "provider": "anthropic"} | endpoint]),
        "MISTUDIO_EXPLAIN_STORE__URL": f"sqlite:///{folder}/explain.db",
        "MISTUDIO_EXPLAIN_REPORTS__DIRECTORY": str(folder / "reports"),
    }
    ran = await asyncio.to_thread(Command(folder, settings | environment).run, *arguments, expect=expect)
    return ran.stdout, ran.stderr


async def knows_the_key(reply: Reply) -> None:
    wire = AnthropicWire()
    if reply.headers["authorization"] == f"Bearer {KEY}":
        await reply.whole(200, wire.models("claude-one", "claude-two"))
    else:
        await reply.whole(401, wire.error("invalid x-api-key", 401))


async def test_doctor_shows_a_cloud_endpoint_like_any_other(tmp_path: Path) -> None:
    async with FakeLlm(knows_the_key) as server:
        out, errors = await run(tmp_path, "doctor", "--json", expect=0, endpoint={"url": server.url, "api_key_env": "CLOUD_KEY"}, CLOUD_KEY=KEY)
    (found,) = [finding for finding in json.loads(out) if finding["what"] == "LLM endpoint cloud"]
    assert found["is_well"]
    assert found["found"] == f"anthropic {server.url}, 2 slots, models: claude-one, claude-two"
    assert KEY not in out + errors


@pytest.mark.parametrize(
    ("key", "code", "said"),
    [("sk-wrong", 3, "/v1/models, auth: HTTP 401: invalid x-api-key"), (None, 2, "there is no API key: the environment variable CLOUD_KEY")],
)
async def test_a_key_that_is_wrong_or_missing_ends_the_start_with_one_line(tmp_path: Path, key: str | None, code: int, said: str) -> None:
    given = {} if key is None else {"CLOUD_KEY": key}
    async with FakeLlm(knows_the_key) as server:
        endpoint = {"url": server.url, "api_key_env": "CLOUD_KEY"}
        out, errors = await run(tmp_path, "run", str(EXAMPLE), "--dry-run", "--explain-poor", expect=code, endpoint=endpoint, **given)
        asked = len(server.requests)
    (line,) = errors.strip().splitlines()
    assert said in line
    assert asked == (key is not None)
    assert "sk-wrong" not in out + errors
