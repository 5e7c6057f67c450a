"""What a judge's answers come to, and how delphi is told."""

import json

import pytest
from judging_samples import background, outcome

from mistudio_explain.judging.answer import NoList, read_numbers
from mistudio_explain.judging.delphi import FOLDERS, delphi_name, delphi_scores
from mistudio_explain.judging.examples import Example, Source
from mistudio_explain.judging.stage import Answered, examples_of, figures, plan
from mistudio_explain.settings import JudgeSettings


def answered(source: Source, accepted: bool | None, times: int = 1, *, asked: bool = True) -> list[Answered]:
    return [Answered(Example("text", source, 0.0, ("text",), ()), accepted, asked)] * times


@pytest.mark.parametrize(
    "text", ["[1, 0, 1]", "Answer: [1,0,1].", "```json\n[1, 0, 1]\n```", "[1, 0, 1] so it is [1, 0, 1]", "[true, false, true]", "x [9] y [1, 0, 1]"]
)
def test_a_list_is_read_whatever_stands_round_it(text: str) -> None:
    assert read_numbers(text, 3, 1) == (1, 0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "[1, 0]",
        "[1, 0, 1, 1]",
        "[1, 0, 2]",
        "[1, 0, -1]",
        "[1, 0, 0.5]",
        '["1", "0", "1"]',
        "[1, 0, null]",
        "1, 0, 1",
        "[1, 0, 1] or [1, 1, 1]",
        "[1, 0, 1",
    ],
)
def test_any_other_answer_is_no_answer(text: str) -> None:
    with pytest.raises(NoList):
        read_numbers(text, 3, 1)


def test_figures_by_example() -> None:
    judged = figures(
        "detection",
        [*answered("own", True, 3), *answered("own", False), *answered("random", False, 2), *answered("siblings", False), *answered("siblings", True)],
        "held_out",
    )
    assert (judged.n, judged.positives, judged.negatives) == (8, 4, 4)
    assert (judged.tpr, judged.tnr, judged.balanced_accuracy) == (0.75, 0.75, 0.75)
    random, siblings = judged.against
    assert (random.source, random.n, random.tnr, random.balanced_accuracy) == ("random", 2, 1.0, 0.875)
    assert (siblings.source, siblings.n, siblings.tnr, siblings.balanced_accuracy) == ("siblings", 2, 0.5, 0.625)


def test_what_was_not_read_or_not_asked_is_neither_right_nor_wrong() -> None:
    judged = figures(
        "detection",
        [
            *answered("own", True, 2),
            *answered("own", None, 5),
            *answered("random", False),
            *answered("random", None, 2),
            *answered("random", None, 3, asked=False),
        ],
        "seen",
    )
    assert (judged.tpr, judged.tnr, judged.balanced_accuracy) == (1.0, 1.0, 1.0)
    assert (judged.n, judged.unparsed, judged.unasked) == (3, 7, 3)
    assert (judged.against[0].n, judged.against[0].unparsed) == (1, 5)


@pytest.mark.parametrize("source", ["own", "random"])
def test_with_one_side_unanswered_there_is_no_balanced_accuracy(source: Source) -> None:
    other: Source = "random" if source == "own" else "own"
    judged = figures("detection", [*answered(source, True, 2), *answered(other, None, 2)], "seen")
    assert judged.balanced_accuracy is None
    assert {judged.tpr is None, judged.tnr is None} == {True, False}


def test_delphi_gets_every_example_that_was_asked_about_in_its_own_words() -> None:
    settings = JudgeSettings(kinds=("fuzzing",))
    examples = examples_of(plan(outcome(), background(), settings).questions, "fuzzing")
    given = [Answered(example, accepted) for example, accepted in zip(examples, [True, False, None] * 9, strict=False)]
    scores = json.loads(json.dumps(delphi_scores([*given, Answered(examples[0], None, asked=False)])))
    assert len(scores) == len(given)
    assert set(scores[0]) == {"str_tokens", "activations", "distance", "activating", "prediction", "probability", "correct"}
    for each, answer in zip(scores, given, strict=True):
        assert each["activating"] is answer.example.activating
        assert each["prediction"] is answer.accepted
        assert each["correct"] is (None if answer.accepted is None else answer.accepted == answer.example.activating)
        assert len(each["str_tokens"]) == len(each["activations"])
        assert max(each["activations"]) > 0
        assert "".join(each["str_tokens"]).count("dog") == 1


def test_delphi_finds_the_latent_in_the_files_name() -> None:
    assert delphi_name("job", "7", "layers.3.mlp") == "layers.3.mlp_latent7.txt"
    named = delphi_name("a/b", "some name", None)
    assert named.startswith("a-b_latent")
    assert int(named.removesuffix(".txt").split("latent")[-1]) >= 0
    assert named == delphi_name("a/b", "some name", None)
    assert FOLDERS == {"detection": "detection", "fuzzing": "fuzz"}
