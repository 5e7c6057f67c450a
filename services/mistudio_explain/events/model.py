"""What all events have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

NAMESPACE = "mistudio.explain"

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/@ -]{1,200}$")]
"""A job id or feature id: 1 to 200 characters out of `[A-Za-z0-9._:/@ -]`; never `|`, which joins keys."""

FeatureKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/@ -]{1,401}$")]
"""`feature_id`, or `source_id/feature_id` when the input names a layer, hook or SAE; unique in a job."""

Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]


class Record(BaseModel):
    """A named part of an event: frozen, closed to unknown fields, without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Event(Record):
    """A record that travels on a topic of its own schema."""
