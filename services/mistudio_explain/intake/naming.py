"""What miStudioFind calls the parts of a feature, in both of its files, and what the events call them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mistudio_explain.intake.document import JsonPath


@dataclass(frozen=True, slots=True)
class Naming:
    """How one record of an event is made from one object of a file.

    `names` has, for each field of the record, the names under which a file may have it; the first one that is there
    and not null counts, and `a.b` is b inside a. What no field asks for is left out. `parts` are the fields that are
    records, or lists of records, themselves.
    """

    names: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, "Naming"] = field(default_factory=dict)


def _same(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


FEATURE = Naming(
    {
        **_same(
            "feature_id",
            "source_id",
            "coherence_score",
            "quality_level",
            "pattern_keywords",
            "top_activations",
            "top_logits",
            "classification",
            "modality",
            "computed",
        ),
        "pattern_category": ("pattern_category", "classification.primary_category"),
        "activation_statistics": ("activation_statistics", "statistics"),
    },
    {
        "top_activations": Naming(
            {
                **_same("text", "context", "tokens", "token_activations", "active_tokens", "peak"),
                "activation_strength": ("activation_strength", "activation_value"),
            },
            {"active_tokens": Naming(_same("token", "strength"))},
        ),
        "activation_statistics": Naming(
            {
                "mean": ("mean", "mean_activation"),
                "std": ("std", "std_activation"),
                "max": ("max", "max_activation"),
                "frequency": ("frequency", "activation_frequency"),
            }
        ),
        "top_logits": Naming(_same("token", "value")),
        "classification": Naming(
            _same("secondary_categories", "semantic_tags", "behavioral_indicators", "quality_tier", "complexity_score", "confidence_score")
        ),
    },
)


def renamed(found: object, naming: Naming) -> Any:
    """Rename an object's members to the event's fields; what is not an object stays, so that checking it names its type."""
    if not isinstance(found, dict):
        return found
    fields = {}
    for ours, theirs in naming.names.items():
        value = next((value for name in theirs if (value := _inside(found, name)) is not None), None)
        if value is None:
            continue
        part = naming.parts.get(ours)
        if part is None:
            fields[ours] = value
        else:
            fields[ours] = [renamed(each, part) for each in value] if isinstance(value, list) else renamed(value, part)
    return fields


def path_in_file(found: object, fields: JsonPath, naming: Naming | None = FEATURE) -> JsonPath:
    """Say where in the file's object the event's field stands: what `renamed` did, backwards."""
    path: list[str | int] = []
    here = found
    for part in fields:
        if isinstance(part, int):
            path.append(part)
            here = here[part] if isinstance(here, list) and part < len(here) else None
            continue
        theirs = naming.names.get(part, (part,)) if naming is not None else (part,)
        name = next((name for name in theirs if _inside(here, name) is not None), theirs[0])
        path.extend(name.split("."))
        here = _inside(here, name)
        naming = naming.parts.get(part) if naming is not None else None
    return tuple(path)


def _inside(found: object, name: str) -> object:
    for step in name.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(step)
    return found
