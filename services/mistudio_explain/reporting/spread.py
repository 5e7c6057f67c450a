"""How numbers of a job are spread."""

import statistics
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Distribution:
    """How values between 0 and 1 are spread; `bins` are of equal width, the last one with its upper end."""

    n: int
    least: float
    median: float
    mean: float
    greatest: float
    bins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The five numbers of a box: a quarter of the `n` values lies between any two neighbours."""

    n: int
    least: float
    lower: float
    median: float
    upper: float
    greatest: float


def numbers() -> "array[float]":
    """No values yet; eight bytes for each that comes."""
    return array("d")


def mean(values: "array[float]") -> float | None:
    """The mean; None without values."""
    return statistics.fmean(values) if values else None


def distribution(values: "array[float]", bins: int) -> Distribution | None:
    """Spread of values between 0 and 1 over `bins` equal bins; None without values."""
    if not values:
        return None
    counts = Counter(bin_of(value, bins) for value in values)
    return Distribution(
        n=len(values),
        least=min(values),
        median=statistics.median(values),
        mean=statistics.fmean(values),
        greatest=max(values),
        bins=tuple(counts[i] for i in range(bins)),
    )


def bin_of(value: float, bins: int) -> int:
    """Which of `bins` equal bins between 0 and 1 a value falls into; what lies outside falls into the nearest."""
    return max(0, min(int(value * bins), bins - 1))


def quartiles(values: Sequence[float]) -> Quartiles | None:
    """The five numbers, quartiles interpolated between neighbours as statistics.quantiles does inclusively; None without values."""
    if not values:
        return None
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
    return Quartiles(len(values), min(values), lower, median, upper, max(values))
