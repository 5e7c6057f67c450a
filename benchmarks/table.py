"""Prints a benchmark's table in Markdown, with the median, least and greatest of its runs."""

from collections.abc import Mapping, Sequence
from statistics import median


def spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = "") -> None:
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    if note:
        print(f"\n{note}")


def ratios(title: str, runs: Mapping[str, Sequence[float]], *, unit: str, peer: str, ours: str, goal: float, digits: int = 2) -> float:
    """Print what each contender took and peer ÷ ours, run by run; returns the median ratio."""
    quotients = [theirs / mine for theirs, mine in zip(runs[peer], runs[ours], strict=True)]
    rows = [[name, spread(values, digits)] for name, values in runs.items()]
    print_table(title, ("contender", unit), [*rows, [f"{peer} ÷ {ours} (goal ≥ {goal})", spread(quotients, 3)]])
    return median(quotients)
