"""A report's figures: what each shows, drawn, and said in words for whoever does not see it."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from mistudio_explain.reporting.agreement import Agreement, Step
from mistudio_explain.reporting.drawing import UNIT, Row, axis_to, boxes, bubbles, calibration
from mistudio_explain.reporting.origin import ModelFigures
from mistudio_explain.reporting.spread import Quartiles
from mistudio_explain.reporting.survey import GRID, QUALITY_FEATURE_FROM, CategoryFigures, Survey
from mistudio_explain.reporting.wording import counted

_MODELS = 8
"""Models that a figure shows; the table beside it has all."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart: `alternative` says what it shows in numbers, `note` how to read it."""

    name: str
    title: str
    note: str
    alternative: str
    svg: Markup


def figures_of(figures: Survey) -> tuple[Figure, ...]:
    """All figures for which the job has numbers."""
    return (*_scores(figures), *_together(figures), *_time_and_tokens(figures.origin.models), *_agreement(figures.agreement))


def _scores(figures: Survey) -> Iterator[Figure]:
    rows = [Row(f"{each.category} ({each.explained:,})", tuple(_known(each))) for each in figures.categories if tuple(_known(each))]
    if rows:
        said = "; ".join(f"{each.category}: {_words_of(each)}" for each in figures.categories if tuple(_known(each)))
        note = "Upper box quality, lower box accuracy: half of the features lie within a box, on the line the median, within the whiskers all."
        title = "Scores by category"
        yield Figure("scores", title, note, f"{title}. {said}.", boxes(rows, UNIT, f"{title}. {said}."))


def _known(category: CategoryFigures) -> Iterator[Quartiles]:
    yield from (spread for spread in (category.quality_spread, category.accuracy_spread) if spread is not None)


def _words_of(category: CategoryFigures) -> str:
    spreads = (("quality", category.quality_spread), ("accuracy", category.accuracy_spread))
    return ", ".join(f"{name} {_box_in_words(spread)}" for name, spread in spreads if spread is not None)


def _box_in_words(box: Quartiles, digits: int = 2) -> str:
    low, *rest = (f"{value:,.{digits}f}" for value in (box.median, box.lower, box.upper, box.least, box.greatest))
    return "median {}, half between {} and {}, all between {} and {}".format(low, *rest)


def _together(figures: Survey) -> Iterator[Figure]:
    counts = figures.together
    if not counts:
        return
    below = [(y, n) for (x, y), n in counts.items() if (x + 0.5) / GRID < QUALITY_FEATURE_FROM]
    above = [(y, n) for (x, y), n in counts.items() if (x + 0.5) / GRID >= QUALITY_FEATURE_FROM]
    halves = [
        f"{counted(sum(n for _, n in half), 'feature')} {side} a coherence of 0.4 with a mean quality of {_mean_bin(half)}"
        for side, half in (("below", below), ("from", above))
        if half
    ]
    title = "Coherence against quality"
    note = "Coherence to the right, quality upwards; the area of a dot is its number of features, the dashed line the threshold of 0.4."
    said = f"{title}: {' and '.join(halves)}."
    yield Figure("coherence", title, note, said, bubbles(counts, GRID, (QUALITY_FEATURE_FROM,), said))


def _mean_bin(half: list[tuple[int, int]]) -> str:
    return f"about {sum((y + 0.5) / GRID * n for y, n in half) / sum(n for _, n in half):.2f}"


def _time_and_tokens(models: tuple[ModelFigures, ...]) -> Iterator[Figure]:
    most = sorted(models, key=lambda model: (-model.explained, model.model, model.endpoint))[:_MODELS]
    timed = [(_label(model), model.latency) for model in most if model.latency is not None]
    left_out = f" The {_MODELS} models with the most explanations of {len(models)}." if len(models) > _MODELS else ""
    if timed:
        said = "Time of a call, by model. " + "; ".join(f"{label}: {_box_in_words(box, 1)} seconds" for label, box in timed) + "."
        rows = [Row(label, (box,)) for label, box in timed]
        note = f"Seconds from sending to the end of the answer; cached answers left out.{left_out}"
        yield Figure("time", "Time of a call, by model", note, said, boxes(rows, axis_to(max(box.greatest for _, box in timed), " s"), said))
    counted = [(_label(model), tuple(box for box in (model.tokens_in_each, model.tokens_out_each) if box is not None)) for model in most]
    counted = [(label, spreads) for label, spreads in counted if len(spreads) == 2]
    if counted:
        said = "Tokens of an explanation, by model. " + "; ".join(
            f"{label}: prompt {_box_in_words(prompt, 0)}, answer {_box_in_words(answer, 0)}" for label, (prompt, answer) in counted
        )
        rows = [Row(label, spreads) for label, spreads in counted]
        note = f"Upper box prompt, lower box answer; a call for several features is shared among them.{left_out}"
        greatest = max(box.greatest for _, spreads in counted for box in spreads)
        yield Figure("tokens", "Tokens of an explanation, by model", note, f"{said}.", boxes(rows, axis_to(greatest, ""), f"{said}."))


def _label(model: ModelFigures) -> str:
    return f"{model.model} at {model.endpoint} ({model.explained:,})"


def _agreement(agreement: Agreement) -> Iterator[Figure]:
    if agreement.by_people:
        title = "Accuracy against people"
        said = f"{title}: {_steps_in_words(agreement.by_people, 'right')}."
        note = "Accuracy to the right, share of reviews that say right upwards, with 95% intervals and numbers of reviews; on the diagonal both agree."
        yield Figure("people", title, note, said, calibration(agreement.by_people, said, is_diagonal=True))
    if agreement.by_judge:
        title = "Accuracy against the judge"
        said = f"{title}: {_steps_in_words(agreement.by_judge, 'balanced accuracy')}."
        note = "Accuracy to the right, the judge's mean balanced accuracy upwards, with numbers of features; a judge that guesses has 0.5."
        yield Figure("judge", title, note, said, calibration(agreement.by_judge, said, is_diagonal=False))


def _steps_in_words(steps: tuple[Step, ...], name: str) -> str:
    return "; ".join(f"at an accuracy of {step.accuracy:.2f} {name} {step.other:.2f} ({step.n:,})" for step in steps)
