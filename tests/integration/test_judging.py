"""A judge behind real servers: offline by `score --judge`, in the stream, and as the demonstration model."""

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from golden_events import DRAFT
from integration.aggregating import Aggregating
from integration.judge_llm import JUDGE, JudgeLlm, garbage, knows_dogs
from integration.real_kafka import RealKafka
from integration.test_bad_circumstances import one_message
from integration.test_whole_way import EXAMPLE, Command
from mistudio_explain.assembly import assembled
from mistudio_explain.events import topics
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import Answer, Evidence, FeatureOutcome, OutcomeKind, Subject
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import BackgroundFeature, JobBackground
from mistudio_explain.judging.judge import Judge, judge_feature
from mistudio_explain.llm.demonstration import Demonstration
from mistudio_explain.llm.endpoint import Endpoint
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.settings import EndpointSettings, JudgeSettings, KafkaSettings, LlmSettings, Settings


@contextmanager
def served(judges: Callable[[str, list[str]], str], folder: Path, **settings: str) -> Iterator[tuple[Command, JudgeLlm]]:
    with JudgeLlm(judges) as server:
        endpoints = json.dumps([{"name": "gpu0", "provider": "openai", "url": server.url, "slots": 4}])
        yield Command(folder, {"MISTUDIO_EXPLAIN_LLM__ENDPOINTS": endpoints, **settings}), server


def activation(thing: str, place: int) -> dict[str, Any]:
    tokens = [f"{place}", " times", " the", f" {thing}", " ran", " home"]
    return {
        "text": "".join(tokens),
        "tokens": tokens,
        "token_activations": [0.0, 0.0, 0.0, 9.0 - place / 10, 0.0, 0.0],
        "activation_strength": 9.0 - place / 10,
    }


def pairs(folder: Path) -> Path:
    """Features of twelve things; that of the dog is explained twice, and one line is broken."""
    things = ("dog", *(f"machine{number}" for number in range(11)))
    lines = [
        {
            "job": "find_1",
            "feature": {"feature_id": at, "top_activations": [activation(thing, place) for place in range(12)]},
            "explanation": f"The word {thing}.",
        }
        for at, thing in enumerate(things)
    ]
    again = lines[0] | {"explanation": "Names of dogs."}
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [lines[0], again, {"job": "find_1"}, *lines[1:]]))
    return path


def detection(line: dict[str, Any], kind: str = "detection") -> dict[str, Any]:
    return next(each for each in line["judge"]["kinds"] if each["kind"] == kind)


def test_score_with_a_judge_gives_each_line_its_figures_and_writes_delphis_files(tmp_path: Path) -> None:
    with served(knows_dogs, tmp_path) as (command, server):
        arguments = ("--out", "scores.jsonl", "--judge", "detection,fuzzing", "--judge-scores", "delphi")
        done = command.run("score", str(pairs(tmp_path)), *arguments, expect=1)  # one line is broken
    assert set(server.asked) == {"fake"}  # nobody knows who wrote the explanations: the first model judges
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert len(lines) == 14
    assert "error" in lines[2]
    for line in lines[:2]:
        assert detection(line)["balanced_accuracy"] == detection(line, "fuzzing")["balanced_accuracy"] == 1.0
        assert {against["source"] for against in detection(line)["against"]} == {"random", "siblings"}
        assert (line["judge"]["factual_coherence"], line["judge"]["logical_coherence"]) == (0.75, 1.0)
    assert all(detection(line)["tpr"] == 0.0 for line in lines[3:])  # a judge that knows dogs alone
    assert f"judge: {len(server.asked)} calls, {100 * len(server.asked)} tokens in" in done.stderr
    written = sorted(path.relative_to(tmp_path / "delphi").as_posix() for path in (tmp_path / "delphi").rglob("*.txt"))
    assert len(written) == 26
    assert "detection/find_1_latent0.txt" in written
    assert "fuzz/find_1.2_latent0.txt" in written  # the second explanation of feature 0
    scores = json.loads((tmp_path / "delphi" / "detection" / "find_1_latent0.txt").read_bytes())
    assert sum(each["activating"] for each in scores) == detection(lines[0])["positives"]
    assert all(each["correct"] is True for each in scores)


def test_score_with_a_judge_that_talks_garbage_says_what_could_not_be_judged(tmp_path: Path) -> None:
    with served(garbage, tmp_path) as (command, _):
        command.run("score", str(pairs(tmp_path)), "--out", "scores.jsonl", "--judge", "detection", expect=1)
    for line in (tmp_path / "scores.jsonl").read_text().splitlines():
        if "error" not in (scored := json.loads(line)):
            assert (detection(scored)["balanced_accuracy"], detection(scored)["n"]) == (None, 0)
            assert detection(scored)["unparsed"] + detection(scored)["unasked"] > 0
            assert "no list of" in scored["judge"]["unavailable"]["detection"]


def test_a_kind_of_test_that_is_not_known_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with served(knows_dogs, tmp_path) as (command, server):
        assert "detection or fuzzing" in one_message(command.run("score", str(pairs(tmp_path)), "--out", "o", "--judge", "simulation", expect=2))
    assert server.asked == []


def test_in_the_stream_every_explanation_is_judged_by_another_model_through_an_outage(tmp_path: Path) -> None:
    refused = iter([True] * 5)

    class Busy(JudgeLlm):
        def _send(self, writer: asyncio.StreamWriter, kind: str, content: str) -> None:
            if kind == "text/event-stream" and self.asked and next(refused, False):
                writer.write(b"HTTP/1.1 503 busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            super()._send(writer, kind, content)

    with Busy(knows_dogs) as server:
        endpoints = json.dumps([{"name": "gpu0", "provider": "openai", "url": server.url, "slots": 4, "models": list(server.models)}])
        command = Command(tmp_path, {"MISTUDIO_EXPLAIN_LLM__ENDPOINTS": endpoints, "MISTUDIO_EXPLAIN_JUDGE__ENABLED": "true"})
        done = command.run("run", str(EXAMPLE), "--explain-poor", "--out", "out")
    assert set(server.asked) == {JUDGE}
    (path,) = (tmp_path / "out").rglob("feature_explanations.json")
    content = json.loads(path.read_bytes())
    assert (content["job_metadata"]["explained"], content["job_metadata"]["failed"]) == (16, 0)
    assert all(each["judge"]["model"] == JUDGE and not each["judge"]["is_explainer"] for each in content["explanations"])
    assert content["job_metadata"]["judged"] == 16
    assert content["job_metadata"]["judge_calls"] == sum(each["judge"]["calls"] for each in content["explanations"]) > 16
    assert content["job_metadata"]["tokens_in"] == 16 * 100  # what the judge was asked is counted apart
    assert "16 judged in" in done.stdout


async def test_a_draft_that_was_judged_before_keeps_its_judgement_and_nobody_is_asked(clean_kafka: RealKafka) -> None:
    with JudgeLlm(knows_dogs) as server:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=clean_kafka.bootstrap, partitions=1),
            llm=LlmSettings(endpoints=(EndpointSettings(name="gpu0", provider="openai", url=server.url),)),
            judge=JudgeSettings(enabled=True),
        )
        at_work = Aggregating(settings)
        await at_work.make_topics()
        fresh = DRAFT.model_copy(update={"judge": None, "subject": DRAFT.subject.model_copy(update={"feature_key": "fresh"})})
        async with assembled(settings, at_work.clients, ["validation"]) as assembly, assembly.app.running():
            await at_work.write(DRAFT)
            outcomes = await until(at_work, 1)
            assert server.asked == []
            await at_work.write(fresh)
            outcomes = await until(at_work, 2)
    by_key = {outcome.subject.feature_key: outcome.judge for outcome in outcomes}
    assert by_key[DRAFT.subject.feature_key] == DRAFT.judge
    judged = by_key["fresh"]
    assert judged is not None
    assert judged.model in server.models
    assert judged.calls == len(server.asked) > 0


async def until(at_work: Aggregating, count: int) -> list[FeatureOutcome]:
    async with asyncio.timeout(60):
        while len(records := await at_work.read(topics.EXPLANATIONS)) < count:
            await asyncio.sleep(0.2)
    return [decode(FeatureOutcome, record.value) for record in records]


def test_without_the_setting_no_judge_is_asked(tmp_path: Path) -> None:
    with served(knows_dogs, tmp_path) as (command, server):
        command.run("run", str(EXAMPLE), "--explain-poor", "--out", "out")
    assert server.asked == []


@pytest.mark.slow
async def test_the_demonstration_model_answers_in_the_form_that_is_asked_for() -> None:
    texts = [Activation(text=f"{place} times the dog ran home", peak=" dog") for place in range(6)]
    outcome = FeatureOutcome(
        outcome=OutcomeKind.EXPLAINED,
        subject=Subject(explain_job_id="e", find_job_id="f", feature_key="1"),
        evidence=Evidence(seen=texts[:3], held_out=texts[3:]),
        answer=Answer(pattern="Texts about dogs."),
    )
    sample = [BackgroundFeature(feature_key=f"o{at}", texts=[f"the sum of {at} and {at}"]) for at in range(8)]
    known = JobBackground(find_job_id="f", target_model="m", sample=sample, distinct=8, frozen=True)
    provider = await Demonstration.start(1)
    endpoint = Endpoint("demonstration", "demonstration", "", 1, provider)
    try:
        await endpoint.refresh()
        rng = random.Random(1)
        judged = (await judge_feature(outcome, known, Judge(Endpoints([endpoint], rng=rng), JudgeSettings(attempts=1), LlmSettings(), rng))).judgement
    finally:
        await provider.close()
    assert {each.kind for each in judged.kinds} == {"detection", "fuzzing"}
    assert all(each.unparsed == each.unasked == 0 and each.n > 0 for each in judged.kinds)
    assert judged.factual_coherence is not None
    assert judged.unavailable == {}
