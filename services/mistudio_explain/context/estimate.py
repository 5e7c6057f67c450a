"""How long a job will take, and what it will cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate together with what it rests on."""

    calls: int
    """Model calls: one for each feature to explain; retries and second passes are not counted."""
    seconds: float
    """Wall time of the calls, all slots busy; intake, validation and reports run beside them."""
    cost_usd: float | None
    """What the calls cost, US dollars; None when a call's price is unknown."""
    in_parallel: int
    """Calls in flight at once."""
    seconds_per_call: float
    """What the caller said a call takes."""


def estimate(to_explain: int, in_parallel: int, seconds_per_call: float, usd_per_call: float | None) -> Estimate:
    """Estimate a job of `to_explain` features.

    The estimate is as good as `seconds_per_call`: the caller takes it from measured calls where there are some, and
    says so where it is a guess. `usd_per_call` is 0 for a local model and None when the price is unknown.
    """
    if to_explain < 0 or in_parallel < 1 or seconds_per_call < 0:
        raise ValueError(f"cannot estimate {to_explain} features, {in_parallel} calls at once of {seconds_per_call} s each")
    one_after_another = to_explain * seconds_per_call
    seconds = max(one_after_another / in_parallel, seconds_per_call) if to_explain else 0.0
    cost = 0.0 if to_explain == 0 else None if usd_per_call is None else to_explain * usd_per_call
    return Estimate(to_explain, seconds, cost, in_parallel, seconds_per_call)
