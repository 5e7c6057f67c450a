"""The description of the topics: it is AsyncAPI, and says what topics and documentation say."""

import json
import re
from pathlib import Path
from typing import Any

import avro.schema
import jsonschema
import pytest

from mistudio_explain.events import topics
from mistudio_explain.kafka.asyncapi import CHANNELS, document
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.settings import KafkaSettings, Settings

ROOT = Path(__file__).parents[3]
SHAPE = json.loads((ROOT / "tests/data/asyncapi-3.0.0.schema.json").read_text())


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document(Settings(), "1.2.3")))
    return found


def test_it_has_the_shape_that_asyncapi_3_prescribes(described: dict[str, Any]) -> None:
    jsonschema.validate(described, SHAPE)


@pytest.mark.parametrize(
    "broken", [{"asyncapi": "2.6.0"}, {"channels": {"a": {"adress": "x"}}}, {"operations": {"a": {"action": "publish", "channel": {"$ref": "#/channels/a"}}}}]
)
def test_the_shape_refuses_what_is_no_asyncapi(described: dict[str, Any], broken: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(described | broken, SHAPE)


def references(content: Any) -> list[str]:
    if isinstance(content, dict):
        return [content["$ref"]] if "$ref" in content else [found for each in content.values() for found in references(each)]
    return [found for each in content for found in references(each)] if isinstance(content, list) else []


def test_every_reference_leads_somewhere_in_it(described: dict[str, Any]) -> None:
    found = references(described)
    assert len(found) > 2 * len(CHANNELS)
    for reference in found:
        here: Any = described
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]


def test_every_topic_is_described_and_no_other() -> None:
    described = {channel.topic.replace("{lane}", lane) for channel in CHANNELS for lane in ("express", "shared")}
    assert described == {spec.name for spec in topic_specs(Settings())}


def test_partitions_and_retention_are_those_of_the_settings() -> None:
    found = document(Settings(kafka=KafkaSettings(partitions=24)), "1.2.3")["channels"]
    assert found["explain.explanations"]["bindings"]["kafka"]["partitions"] == 24
    assert found["explain.explanations"]["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == ["compact"]
    assert found["explain.tokens"]["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] == 3_600_000


def test_payloads_are_avro_schemas(described: dict[str, Any]) -> None:
    for message in described["components"]["messages"].values():
        avro.schema.parse(json.dumps(message["payload"]["schema"]))


def test_it_agrees_with_the_table_of_topics_for_people() -> None:
    """docs/events.md: topic, event and key of each row."""
    rows = re.findall(r"^\| (`[^|]+) \| (\w+) \| (.+?) \| ", (ROOT / "docs/events.md").read_text(), re.MULTILINE)
    told = {("mistudio." + topic, event, key.replace("`", "").replace(r"\|", "|")) for names, event, key in rows for topic in re.findall(r"`([^`]+)`", names)}
    assert told == {(channel.topic.replace("{lane}", "<lane>"), channel.event.__name__, channel.key) for channel in CHANNELS}


def test_it_names_no_place_outside(described: dict[str, Any]) -> None:
    assert "http" not in json.dumps(described)
    assert topics.EXPLANATIONS in json.dumps(described)
