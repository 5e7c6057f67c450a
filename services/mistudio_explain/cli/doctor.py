"""`doctor`: what is reachable, which models there are, what the broker can do."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from aiokafka.errors import KafkaError

from mistudio_explain.cli.serve import kafka_or_embedded
from mistudio_explain.cli.show import console, print_json, table
from mistudio_explain.cli.start import prepare
from mistudio_explain.errors import ExplainError
from mistudio_explain.kafka.admin import compare_topics, wanted_topics
from mistudio_explain.llm.fleet import Alone, driven
from mistudio_explain.reporting.shelf import shelf_of
from mistudio_explain.settings import Settings
from mistudio_explain.store.jobs import reading, store_exists
from mistudio_explain.validation.validator import Validator


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    what: str
    is_well: bool
    found: str


def examine(*, config: Path | None, profile: str | None, as_json: bool) -> int:
    """Look at everything; ends with 3 when something does not work, else 0."""
    settings = prepare(config=config, profile=profile, quiet=True)
    findings = asyncio.run(_examine(settings))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console().print(table(None, ("what", "state", "found"), ((f.what, "ok" if f.is_well else "FAILS", f.found) for f in findings), wrap={"found": None}))
    return 0 if all(finding.is_well for finding in findings) else 3


async def _examine(settings: Settings) -> list[Finding]:
    checks: list[tuple[str, Callable[[Settings], Awaitable[list[Finding]]]]] = [
        ("Kafka", _kafka),
        ("LLM endpoints", _endpoints),
        ("validator", _validator),
        ("store", _store),
        ("reports", _reports),
    ]
    findings: list[Finding] = []
    for what, check in checks:
        try:
            findings += await check(settings)
        except (ExplainError, KafkaError, OSError) as error:
            findings.append(Finding(what, False, str(error)))
    return findings


async def _kafka(settings: Settings) -> list[Finding]:
    async with kafka_or_embedded(settings) as (clients, broker), clients.admin() as admin:
        cluster = await admin.describe_cluster()
        kind = "embedded broker, in memory: no consumer groups, no compaction, everything is lost at its end" if broker else clients.bootstrap_servers
        findings = [Finding("Kafka", True, f"{kind}; cluster {cluster['cluster_id']}, {len(cluster['brokers'])} broker(s)")]
        if broker is None:
            differences = await compare_topics(admin, await wanted_topics(admin, settings))
            wrong = f"{len(differences)} differences: see `mistudio-explain topics check`, make missing ones with `topics create`"
            said = wrong if differences else "as they should be"
            findings.append(Finding("topics", not differences, said))
        if (release := settings.kafka.contract) is not None:
            said = f"events are written as by {release}, without what came later: take kafka.contract away when no service of {release} runs any more"
            findings.append(Finding("contract", True, said))
        return findings


async def _endpoints(settings: Settings) -> list[Finding]:
    rng = random.Random()  # noqa: S311  (spreads retries in time)
    async with driven(settings.llm, Alone(), rng=rng, waits=False) as fleet:  # to look at servers takes them from no worker
        return [
            Finding(
                f"LLM endpoint {endpoint.name}",
                True,
                f"{endpoint.kind} {endpoint.url}, {endpoint.slots} slots, models: {', '.join(model.name for model in endpoint.models)}",
            )
            for endpoint in fleet.endpoints.all
        ]


async def _validator(settings: Settings) -> list[Finding]:
    Validator.load(settings.quality)
    return [Finding("validator", True, "static embeddings, lexicon and policy load")]


async def _store(settings: Settings) -> list[Finding]:
    if not store_exists(settings.store):
        return [Finding("store", True, f"{settings.store.url}, which the aggregator makes at its first start")]
    with reading(settings.store) as store:
        return [Finding("store", True, f"{settings.store.url}, {len(store.jobs(1_000_000))} job(s)")]


async def _reports(settings: Settings) -> list[Finding]:
    shelf_of(settings.reports).check()
    return [Finding("reports", True, f"{settings.reports.bucket_url or settings.reports.directory} can be written")]
