"""The three scenarios: the storm, the model that is away for long, and the short form for every test run."""

from chaos.plan import Fault, Scenario

COMPRESSED = 20
"""In the scenario `AWAY` every waiting time is this many times shorter than the settings' defaults."""

_AWAY_S = 15 * 60 / COMPRESSED

STORM = Scenario(
    title="storm",
    counts=(1700, 1650, 1650),
    kills=45,
    timed_kills=3,
    absences=2,
    freezes=10,
    broker_kills=5,
    broker_restarts=5,
    outages=((Fault.LLM_AWAY, 10), (Fault.LLM_SICK, 5), (Fault.LLM_STUCK, 10)),
    poison=72,
    bursts=12,
    publish_again=1,
    cursed=8,
    latency_s=0.12,
)

AWAY = Scenario(
    title=f"LLM away 15 min, time / {COMPRESSED}",
    counts=(300, 300, 300),
    outages=((Fault.LLM_AWAY, _AWAY_S),),
    faulty=0.0,
    latency_s=0.1,
    settings={
        # session_timeout_ms stays: the broker allows none below 6 s
        "KAFKA__MAX_POLL_INTERVAL_MS": str(300_000 // COMPRESSED),
        "LLM__FIRST_TOKEN_TIMEOUT_S": str(120 / COMPRESSED),
        "LLM__TOKEN_TIMEOUT_S": str(30 / COMPRESSED),
        "LLM__DEADLINE_S": str(300 / COMPRESSED),
        "GENERATION__RETRY_WAIT_S": str(1 / COMPRESSED),
        "RETRY__SHORT_S": str(30 / COMPRESSED),
        "RETRY__LONG_S": str(300 / COMPRESSED),
        "LIMITS__QUIET_S": str(600 / COMPRESSED),
        "LIMITS__GRACE_S": "10",
    },
)

SHORT = Scenario(
    title="short form",
    counts=(90, 60, 30),
    kills=8,
    freezes=1,
    broker_kills=1,
    broker_restarts=1,
    outages=((Fault.LLM_AWAY, 2), (Fault.LLM_SICK, 1), (Fault.LLM_STUCK, 2)),
    poison=24,
    bursts=3,
    publish_again=1,
    cursed=1,
    faulty=0.1,
    latency_s=0.2,
    freeze_s=7.0,
    patience_s=60.0,
    settings={"KAFKA__PARTITIONS": "3"},
)
