"""Numbers that say where they come from, and those that were measured."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mistudio_explain.errors import BadInput


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and who says so. One that is not known has no value, and its origin says why."""

    value: float | None
    unit: str
    origin: str

    @property
    def known(self) -> float:
        """The value of a figure that is known to be known."""
        assert self.value is not None, self.origin
        return self.value


def given(option: str, value: float, unit: str, *, above: float = 0.0, whole: bool = False) -> Figure:
    """What a person said by an option. Raises BadInput for what is no number greater than `above`."""
    if not math.isfinite(value) or value <= above or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise BadInput(f"{option} is {value:g}; it must be {kind} above {above:g}" + (f" ({unit})" if unit else ""))
    return Figure(value, unit, f"given: {option}")


_Amount = Annotated[float, Field(ge=0)]


class Measured(BaseModel):
    """What was measured of this version (capacity/measured.toml)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str
    cpu_ms: Mapping[str, _Amount]
    """CPU of one core for each feature, transport and all, by service."""
    feature_bytes: tuple[int, int]
    """The two sizes of features that `topic_bytes` was measured with."""
    topic_bytes: Mapping[str, tuple[_Amount, _Amount]]
    """Bytes in a topic's log for each feature, by topic, at these two sizes."""
    store_bytes: tuple[_Amount, _Amount]
    """Bytes in the store for each feature, SQLite, at these two sizes."""

    def cpu(self, service: str) -> Figure:
        """CPU for each feature."""
        return Figure(self.cpu_ms[service], "ms of one core a feature", self.origin)

    def bytes_at(self, sizes: tuple[float, float], feature_bytes: float) -> float:
        """Bytes at a feature's size, on the straight line through the two that were measured, but never less than nothing.

        Beyond the larger one that is too much for all topics but find.features: a prompt's texts are bounded.
        """
        (small, large), (least, most) = self.feature_bytes, sizes
        return max(0.0, least + (feature_bytes - small) / (large - small) * (most - least))


@cache
def measured() -> Measured:
    """The measured figures that come along."""
    text = (resources.files("mistudio_explain.capacity") / "measured.toml").read_text(encoding="utf-8")
    return Measured.model_validate(tomllib.loads(text))
