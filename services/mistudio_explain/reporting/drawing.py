"""Charts as SVG, drawn by small pure functions: the same numbers give the same characters.

A chart is a fixed 360 units wide and scales as a whole. What it is coloured with are classes, for the page's style, or
`standalone`, for whoever has no style of their own.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from mistudio_explain.reporting.agreement import Step
from mistudio_explain.reporting.evidence import visible
from mistudio_explain.reporting.spread import Quartiles

WIDTH = 360
_LEFT, _RIGHT = 34, 352
_LABEL_CHARACTERS = 44
_PLAIN = (
    "text{font:10px sans-serif;fill:#1d2126}.quiet{fill:#5c646e}.grid{stroke:#e2dfd8}.axis,.whisker{stroke:#5c646e}"
    ".mark{stroke:#b4483a;stroke-dasharray:3 3}.diagonal{stroke:#5c646e;stroke-dasharray:2 3}"
    ".box,.dot{fill:#2f5d8a;fill-opacity:.55}.second{fill:#a9812e;fill-opacity:.6}.middle{stroke:#1d2126;stroke-width:2}"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a chart of boxes: its label, and one box or two."""

    label: str
    boxes: tuple[Quartiles, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """The numbers from `least` to `greatest`, with a tick at each of `ticks`."""

    least: float
    greatest: float
    ticks: tuple[float, ...]
    unit: str = ""

    def at(self, value: float, start: float, end: float) -> float:
        """Where between `start` and `end` a value stands; what lies outside stands at the edge."""
        span = self.greatest - self.least
        return start + (end - start) * max(0.0, min(1.0, (value - self.least) / span))


UNIT = Axis(0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))


def axis_to(greatest: float, unit: str) -> Axis:
    """An axis from 0 with four or five round ticks, the last at or beyond `greatest`."""
    if greatest <= 0:
        return Axis(0.0, 1.0, (0.0, 1.0), unit)
    rough = greatest / 4
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    count = math.ceil(greatest / step - 1e-9)
    return Axis(0.0, step * count, tuple(step * i for i in range(count + 1)), unit)


def boxes(rows: Sequence[Row], axis: Axis, alternative: str) -> Markup:
    """Rows of boxes: whiskers to the least and the greatest value, the box between the quartiles, a line at the median."""
    heights = [20 + 13 * len(row.boxes) for row in rows]
    bottom = sum(heights) + 4
    parts = [*_ticks(axis, bottom)]
    top = 0
    for row, height in zip(rows, heights, strict=True):
        parts.append(_text(2, top + 13, row.label))
        for number, box in enumerate(row.boxes):
            parts.extend(_box(box, axis, top + 19 + 13 * number, "second" if number else "box"))
        top += height
    return _svg(parts, bottom + 18, alternative)


def bubbles(counts: Mapping[tuple[int, int], int], bins: int, marks: Iterable[float], alternative: str) -> Markup:
    """Pairs of numbers between 0 and 1, in `bins` by `bins` fields: the area of a dot is the number of pairs in its field."""
    height, bottom = 240, 216
    most = max(counts.values(), default=1)
    parts = [*_ticks(UNIT, bottom), *_side_ticks(bottom)]
    parts.extend(_line("mark", (_x(mark), 8), (_x(mark), bottom)) for mark in marks)
    for (x, y), n in counts.items():
        radius = max(1.5, 9 * math.sqrt(n / most))
        parts.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                _n(_x((x + 0.5) / bins)), _n(_y((y + 0.5) / bins, bottom)), _n(radius), f"{n:,}"
            )
        )
    return _svg(parts, height, alternative)


def calibration(steps: Sequence[Step], alternative: str, *, is_diagonal: bool) -> Markup:
    """Mean accuracy of each step against what others said of it, whiskers where there is an interval; the diagonal is perfect agreement."""
    height, bottom = 240, 216
    parts = [*_ticks(UNIT, bottom), *_side_ticks(bottom)]
    if is_diagonal:
        parts.append(_line("diagonal", (_x(0), _y(0, bottom)), (_x(1), _y(1, bottom))))
    for step in steps:
        x = _x(step.accuracy)
        if step.low is not None and step.high is not None:
            parts.append(_line("whisker", (x, _y(step.low, bottom)), (x, _y(step.high, bottom))))
        parts.append(Markup('<circle class="dot" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>').format(_n(x), _n(_y(step.other, bottom)), f"{step.n:,}"))
        parts.append(_text(x + 7, _y(step.other, bottom) - 5, f"{step.n:,}", "quiet"))
    return _svg(parts, height, alternative)


def standalone(svg: str) -> bytes:
    """A chart as a file of its own, in the colours of a light page."""
    return str(svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f"><style>{_PLAIN}</style>", 1).encode()


def _svg(parts: Iterable[Markup], height: float, alternative: str) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, _n(height), visible(alternative))
    return head + Markup("").join(parts) + Markup("</svg>")


def _box(box: Quartiles, axis: Axis, top: float, kind: str) -> Iterator[Markup]:
    least, lower, median, upper, greatest = (axis.at(value, _LEFT, _RIGHT) for value in (box.least, box.lower, box.median, box.upper, box.greatest))
    middle = top + 4.5
    yield _line("whisker", (least, middle), (greatest, middle))
    yield Markup('<rect class="{}" x="{}" y="{}" width="{}" height="9"/>').format(kind, _n(lower), _n(top), _n(max(upper - lower, 1.5)))
    yield _line("middle", (median, top - 1), (median, top + 10))


def _ticks(axis: Axis, bottom: float) -> Iterator[Markup]:
    for tick in axis.ticks:
        x = axis.at(tick, _LEFT, _RIGHT)
        yield _line("grid", (x, 4), (x, bottom))
        is_last = tick == axis.ticks[-1]
        yield _text(x, bottom + 13, f"{tick:g}{axis.unit if is_last else ''}", "quiet", "end" if is_last else "middle")
    yield _line("axis", (_LEFT, bottom), (_RIGHT, bottom))


def _side_ticks(bottom: float) -> Iterator[Markup]:
    for tick in UNIT.ticks:
        y = _y(tick, bottom)
        yield _line("grid", (_LEFT, y), (_RIGHT, y))
        yield _text(_LEFT - 5, y + 3, f"{tick:g}", "quiet", "end")
    yield _line("axis", (_LEFT, 8), (_LEFT, bottom))


def _x(value: float) -> float:
    return UNIT.at(value, _LEFT, _RIGHT)


def _y(value: float, bottom: float) -> float:
    return UNIT.at(value, bottom, 8)


def _line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *map(_n, (*start, *end)))


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> Markup:
    shown = visible(text)
    cut = shown if len(shown) <= _LABEL_CHARACTERS else shown[: _LABEL_CHARACTERS - 1] + "…"
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(kind, _n(x), _n(y), anchor, escape(cut))


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
