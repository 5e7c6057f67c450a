"""The second pass the whole way: candidates, the worst first within the caps, the better draft, and a report that tells what left the machine."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from integration.collector import collecting
from integration.real_kafka import RealKafka
from integration.test_whole_way import job_folder
from unit.llm.fake_llm import FakeLlm, OpenAiWire, Reply

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(sys.executable).with_name("mistudio-explain")
WIRE = OpenAiWire()
FEATURES = 100
_SYLLABLES = ("ba", "ke", "li", "mo", "nu", "pra", "sto", "tri", "vel", "zon")
_PLACES = ("harbour", "market", "valley", "station", "garden", "library", "bridge", "forest", "museum", "square")


def noun(number: int) -> str:
    """A word that no other feature has."""
    return _SYLLABLES[number // 10] + _SYLLABLES[number % 10] + "ril"


def find_job(features: int = FEATURES) -> dict[str, Any]:
    def feature(number: int) -> dict[str, Any]:
        texts = [f"People near the {place} spoke of the {noun(number)} all morning in {year}." for year, place in enumerate(_PLACES, 1990)]
        return {
            "feature_id": number,
            "coherence_score": 0.7,
            "quality_level": "high",
            "pattern_category": "technical",
            "pattern_keywords": [noun(number)],
            "top_activations": [{"text": text, "activation_strength": 5.0 - place / 10, "context": "made"} for place, text in enumerate(texts)],
            "activation_statistics": {"mean": 0.1, "std": 0.1, "frequency": 0.01},
        }

    metadata = {"job_id": "find_second", "source_training_job": "t", "model_name": "made/model", "total_features": features, "processing_time": "1 minute"}
    return {"job_metadata": metadata, "features": [feature(number) for number in range(features)]}


def fields(pattern: str) -> str:
    return json.dumps({"label": "A made label", "pattern": pattern, "significance": "It is known.", "implications": "None."})


@dataclass
class Model:
    """A server of one model: what it answers to a prompt, and the prompts that it got."""

    name: str
    answer: Any
    prompts: list[str]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async def script(reply: Reply) -> None:
            if reply.path.endswith("/models"):
                await reply.whole(200, WIRE.models(self.name))
                return
            prompt = "\n".join(message["content"] for message in reply.body["messages"])
            self.prompts.append(prompt)
            await reply.whole(200, WIRE.piece(self.answer(prompt)) + WIRE.last(counts=(400, 50)))

        async with FakeLlm(script) as server:
            yield server.url


def vague(prompt: str) -> str:
    """What a weak model says of everything."""
    del prompt
    return fields("Words about weather forecasts and sudden rain.")


def sharp(prompt: str) -> str:
    """What a strong model finds: the keyword."""
    found = re.search(r"Keywords: (\w+)", prompt)
    assert found, prompt
    return fields(f"The word {found.group(1)} as people speak of it near a place.")


def settings_of(local: str, cloud: str, folder: Path, **escalation: object) -> str:
    (folder / "key").write_text("secret-key\n")
    chosen = {"enabled": True, "route": ["gpt-4.1-mini"], "accuracy_below": 0.5, **escalation}
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in chosen.items())
    return f"""
[[llm.endpoints]]
name = "own"
provider = "openai"
url = "{local}/v1"
slots = 8
[[llm.endpoints]]
name = "elsewhere"
provider = "openai"
url = "{cloud}/v1"
models = ["gpt-4.1-mini"]
api_key_file = "key"
cloud = true
[escalation]
{lines}
[limits]
express_features = 0
"""


async def explained(folder: Path, settings: str, environment: Mapping[str, str] | None = None, *, features: int = FEATURES) -> dict[str, Any]:
    """Run the job, and read what it wrote."""
    (folder / "find.json").write_text(json.dumps(find_job(features)))
    (folder / "mistudio-explain.toml").write_text(settings)
    command = (str(PROGRAM), "run", "find.json", "--out", "out", "--json")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        stdout, stderr = await process.communicate()
    assert process.returncode == 0, stdout.decode()[-2000:] + stderr.decode()[-4000:]
    written = job_folder(folder / "out")
    found = json.loads((written / "feature_explanations.json").read_text())
    jsonschema.validate(found, json.loads((ROOT / "schemas" / "files" / "feature_explanations.schema.json").read_text()))
    return {"report": json.loads(stdout.splitlines()[-1]), "page": (written / "explanation_report.html").read_text(), **found}


async def second_pass(folder: Path, environment: Mapping[str, str] | None = None) -> None:
    own, elsewhere = Model("small", vague, []), Model("gpt-4.1-mini", sharp, [])
    async with own.serving() as local, elsewhere.serving() as cloud:
        found = await explained(folder, settings_of(local, cloud, folder), environment)
    records = {record["feature_key"]: record for record in found["explanations"]}
    again = {key: record for key, record in records.items() if record["pass"] == 2}
    assert len(records) == FEATURES
    assert len(own.prompts) == FEATURES
    assert len(elsewhere.prompts) == len(again) == 5  # 5% of 100
    for key, record in again.items():
        assert noun(int(key)) in record["pattern"]
        assert record["earlier"]["pattern"] == "Words about weather forecasts and sudden rain."
        assert record["generation"]["reach"] == "cloud"
        assert record["generation"]["cost_usd"] == pytest.approx((400 * 0.4 + 50 * 1.6) / 1e6)
        assert "second_pass" in record["flags"]
    assert all("does NOT fire" in prompt for prompt in elsewhere.prompts)
    metadata = found["job_metadata"]
    refused = [record for record in records.values() if "escalation_refused:share" in record["flags"]]
    assert metadata["second_pass"] == {"sent": 5, "refused": len(refused), "settled": 5}
    assert len(refused) > FEATURES // 2  # a vague explanation fits a few features by chance
    assert all(record["pass"] == 1 for record in refused)
    assert max(record["accuracy"]["p"] for record in refused) < 0.5
    assert metadata["cost_usd"] == pytest.approx(5 * (400 * 0.4 + 50 * 1.6) / 1e6)
    (sent,) = metadata["left_the_machine"]["clouds"]
    assert sent == {"endpoint": "elsewhere", "url": f"{cloud}/v1", "model": "gpt-4.1-mini", "features": 5, "calls": 5, "usd": pytest.approx(0.0012)}
    assert "Nothing left this machine" not in found["page"]
    assert "5 features" in found["page"]


async def test_of_a_hundred_features_the_five_worst_get_a_second_pass_in_the_cloud_on_the_embedded_broker(tmp_path: Path) -> None:
    await second_pass(tmp_path)


async def test_of_a_hundred_features_the_five_worst_get_a_second_pass_in_the_cloud_on_real_kafka(tmp_path: Path, clean_kafka: RealKafka) -> None:
    await second_pass(tmp_path, dict(os.environ) | {"MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": clean_kafka.bootstrap})


def lost(prompt: str) -> str:
    """What a model says that cannot do what it is asked."""
    del prompt
    return "I would rather not."


TRIED_ONCE = """
[generation]
attempts = 1
[retry]
short_s = 0
long_s = 0
"""


async def failing_second_pass(folder: Path, environment: Mapping[str, str] | None = None) -> None:
    own, elsewhere = Model("small", vague, []), Model("gpt-4.1-mini", lost, [])
    with collecting() as collector:
        async with own.serving() as local, elsewhere.serving() as cloud:
            settings = settings_of(local, cloud, folder) + TRIED_ONCE + f'[tracing]\nendpoint = "{collector.url}"\n'
            found = await explained(folder, settings, environment, features=20)
    assert found["report"]["status"] == "completed"
    assert elsewhere.prompts
    records = found["explanations"]
    assert len(records) == 20
    assert found["failed"] == []
    (again,) = [record for record in records if record["pass"] == 2]  # 5% of 20
    assert again["pattern"] == "Words about weather forecasts and sudden rain."
    assert again["generation"]["reach"] == "machine"
    assert again["earlier"] is None
    assert "second_pass_failed:GivenUp" in again["flags"]
    assert found["job_metadata"]["second_pass"] | {"refused": 0} == {"sent": 1, "refused": 0, "settled": 1}
    assert "1 failed, so that the first one stands" in found["page"]
    assert "it failed, and the first explanation stood" in found["page"]
    (way,) = [
        span.trace for span in collector.spans if span.name.startswith("escalation ") and span.attributes["mistudio_explain.feature"] == again["feature_key"]
    ]
    names = [span.name.split(" mistudio")[0] for span in collector.spans if span.trace == way]
    assert {"publish", "context", "chat small", "escalation", "chat gpt-4.1-mini"} <= set(names)
    assert names.count("validation") == 2


async def test_a_second_pass_that_fails_leaves_the_first_outcome_and_the_report_says_so_on_the_embedded_broker(tmp_path: Path) -> None:
    await failing_second_pass(tmp_path)


async def test_a_second_pass_that_fails_leaves_the_first_outcome_and_lag_shows_its_group_on_real_kafka(tmp_path: Path, clean_kafka: RealKafka) -> None:
    environment = dict(os.environ) | {"MISTUDIO_EXPLAIN_KAFKA__BOOTSTRAP_SERVERS": clean_kafka.bootstrap}
    await failing_second_pass(tmp_path, environment)
    asked = await asyncio.create_subprocess_exec(str(PROGRAM), "lag", "--json", cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE)
    rows = json.loads((await asked.communicate())[0])["lag"]
    (row,) = [row for row in rows if row["service"] == "escalation"]
    assert (row["topic"], row["unfinished"], row["uncommitted"], row["expired"]) == ("mistudio.explain.jobs", 0, 0, 0)
