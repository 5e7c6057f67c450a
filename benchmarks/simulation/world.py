"""What is simulated: a product's installation, the work it gets, and what each step of it costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one core for each feature, but where it says otherwise."""

    context: float
    generation: float
    validation: float
    aggregator: float
    """Its admission and its outcome, rows written."""
    broker: float
    """For each record that is written and read once, whichever broker."""
    server: float = 0.0
    """Of the one thread that plays the model, where it shares the machine."""
    confirm_s: float = 0.01
    """From a publish to its confirmation on an idle broker; no CPU."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An LLM server driven by a worker of its own."""

    slots: int
    call_s: float
    """A call on average, with one slot busy."""
    sigma: float = 0.5
    """Of the logarithm of a call's work."""
    curve: Sequence[float] = ()
    """Calls a second by calls at once, from 1; beyond the last as at the last. Empty: calls do not slow each other down."""


@dataclass(frozen=True, slots=True)
class World:
    """An installation and its work."""

    features: int
    endpoints: Sequence[Endpoint]
    costs: Costs
    lane_partitions: int = 12
    partitions: int = 6
    source_partitions: int = 1
    """Partitions of find.features that hold the features: those of one target model stand in one, for its name is their key."""
    context: int = 1
    """Replicas."""
    validation: int = 1
    brokers: int = 1
    cores: float | None = None
    """Cores that all processes and brokers share; None: each process and each broker has its own."""
    in_flight_per_slot: float = 1.5
    batch: int = 200
    max_lane_backlog: int = 20_000
    has_intake: bool = True
    """Whether features begin at find.features; else as prompts in their lane."""
    places: Sequence[int] = ()
    """The lane's partition of each prompt in its order; empty: drawn."""
    joins: Sequence[float] = ()
    """When workers have their partitions, seconds, in the order of their endpoints; those beyond the last are there from the beginning."""
    evens_out: bool = False
    """Whether prompts go to the partition with the fewest waiting, instead of by their keys."""
    grain: int = 1
    """Features that one simulated record stands for: they go the same way and are called for at once, in as many slots; divides the slots."""
    seed: int = 1

    def but(self, **changes: object) -> "World":
        """The same with some things otherwise."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a simulated run."""

    seconds: float
    """From its beginning to the last outcome in the store."""
    calls_s: float
    """From the first call to the last answer."""
    is_done: bool
    busy: dict[str, float]
    """How busy each part was on average while calls were made, 0 to 1: slots, context, generation, validation, aggregator, brokers."""
    repeated: int
    """Calls that were cut off because their partition went to another worker, and made again."""
    features: int

    @property
    def rate(self) -> float:
        """Features a second."""
        return self.features / self.seconds

    @property
    def limits(self) -> str:
        """The part that is busiest."""
        return max(self.busy, key=lambda part: self.busy[part])
