"""`plan`: how long a number of features takes, what it costs and what it needs."""

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.text import Text

from mistudio_explain.capacity.figures import Figure, given, measured
from mistudio_explain.capacity.order import Order, Plan, Price, Topic
from mistudio_explain.capacity.plan import FLEET, LANE_NAME, plan
from mistudio_explain.cli.known_jobs import find_jobs
from mistudio_explain.cli.show import console, plain, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import BadInput
from mistudio_explain.events.job import JobReport
from mistudio_explain.kafka.orders import known_job
from mistudio_explain.kafka.topics import topic_specs
from mistudio_explain.llm.opening import DEFAULT_SLOTS
from mistudio_explain.llm.overview import Shown, overview
from mistudio_explain.llm.pricing import price_of
from mistudio_explain.replay.forecast import SECONDS_PER_CALL
from mistudio_explain.settings import Settings

_HOUR_MS = 3_600_000
_WANTED_REPLICAS = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for; None where nothing was said."""

    features: float
    target_models: float
    model: str | None
    endpoints: float | None
    slots: float | None
    like: str | None
    seconds_per_call: float | None
    tokens_per_s: float | None
    prompt_tokens_per_s: float | None
    tokens_in: float | None
    tokens_out: float | None
    drain_hours: float | None
    watts: float | None
    usd_per_kwh: float | None
    feature_kb: float
    brokers: float
    partitions: float | None


def show_plan(asked: Asked, *, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Show what the features take. Raises BadInput for a number that makes no sense, by the name of its option."""
    settings = prepare(config=config, profile=profile, quiet=True)
    made = plan(_order(asked, settings), measured(), _topics(settings))
    if as_json:
        print_json(asdict(made))
    else:
        _print(made)
    return 0


def _order(asked: Asked, settings: Settings) -> Order:
    features = given("--features", asked.features, "features", whole=True)
    endpoints, slots = _fleet(asked, settings)
    report = None if asked.like is None else _report(asked.like, settings)
    tokens_in = _tokens("--tokens-in", asked.tokens_in, report, settings.context.prompt_tokens, "context.prompt_tokens: the most that a prompt may have")
    tokens_out = _tokens("--tokens-out", asked.tokens_out, report, settings.llm.max_tokens, "llm.max_tokens: the most that an answer may have")
    brokers = given("--brokers", asked.brokers, "brokers", whole=True)
    replication = settings.kafka.replication or min(_WANTED_REPLICAS, int(brokers.known))
    if replication > brokers.known:
        raise BadInput(f"--brokers is {brokers.known:g}, but kafka.replication asks for {replication} replicas of each topic, each on a broker of its own")
    return Order(
        features=features,
        explained_share=_share(report),
        calls=Figure(settings.generation.candidates, "calls", "generation.candidates; repeated calls, a judge's and a second pass are not counted"),
        target_models=given("--target-models", asked.target_models, "models", whole=True),
        max_lanes=settings.limits.max_lanes,
        endpoints=endpoints,
        slots=slots,
        call_s=_call_s(asked, report, slots, tokens_in, tokens_out),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        price=_price(asked.model, settings),
        no_price="no --model was named" if asked.model is None else f"no price of {asked.model} is known (llm.prices, llm/prices.toml)",
        watts=_watts(asked, endpoints),
        usd_per_kwh=_usd_per_kwh(asked, settings),
        drain_h=Figure(None, "hours", "no --drain-hours") if asked.drain_hours is None else given("--drain-hours", asked.drain_hours, "hours"),
        feature_bytes=_scaled(given("--feature-kb", asked.feature_kb, "kB"), 1000, "bytes"),
        brokers=brokers,
        replication=Figure(replication, "replicas", "kafka.replication" if settings.kafka.replication else "3, or as many as there are brokers"),
        lane_partitions=Figure(None, "partitions", "a multiple of the endpoints")
        if asked.partitions is None
        else given("--partitions", asked.partitions, "partitions", whole=True),
        partitions=Figure(settings.kafka.partitions, "partitions", "kafka.partitions"),
        usual_lane_partitions=Figure(settings.kafka.lane_partitions, "partitions", "kafka.lane_partitions"),
    )


def _fleet(asked: Asked, settings: Settings) -> tuple[Figure, Figure]:
    """Endpoints, and slots at each. Asks the servers of the settings only for what was not said."""
    endpoints = None if asked.endpoints is None else given("--endpoints", asked.endpoints, FLEET, whole=True)
    slots = None if asked.slots is None else given("--slots", asked.slots, "calls at once", whole=True)
    if endpoints is None:
        found, _ = asyncio.run(overview(settings))
        serving = [each for each in found if each.trouble is None]
        if not serving:
            raise BadInput(f"none of the {len(found)} endpoints of the settings serves now, so their number tells nothing; name it with --endpoints")
        endpoints = Figure(len(serving), FLEET, f"`models`: {', '.join(each.settings.name for each in serving)}")
        slots = slots or _mean_slots(serving)
    if slots is None:
        slots = Figure(DEFAULT_SLOTS, "calls at once", "what an endpoint begins with that does not tell its slots; more are found while it works")
    return endpoints, slots


def _mean_slots(serving: list[Shown]) -> Figure | None:
    told = [each.slots for each in serving if each.slots is not None]
    return Figure(sum(told) / len(told), "calls at once", "`models`: as the servers or the settings say") if len(told) == len(serving) else None


def _report(job: str, settings: Settings) -> JobReport:
    report = known_job(asyncio.run(find_jobs(settings)).jobs, job).report
    if report is None or report.averages.latency_s is None:
        raise BadInput(f"--like {job}: nothing was measured in this job yet, for it has no answer of a model that was not kept")
    return report


def _share(report: JobReport | None) -> Figure:
    if report is None or not report.admitted:
        return Figure(1.0, "of the features", "none is taken to be skipped as poor")
    return Figure(
        (report.explained + report.failed) / report.admitted, "of the features", f"measured: {report.explain_job_id}, explained or failed of those that entered"
    )


def _tokens(option: str, said: float | None, report: JobReport | None, most: int, most_from: str) -> Figure:
    if said is not None:
        return given(option, said, "tokens")
    if report is not None:
        total = report.tokens_in if option == "--tokens-in" else report.tokens_out
        if total and report.explained:
            return Figure(total / report.explained, "tokens", f"measured: {report.explain_job_id}, mean of {report.explained} features")
    return Figure(most, "tokens", f"set: {most_from}")


def _call_s(asked: Asked, report: JobReport | None, slots: Figure, tokens_in: Figure, tokens_out: Figure) -> Figure:
    """A call's time: as said, by tokens, as in a job, else the specification's bound."""
    if asked.seconds_per_call is not None:
        return given("--seconds-per-call", asked.seconds_per_call, "seconds")
    if asked.tokens_per_s is not None:
        rate = given("--tokens-per-s", asked.tokens_per_s, "tokens a second")
        seconds, read = tokens_out.known / rate.known, "; reading prompts is not counted: --prompt-tokens-per-s was not said"
        if asked.prompt_tokens_per_s is not None:
            reading = given("--prompt-tokens-per-s", asked.prompt_tokens_per_s, "tokens a second")
            seconds, read = seconds + tokens_in.known / reading.known, " + prompt tokens ÷ --prompt-tokens-per-s"
        return Figure(
            seconds * slots.known,
            "seconds",
            f"slots × (answer tokens ÷ --tokens-per-s{read})" if "+" in read else f"slots × answer tokens ÷ --tokens-per-s{read}",
        )
    if asked.prompt_tokens_per_s is not None:
        raise BadInput("--prompt-tokens-per-s alone does not tell how long a call takes; say --tokens-per-s too")
    if report is not None:
        assert report.averages.latency_s is not None
        return Figure(report.averages.latency_s, "seconds", f"measured: {report.explain_job_id}, mean of its calls")
    return Figure(SECONDS_PER_CALL, "seconds", "specification §9.2: less than 5 s for an explanation on average")


def _price(model: str | None, settings: Settings) -> Price | None:
    found = None if model is None else price_of(model, settings.llm.prices)
    return None if found is None else Price(found.input, found.output, f"price of {found.model}, {found.as_of} ({found.source})")


def _watts(asked: Asked, endpoints: Figure) -> Figure:
    if asked.watts is None:
        return Figure(None, "watts", "--watts was not said")
    return _scaled(given("--watts", asked.watts, "watts"), endpoints.known, "watts")


def _usd_per_kwh(asked: Asked, settings: Settings) -> Figure:
    if asked.usd_per_kwh is not None:
        return given("--usd-per-kwh", asked.usd_per_kwh, "USD a kWh")
    known = settings.cost.electricity_usd_per_kwh
    return Figure(
        known, "USD a kWh", "neither --usd-per-kwh nor cost.electricity_usd_per_kwh says it" if known is None else "set: cost.electricity_usd_per_kwh"
    )


def _scaled(figure: Figure, by: float, unit: str) -> Figure:
    return Figure(figure.known * by, unit, figure.origin)


def _topics(settings: Settings) -> list[Topic]:
    specs = topic_specs(settings)
    return [
        Topic(spec.name, spec.partitions == 1 < settings.kafka.partitions, None if spec.retention_ms is None else spec.retention_ms / _HOUR_MS)
        for spec in specs
    ]


def _print(made: Plan) -> None:
    out = console()
    out.print(table("What it takes", ("what", "is", "from"), [_row(*each) for each in made.results.items()], wrap={"from": None}))
    services = [(each.name, str(each.replicas), _said(each.busy, share=True), each.why) for each in made.services]
    out.print(table("Services", ("service", "replicas", "busy", "why"), services, wrap={"why": None}))
    large = [each for each in made.topics if each.gigabytes.value is not None]
    small = [each for each in made.topics if each.gigabytes.value is None]
    topics = [(_short(each.topic), str(each.partitions), _said(each.gigabytes), each.keeps) for each in large]
    topics.append((f"{len(small)} others", str(sum(each.partitions for each in small)), "unknown", f"{small[0].gigabytes.origin} (--json lists them)"))
    out.print(table("Topics", ("topic", "partitions", "disk", "keeps"), topics, wrap={"keeps": None}))
    out.print(table("What it rests on", ("figure", "is", "from"), [_row(*each) for each in made.assumptions.items()], wrap={"from": None}))
    for warning in made.warnings:
        out.print(Text(plain(f"! {warning}"), style="yellow"))


def _row(name: str, figure: Figure) -> tuple[str, str, str]:
    return name, _said(figure), figure.origin


def _said(figure: Figure, *, share: bool = False) -> str:
    if figure.value is None:
        return "unknown"
    if share:
        return f"{figure.value:.0%}"
    if figure.unit == "hours":
        return _span(figure.value)
    if figure.unit.startswith("GB") and figure.value < 0.1:
        return f"{_number(figure.value * 1000)} M{figure.unit[1:]}"
    return " ".join(part for part in (_number(figure.value), figure.unit) if part)


def _span(hours: float) -> str:
    if hours < 1 / 30:
        return f"{hours * 3600:.3g} s"
    if hours < 2:
        return f"{hours * 60:.3g} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _short(topic: str) -> str:
    short = topic.removeprefix("mistudio.").removeprefix("explain.")
    return short.replace(LANE_NAME.removeprefix("mistudio.explain."), "a lane for each target model") if topic.startswith(f"{LANE_NAME} ") else short
