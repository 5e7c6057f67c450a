"""The logs of a whole run, through the gateway and all services: they hold no text, no answer and no secret."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from integration.test_whole_way import PROGRAM, Command
from unit.intake.find_job_files import feature, specified
from unit.llm.fake_llm import FakeLlm, OpenAiWire, Reply

MARK = re.compile(r"mark(ed)?[-_ ]?[0-9a-f]{6}", re.IGNORECASE)
SECRET = "sk-secret-1f6f3c0d"
ANSWER = '{"label": "Marked-a1a1a1", "pattern": "Texts that mention marked-a1a1a1 words.", "significance": "It is known.", "implications": "None known."}'
TEXTS = ("JSON schema marked-b2b2b2 validation", "validate the marked-b2b2b2 schema", "a schema of marked-b2b2b2 JSON", "JSON is marked-b2b2b2")


def find_job() -> bytes:
    texts = [{"text": f"{text} {number}", "activation_strength": 1.0 - number / 10} for number, text in enumerate(TEXTS)]
    features = [feature(number, pattern_keywords=["json", "schema", "marked-c3c3c3"], top_activations=texts) for number in range(1, 6)]
    return json.dumps(specified(*features, job_id="find_marks")).encode()


def asked_about(reply: Reply) -> str:
    return json.dumps(reply.body, ensure_ascii=False)


class Unreliable:
    """A model that answers, answers nonsense, refuses with what it was sent, and breaks off, each with marked words."""

    def __init__(self) -> None:
        self.wire = OpenAiWire()
        self.calls = 0

    async def __call__(self, reply: Reply) -> None:
        if reply.path.endswith("/models"):
            await reply.whole(200, self.wire.models("m"))
            return
        assert MARK.search(asked_about(reply)), "the model is asked about marked texts"
        self.calls += 1
        match self.calls % 4:
            case 1:
                await reply.whole(400, self.wire.error(f"cannot read {asked_about(reply)}"))
            case 2:
                await self._say(reply, "no JSON, but marked-d4d4d4 words", "stop")
            case 3:
                await self._say(reply, ANSWER, "stop")
            case _:
                await reply.start()
                await reply.send(self.wire.error_in_stream("broken at marked-e5e5e5"))
                await reply.end()

    async def _say(self, reply: Reply, text: str, why: str) -> None:
        await reply.start()
        await reply.send(self.wire.piece(text))
        await reply.send(self.wire.last(why))
        await reply.end()


@asynccontextmanager
async def everything_up(command: Command, log: Path) -> AsyncIterator[str]:
    """The address of a gateway beside all services, whose log goes to a file."""
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM), "up", cwd=command.folder, env=command.environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=out
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while not (line := await process.stdout.readline()).startswith(b"gateway: "):
                assert line, "the gateway came up"
        yield line.decode().split()[1]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_finished(client: httpx.AsyncClient, job: str) -> Mapping[str, Any]:
    async with asyncio.timeout(60):
        while (shown := (await client.get(f"/api/v1/jobs/{job}")).json()).get("status") != "completed":
            await asyncio.sleep(0.1)
    return shown


async def test_the_logs_of_a_whole_run_hold_no_text_no_answer_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "llm.key").write_text(SECRET)
    command = Command(tmp_path)
    key = json.loads(command.run("keys", "create", "--name", "a test", "--scope", "admin", "--json").stdout)["key"]
    model, log = Unreliable(), tmp_path / "up.log"
    async with FakeLlm(model) as server:
        endpoint = {"name": "gpu0", "provider": "openai", "url": f"{server.url}/v1", "slots": 1, "api_key_file": str(tmp_path / "llm.key"), "cloud": False}
        command.settings |= {
            "MISTUDIO_EXPLAIN_LLM__ENDPOINTS": json.dumps([endpoint]),
            "MISTUDIO_EXPLAIN_LOG_LEVEL": "debug",
            "MISTUDIO_EXPLAIN_GATEWAY__PORT": "0",
            "MISTUDIO_EXPLAIN_GENERATION__ATTEMPTS": "1",
            "MISTUDIO_EXPLAIN_RETRY__SHORT_S": "0",
            "MISTUDIO_EXPLAIN_RETRY__LONG_S": "0",
        }
        async with everything_up(command, log) as address, httpx.AsyncClient(base_url=address, headers={"authorization": f"Bearer {key}"}) as client:
            made = await client.post("/api/v1/uploads", content=find_job(), headers={"content-type": "application/json"})
            assert made.status_code == 201, made.text
            job = made.json()["explain_job_id"]
            shown = await until_finished(client, job)
            page = f"/api/v1/jobs/{job}"
            await client.get(f"{page}/explanations", params={"text": "marked-a1a1a1"})
            await client.post(f"{page}/features/1/reviews", json={"verdict": "wrong", "who": "ada", "why": "marked-f6f6f6"})
            for spoilt in (b'{"verdict": "marked-777777"}', b'{"verdict": marked-888888', b"\xffmarked-999999"):
                await client.post(f"{page}/features/1/reviews", content=spoilt, headers={"content-type": "application/json"})
            await client.post("/api/v1/uploads", content=find_job()[:-20] + b"marked-aaaaaa", headers={"content-type": "application/json"})
            await client.get("/api/v1/jobs/marked-bbbbbb", headers={"authorization": f"Bearer {key[:-4]}mark"})
            await client.get(f"{page}/files/explanation_report.html")
            audit = (await client.get("/api/v1/audit")).text
    assert shown["explained"] > 0
    assert shown["failed"] > 0
    logged = log.read_text()
    of_records = [line for line in map(json.loads, filter(None, logged.splitlines())) if line["event"].startswith("record.")]
    assert {line["event"] for line in of_records} == {"record.tried_later", "record.given_up"}
    assert all(line["job"] == job and line["feature"] in "12345" for line in of_records)
    for name, said in (("the log", logged), ("the audit log", audit)):
        assert not (found := MARK.search(said)), f"{name}: {said[max(0, found.start() - 300) : found.end() + 100]}"
        assert SECRET not in said
        assert key.rpartition("_")[2] not in said
    assert f"{page}/features/1/reviews" in audit
    assert f"{page}/files/explanation_report.html" in audit
