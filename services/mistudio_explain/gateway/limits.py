"""How often somebody may ask: a bucket of requests for each, which fills again at a steady pace."""

_REMEMBERED = 10_000
_SAME_MOMENT_S = 1e-6  # sums of floats are not exact


class Buckets:
    """Buckets by name: `burst` requests at once, `per_s` a second in the long run (the generic cell rate algorithm, ITU-T I.371).

    Moments are seconds of any clock that never goes back.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._step = 1 / per_s
        self._depth = burst * self._step
        self._full_at: dict[str, float] = {}
        """When each bucket will be full again; one that is not named is."""

    def wait_s(self, who: str, now: float) -> float:
        """Take a request out of somebody's bucket: 0, or the seconds until there is one to take."""
        full_at = max(self._full_at.get(who, now), now) + self._step
        if (early_by := full_at - now - self._depth) > _SAME_MOMENT_S:
            return early_by
        if who not in self._full_at and len(self._full_at) >= _REMEMBERED:
            self._forget(now)
        self._full_at[who] = full_at
        return 0.0

    def _forget(self, now: float) -> None:
        """Forget the full buckets; where there are too many others, those nearest to it, so that names made up by the thousand take no memory."""
        emptier = sorted(((at, who) for who, at in self._full_at.items() if at > now), reverse=True)
        self._full_at = {who: at for at, who in emptier[: _REMEMBERED // 2]}
