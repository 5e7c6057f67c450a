"""Whether a probability of 0.8 means 8 of 10: the expected calibration error, and a picture of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mistudio_explain.validation.lexical import Floats

BINS = 10
SIMULATIONS = 500


@dataclass(frozen=True, slots=True)
class Bin:
    """Probabilities of about the same size: their mean, the share that was right, and how many."""

    said: float
    right: float
    n: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """The error of probabilities, and what it would be of perfectly calibrated ones of the same number."""

    ece: float
    floor: float
    """95% quantile of the error of a perfectly calibrated score with these very probabilities, simulated."""
    n: int
    bins: tuple[Bin, ...]


def calibration(said: Floats, right: Floats, seed: int = 0) -> Calibration:
    """Expected calibration error with BINS bins of equal mass: the mean distance of what was said from what was right."""
    order = np.argsort(said, kind="stable")
    said, right = said[order], right[order]
    drawn = np.random.default_rng(seed)
    perfect = [_error(said, (drawn.random(len(said)) < said).astype(np.float64)) for _ in range(SIMULATIONS)]
    bins = tuple(Bin(float(said[rows].mean()), float(right[rows].mean()), len(rows)) for rows in _bins(len(said)))
    return Calibration(_error(said, right), float(np.quantile(perfect, 0.95)), len(said), bins)


def picture(curves: Mapping[str, Calibration]) -> str:
    """Reliability curves as SVG: said to the right, right upwards; on the diagonal a probability means what it says."""
    side, edge = 360, 44
    colours = ("#1b6ca8", "#c4572b", "#3c8d40", "#7a4fa3")
    scale = side - 2 * edge

    def at(x: float, y: float) -> str:
        return f"{edge + scale * x:.1f},{side - edge - scale * y:.1f}"

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side + 22 * len(curves)}" font-family="sans-serif" font-size="11">',
        f'<rect width="{side}" height="{side + 22 * len(curves)}" fill="#fff"/>',
        f'<rect x="{edge}" y="{edge}" width="{scale}" height="{scale}" fill="none" stroke="#bbb"/>',
        f'<polyline points="{at(0, 0)} {at(1, 1)}" stroke="#bbb" stroke-dasharray="4 4" fill="none"/>',
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = at(tick, 0).split(",")
        lines.append(f'<text x="{x}" y="{float(y) + 16:.1f}" text-anchor="middle">{tick:g}</text>')
        x, y = at(0, tick).split(",")
        lines.append(f'<text x="{float(x) - 8:.1f}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    lines.append(f'<text x="{side / 2}" y="{side - 8}" text-anchor="middle">probability said</text>')
    lines.append(f'<text x="12" y="{side / 2}" text-anchor="middle" transform="rotate(-90 12 {side / 2})">share right</text>')
    for number, (name, curve) in enumerate(curves.items()):
        colour = colours[number % len(colours)]
        lines.append(f'<polyline points="{" ".join(at(one.said, one.right) for one in curve.bins)}" stroke="{colour}" stroke-width="2" fill="none"/>')
        lines += ['<circle cx="{}" cy="{}" r="3" fill="{}"/>'.format(*at(one.said, one.right).split(","), colour) for one in curve.bins]
        below = side + 14 + 22 * number
        lines.append(f'<rect x="{edge}" y="{below - 9}" width="10" height="10" fill="{colour}"/>')
        lines.append(f'<text x="{edge + 16}" y="{below}">{name}: ECE {curve.ece:.3f}, n = {curve.n}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _bins(count: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return [rows for rows in np.array_split(np.arange(count), BINS) if len(rows)]


def _error(said: Floats, right: Floats) -> float:
    return sum(len(rows) * abs(float(said[rows].mean()) - float(right[rows].mean())) for rows in _bins(len(said))) / len(said)
