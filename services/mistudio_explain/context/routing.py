"""The routing policy: a file that says which explainer models a feature asks for."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import Category, Complexity, Tier

SHIPPED = "routing.toml"
_TABLE = re.compile(r"^\s*\[(\[?)([^\]]+)\]")


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule can tell features apart by."""

    category: Category
    complexity: Complexity
    tier: Tier


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelNeeds(_Table):
    """What a model needs and is good for; None where the file does not say."""

    gpu_memory_gb: float | None = Field(default=None, gt=0)
    parameters_billion: float | None = Field(default=None, gt=0)
    bits_per_weight: float | None = Field(default=None, gt=0, le=32)
    use_cases: tuple[str, ...] = ()

    @property
    def weights_gb(self) -> float | None:
        """What the weights alone take, 10^9 bytes."""
        if self.parameters_billion is None or self.bits_per_weight is None:
            return None
        return self.parameters_billion * self.bits_per_weight / 8

    @property
    def arithmetic(self) -> str:
        """How much memory it takes, and why, for people; empty when that is not known."""
        if self.gpu_memory_gb is None:
            return ""
        weights = self.weights_gb
        if weights is None:
            return f"needs {self.gpu_memory_gb:g} GB"
        product = f"{self.parameters_billion:g} billion weights x {self.bits_per_weight:g} bits / 8 = {weights:.1f} GB"
        return f"needs {self.gpu_memory_gb:g} GB: {product}, and its context"


class Rule(_Table):
    """Which features it is for (a condition that is absent fits all), and the models that they ask for, in order."""

    models: tuple[str, ...] = Field(min_length=1)
    category: tuple[Category, ...] | None = Field(default=None, min_length=1)
    complexity: tuple[Complexity, ...] | None = Field(default=None, min_length=1)
    tier: tuple[Tier, ...] | None = Field(default=None, min_length=1)

    def fits(self, case: Case) -> bool:
        """Whether a feature is one of those that it is for."""
        conditions = (self.category, case.category), (self.complexity, case.complexity), (self.tier, case.tier)
        return all(allowed is None or value in allowed for allowed, value in conditions)


class RoutingPolicy(_Table):
    """All rules, in the order in which they are tried, and what is known of the models."""

    models: dict[str, ModelNeeds] = {}
    rules: tuple[Rule, ...] = Field(min_length=1)

    def models_for(self, case: Case) -> tuple[str, ...]:
        """The models that a feature asks for, in order."""
        return next(rule.models for rule in self.rules if rule.fits(case))

    def needs(self, model: str) -> ModelNeeds:
        """What is known of a model."""
        return self.models.get(model, ModelNeeds())


def load_routing(path: Path | None = None) -> RoutingPolicy:
    """Read a policy; absent: the one that comes along.

    Raises BadSettings, naming file, line and key, for one that cannot be read, has an unknown key, category, complexity or
    tier, a rule without models or with one twice, a rule that no feature can reach, features that no rule fits, or a model
    whose weights alone are more than its memory.
    """
    origin = str(path or SHIPPED)
    try:
        text = (path or files(__package__) / SHIPPED).read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"routing policy {origin} cannot be read: {error}") from error
    try:
        policy = RoutingPolicy.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = [part for part in first["loc"] if part != "[key]"]
        raise _wrong(origin, text, place, first["msg"]) from error
    for where, problem in _problems(policy):
        raise _wrong(origin, text, where, problem)
    return policy


def _problems(policy: RoutingPolicy) -> Iterator[tuple[Sequence[str | int], str]]:
    """What is wrong with a policy whose keys and values are right, and where."""
    for name, needs in policy.models.items():
        if needs.gpu_memory_gb is not None and needs.weights_gb is not None and needs.gpu_memory_gb < needs.weights_gb:
            yield ("models", name, "gpu_memory_gb"), f"{needs.gpu_memory_gb:g} GB cannot hold its weights, which alone are {needs.weights_gb:.1f} GB"
    left = {Case(*values) for values in product(Category, get_args(Complexity), Tier)}
    for number, rule in enumerate(policy.rules):
        if twice := [model for model in rule.models if rule.models.count(model) > 1]:
            yield ("rules", number, "models"), f"{twice[0]!r} stands twice"
        reached = {case for case in left if rule.fits(case)}
        if not reached:
            yield ("rules", number), "no feature can reach this rule: the rules before it fit all that it fits"
        left -= reached
    if left:
        case = min(left, key=lambda case: (case.category, case.complexity, case.tier))
        missed = f"category {case.category}, complexity {case.complexity}, tier {case.tier}"
        yield ("rules", len(policy.rules) - 1), f"no rule fits a feature of {missed}; end with a rule that has nothing but models"


def _wrong(origin: str, text: str, place: Sequence[str | int], problem: str) -> BadSettings:
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
    return BadSettings(f"routing policy {origin}, line {_line_of(text, place)}, {key or 'the file'}: {problem}")


def _line_of(text: str, place: Sequence[str | int]) -> int:
    """The line of a key, or of the table that it is missing from; the last line where even that is missing."""
    lines = text.splitlines()
    start = next((number for number, head in _tables(lines) if place and head == list(place[: len(head)]) and len(head) > 1), None)
    if start is None:
        return max(1, len(lines))
    key = next((part for part in place[2:] if isinstance(part, str)), None)
    inside = range(start, next((number - 1 for number, _ in _tables(lines) if number > start), len(lines)))
    return next((index + 1 for index in inside if key is not None and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", lines[index])), start)


def _tables(lines: Sequence[str]) -> Iterator[tuple[int, list[str | int]]]:
    """The line number and the place of every table."""
    rules = 0
    for number, line in enumerate(lines, 1):
        if (match := _TABLE.match(line)) is None:
            continue
        if match[1]:
            yield number, [match[2].strip(), rules]
            rules += 1
        else:
            table, _, name = match[2].partition(".")
            yield number, [table.strip(), name.strip().strip("\"'")]
