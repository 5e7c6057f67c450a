"""What a plan is asked for, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mistudio_explain.capacity.figures import Figure


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost, US dollars a million, and who says so."""

    input: float
    output: float
    origin: str


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be planned. Figures that may be unknown have no value then."""

    features: Figure
    explained_share: Figure
    """Share of the features that cost a call."""
    calls: Figure
    """Calls for each of them."""
    target_models: Figure
    max_lanes: int
    """Beyond so many, target models share a lane."""
    endpoints: Figure
    slots: Figure
    """Calls at once at each endpoint."""
    call_s: Figure
    """A call's time while all slots of its endpoint are busy."""
    tokens_in: Figure
    tokens_out: Figure
    """Tokens of one call."""
    price: Price | None
    no_price: str
    """Why there is no price."""
    watts: Figure
    """Of all endpoints together."""
    usd_per_kwh: Figure
    drain_h: Figure
    """Time in which all must be done."""
    feature_bytes: Figure
    brokers: Figure
    replication: Figure
    lane_partitions: Figure
    """Partitions of each lane where a person says how many; unknown: as many as suit the endpoints."""
    usual_lane_partitions: Figure
    """Least partitions of a lane where nobody says how many."""
    partitions: Figure
    """Least partitions of the other topics that have several."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the product makes it. `keeps_h` is how long a record stays; None: for ever."""

    name: str
    is_single: bool
    keeps_h: float | None


@dataclass(frozen=True, slots=True)
class Service:
    """How many replicas a service needs, and what each is busy with."""

    name: str
    replicas: int
    busy: Figure
    """Share of one core for each replica."""
    why: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A topic's partitions, and what it takes on the brokers' disks, all replicas together."""

    topic: str
    partitions: int
    gigabytes: Figure
    keeps: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an order comes to."""

    results: Mapping[str, Figure]
    services: Sequence[Service]
    topics: Sequence[Kept]
    assumptions: Mapping[str, Figure]
    warnings: Sequence[str]
