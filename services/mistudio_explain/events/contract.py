"""An event as a release before this one would have it, while services of that release still read what this version writes."""

from collections.abc import Mapping
from typing import Any

from mistudio_explain.errors import BadInput
from mistudio_explain.events.model import Record

INSTEAD: Mapping[str, Mapping[tuple[str, str], Mapping[str, str]]] = {
    "0.1.0": {
        ("Accuracy", "basis"): {"all": "seen"},  # it knows `seen` and `held_out`, of which `seen` claims less
    },
}
"""By release, record and field: values that came later, and which of that release's own says the same or less.

Avro lets a text be anything; a service of that release takes only the values it knows. A test holds this table against
schemas/history/<release>/values.json.
"""


UNREAD: Mapping[str, frozenset[str]] = {"0.1.0": frozenset({"DeadLetter", "EscalationCandidate", "FeatureReviewed", "TokenChunk"})}
"""By release, events that none of its services reads, though it has their schema: they are written whole."""

NEEDED: Mapping[str, Mapping[str, frozenset[str]]] = {
    "0.1.0": {"ReplayPart": frozenset({"features", "since_ms", "until_ms", "failed_only", "from_file"})},
}
"""By release and record, fields that it lacks and without which the rest would say something else: a replay of some features would be one of all."""


def told(record: Record, release: str) -> dict[str, Any]:
    """A record's fields with values that a release knows; those that it has no field for are left to the schema.

    Raises BadInput for a record that would say something else without them.
    """
    kind, instead = type(record), INSTEAD.get(release, {})
    fields = {}
    for name, info in kind.model_fields.items():
        value = getattr(record, name)
        if name in NEEDED.get(release, {}).get(kind.__name__, ()) and value != info.default:
            raise BadInput(
                f"{kind.__name__}.{name} cannot be said while events are written as by {release} (kafka.contract): without it the order would mean something "
                "else; give it once the upgrade is finished and kafka.contract taken away"
            )
        known = instead.get((kind.__name__, name))
        fields[name] = _plain(value, release) if known is None else known.get(value, value)
    return fields


def _plain(value: Any, release: str) -> Any:
    if isinstance(value, Record):
        return told(value, release)
    if isinstance(value, list):
        return [_plain(each, release) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each, release) for key, each in value.items()}
    return value
