"""Labelled answers of explainer models: what the reader of answers takes them for, class by class."""

from collections import Counter

from benchmarks.table import print_table
from labelled_answers import CLASSES, labelled_answers, rates


def main() -> None:
    answers = labelled_answers()
    for half in ("tuned on", "held out"):
        here = [answer for answer in answers if answer.half == half]
        rows = [[rate.name, str(rate.labelled), "-" if rate.precision is None else f"{rate.precision:.3f}", f"{rate.recall:.3f}"] for rate in rates(here)]
        wrong = Counter(f"{answer.label} taken for {answer.taken_for}" for answer in here if answer.label != answer.taken_for)
        note = "Wrong: " + ("; ".join(f"{count} {what}" for what, count in sorted(wrong.items())) or "none") + "."
        print_table(f"Answers, {half}", ("class", "labelled", "precision", "recall"), rows, note=note)
    published = sum(answer.taken_for == "good" for answer in answers if answer.label != "good")
    print(f"\nUnusable answers that would be published: {published} of {sum(answer.label != CLASSES[0] for answer in answers)}.")
