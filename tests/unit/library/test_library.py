"""The library: tables out of features, in scripts and notebooks."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import mistudio_explain as mse
from mistudio_explain.errors import BadInput, ExplainError, Unreachable
from mistudio_explain.events.explanation import OutcomeKind
from mistudio_explain.settings import QualitySettings, Settings
from mistudio_explain.validation.offline import Scorer, score_features
from mistudio_explain.validation.validator import Validator
from unit.context.finding import ANIMALS, real_features
from unit.intake.find_job_files import GEMMA, GPT2
from unit.llm.fake_llm import FakeLlm, OllamaWire, Reply

DOCS = Path(__file__).parents[3] / "docs" / "library.md"
THINGS = ("hammer", "kettle", "violin", "ladder", "candle", "basket", "mirror", "pillow", "rocket", "anchor")


def features() -> list[dict[str, Any]]:
    return [
        {"feature_id": number, "pattern_keywords": ["hid"], "top_activations": [{"text": f"A {animal} hid the {thing}."} for animal in ANIMALS[:10]]}
        for number, thing in enumerate(THINGS)
    ]


SAID = [f"animals hiding a {thing}" for thing in THINGS]


def test_the_documented_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(DOCS.parents[1])
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)  # the text of our own documentation
    shown = capsys.readouterr().out
    assert "feature  verdict" in shown
    assert "mentions of a hammer" in shown


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys, mistudio_explain; print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'pydantic', 'tokenizers') or 'explain.' in m])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_a_table_has_what_offline_scoring_gives() -> None:
    there = mse.features_of(features())
    expected = score_features(there, SAID, Scorer.of(Validator.load(QualitySettings()), Settings()))
    assert list(mse.score(features(), SAID)) == expected


def test_explanations_by_key_score_only_those_features_and_the_others_stay_their_background() -> None:
    every = mse.score(features(), SAID)
    assert list(mse.score(features(), {"2": SAID[2], "5": SAID[5]})) == [every[2], every[5]]
    assert list(mse.score(features(), [said if place == 4 else None for place, said in enumerate(SAID)])) == [every[4]]


@pytest.mark.parametrize("path", [GPT2, GEMMA], ids=["specification", "find"])
def test_a_file_and_what_is_decoded_from_it_give_the_same_scores(path: Path) -> None:
    said = {feature.feature_key: "words about numbers" for feature in real_features(str(path))}
    from_file = {row.subject.feature_key: row for row in mse.score(path, said, target_model="m" if path == GEMMA else None)}
    decoded = mse.score(json.loads(path.read_text(encoding="utf-8")), said, target_model="m")
    assert {row.subject.feature_key: row for row in decoded} == from_file


@pytest.mark.parametrize(
    ("given", "said", "message"),
    [
        ([{"feature_id": 1, "top_activations": [{"text": 5}]}], ["x"], r"\$\[0\]\.top_activations\[0\]\.text: the number 5, where a text was expected"),
        ([{"feature_id": 1}, 5], ["x", "y"], r"\$\[1\]: the number 5, where an object"),
        ([{"feature_id": 1, "coherence_score": float("nan")}], ["x"], r"\$\[0\]\.coherence_score"),
        ([{"feature_id": 1}], ["x", "y"], "2 for 1 features"),
        ([{"feature_id": 1}], "x", "one for each"),
        ([{"feature_id": 1}], {"7": "x"}, "there is no feature '7'"),
        ({"nothing": []}, [], "no list of features"),
        ({"job_id": "j", "results": 5}, [], r"\$\.results: no list"),
    ],
)
def test_what_cannot_be_read_is_named(given: Any, said: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        mse.score(given, said)


def test_a_printed_table_is_readable_and_harmless() -> None:
    table = mse.score(features(), [*SAID[:-1], "red \x1b[31m‮\nevil <b> " + "long " * 50])
    lines = repr(table).splitlines()
    assert lines[0].split() == ["feature", "verdict", "accuracy", "quality", "safety", "explanation"]
    assert len(lines) == 11
    assert "\x1b" not in repr(table)
    assert "‮" not in repr(table)
    assert max(map(len, lines)) < 160
    assert "<b>" not in table._repr_html_()
    assert "&lt;b&gt;" in table._repr_html_()


def test_a_long_table_shows_its_first_rows_and_says_how_many_more_there_are() -> None:
    table = mse.score(features() * 6, SAID * 6)
    assert repr(table).splitlines()[-1] == "... 10 more"
    assert len(table[:3]) == 3
    assert isinstance(table[:3], mse.Table)


def test_rows_have_the_columns_of_the_csv_report_as_plain_values() -> None:
    row = mse.score(features(), SAID).to_rows()[0]
    assert row["explanation"] == SAID[0]
    assert type(row["verdict"]) is str
    assert row["accuracy"] > 0.5
    assert row["model"] is None


def test_without_pandas_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExplainError, match="pip install pandas"):
        mse.score(features(), SAID).to_pandas()


class Llm:
    """An Ollama with one model, in a thread of its own, for callers that block."""

    def __init__(self, answer: Callable[[Reply], Awaitable[None]]) -> None:
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self.fake = FakeLlm(answer)

    def __enter__(self) -> str:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.fake.__aenter__(), self._loop).result(10)
        return self.fake.url

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.fake.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


async def about_the_thing(reply: Reply) -> None:
    """Answers with the thing that stands in the prompt; nothing usable for the kettle."""
    if reply.path == "/api/tags":
        await reply.whole(200, json.dumps({"models": [{"model": "m", "digest": "d"}]}).encode())
        return
    if reply.path != "/api/chat":
        await reply.whole(200, b"{}")
        return
    asked = "\n".join(message["content"] for message in reply.body["messages"])
    thing = next(thing for thing in THINGS if thing in asked)
    said = {"label": f"hidden {thing}", "pattern": f"Animals hide a {thing}.", "significance": "It matters.", "implications": ""}
    wire = OllamaWire()
    await reply.start()
    await reply.send(wire.piece("no JSON" if thing == "kettle" else json.dumps(said)) + wire.last())
    await reply.end()


def hasty() -> Settings:
    return Settings.model_validate({"generation": {"retry_wait_s": 0}})


def test_explain_asks_the_server_and_scores_its_answers_in_order() -> None:
    told: list[tuple[int, int]] = []
    with Llm(about_the_thing) as url:
        table = mse.explain(features(), url=url, settings=hasty(), progress=lambda done, of: told.append((done, of)))
    assert [row.subject.feature_key for row in table] == [str(number) for number in range(10)]
    assert table[0].answer is not None
    assert table[0].answer.pattern == "Animals hide a hammer."
    assert table[0].accuracy is not None
    assert table[0].accuracy.p > 0.5
    assert table[0].generation is not None
    assert table[0].generation.model == "m"
    assert table[0].background_features == 9
    assert table[1].outcome is OutcomeKind.FAILED
    assert "no usable answer" in (table[1].reason or "")
    assert told[-1] == (10, 10)
    assert "failed" in repr(table)


def test_explain_works_where_an_event_loop_runs_already_as_in_a_notebook() -> None:
    async def cell() -> mse.Table:
        return mse.explain(features()[:1], url=url, settings=hasty())

    with Llm(about_the_thing) as url:
        table = asyncio.run(cell())
    assert table[0].outcome is OutcomeKind.EXPLAINED


def test_poor_features_are_explained_unless_they_are_to_be_skipped() -> None:
    poor = [feature | {"coherence_score": 0.1} for feature in features()[:1]]
    with Llm(about_the_thing) as url:
        assert mse.explain(poor, url=url)[0].outcome is OutcomeKind.EXPLAINED
        assert mse.explain(poor, url=url, explain_poor=False)[0].outcome is OutcomeKind.SKIPPED


def test_a_feature_without_a_text_fails_and_says_why() -> None:
    with Llm(about_the_thing) as url:
        (row,) = mse.explain([{"feature_id": 1}], url=url)
    assert row.outcome is OutcomeKind.FAILED
    assert "has no texts" in (row.reason or "")


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        mse.explain(features(), url="http://127.0.0.1:9")
