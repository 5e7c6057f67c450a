"""The reader of answers holds what it was measured at on labelled answers."""

import pytest

from labelled_answers import CLASSES, Half, labelled_answers, rates

ANSWERS = labelled_answers()
FLOORS = {"good": (0.95, 0.95), "truncated": (0.95, 0.9), "refusal": (0.95, 0.95), "echo": (0.95, 0.95), "wrong language": (0.95, 0.95), "empty": (0.95, 0.95)}
"""Precision and recall, a little below what `python -m benchmarks answers` shows."""


@pytest.mark.parametrize("half", ["tuned on", "held out"])
def test_precision_and_recall_hold_their_floors(half: Half) -> None:
    for rate in rates([answer for answer in ANSWERS if answer.half == half]):
        precision, recall = FLOORS[rate.name]
        assert rate.precision is not None
        assert rate.precision >= precision, rate
        assert rate.recall >= recall, rate


def test_there_are_enough_answers_of_each_class() -> None:
    counted = {name: sum(answer.label == name for answer in ANSWERS) for name in CLASSES}
    assert counted.pop("good") >= 100
    assert all(number >= 50 for number in counted.values()), counted
    assert len({(answer.label, answer.text) for answer in ANSWERS}) > 0.95 * len(ANSWERS)
