"""`plan` as a person meets it: its numbers, their origins, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner, Result

from mistudio_explain.cli.main import app
from mistudio_explain.errors import BadInput

FLEET = ("--features", "1000", "--endpoints", "2", "--slots", "4")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


def planned(*arguments: str) -> dict[str, dict[str, dict[str, object]]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, dict[str, dict[str, object]]] = json.loads(result.output)
    return found


def test_without_any_measurement_a_call_takes_the_specifications_bound_and_says_so() -> None:
    made = planned(*FLEET)
    assert made["assumptions"]["seconds a call"] == {
        "value": 5.0,
        "unit": "seconds",
        "origin": "specification §9.2: less than 5 s for an explanation on average",
    }
    assert made["results"]["hours"]["value"] == pytest.approx(1000 * 5 / 8 / 3600)


def test_tokens_a_second_of_an_endpoint_are_shared_by_its_slots() -> None:
    made = planned(*FLEET, "--tokens-per-s", "100", "--tokens-out", "50", "--prompt-tokens-per-s", "1000", "--tokens-in", "500")
    assert made["results"]["explained"]["value"] == pytest.approx(2 / (50 / 100 + 500 / 1000))


def test_every_assumption_names_its_origin() -> None:
    assumptions = planned(*FLEET, "--watts", "300")["assumptions"]
    assert all(each["origin"] for each in assumptions.values())
    assert assumptions["watts of all endpoints"] == {"value": 600.0, "unit": "watts", "origin": "given: --watts"}


def test_a_local_model_has_no_price_unless_one_is_known() -> None:
    assert planned(*FLEET, "--model", "llama3.1:8b")["results"]["usd"]["value"] is None
    usd = planned(*FLEET, "--model", "gpt-4.1", "--tokens-in", "1000", "--tokens-out", "100")["results"]["usd"]
    assert usd["value"] == pytest.approx(1000 * (1000 * 2 + 100 * 8) / 1e6)
    assert "2026" in str(usd["origin"])


def test_people_get_tables_with_the_same_numbers() -> None:
    result = run(*FLEET)
    assert result.exit_code == 0
    assert all(words in result.output for words in ("What it takes", "Services", "Topics", "What it rests on", "specification §9.2"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--features", "0", "--endpoints", "1"), "--features"),
        (("--features", "nan", "--endpoints", "1"), "--features"),
        (("--features", "10", "--endpoints", "0"), "--endpoints"),
        (("--features", "10", "--endpoints", "1.5"), "--endpoints"),
        (("--features", "10", "--endpoints", "-3"), "--endpoints"),
        ((*FLEET, "--slots", "0"), "--slots"),
        ((*FLEET, "--tokens-per-s", "-1"), "--tokens-per-s"),
        ((*FLEET, "--prompt-tokens-per-s", "100"), "--tokens-per-s"),
        ((*FLEET, "--seconds-per-call", "inf"), "--seconds-per-call"),
        ((*FLEET, "--watts", "nan"), "--watts"),
        ((*FLEET, "--usd-per-kwh", "-0.1"), "--usd-per-kwh"),
        ((*FLEET, "--drain-hours", "0"), "--drain-hours"),
        ((*FLEET, "--target-models", "0"), "--target-models"),
        ((*FLEET, "--feature-kb", "0"), "--feature-kb"),
        ((*FLEET, "--brokers", "0"), "--brokers"),
        ((*FLEET, "--partitions", "100000"), "--partitions"),
    ],
)
def test_an_input_that_makes_no_sense_is_refused_by_name(arguments: tuple[str, ...], named: str) -> None:
    result = run(*arguments)
    assert isinstance(result.exception, BadInput)
    assert named in str(result.exception)
