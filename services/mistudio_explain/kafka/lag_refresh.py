"""Keeps the lag metrics of a process fresh."""

import asyncio

import structlog
from aiokafka.errors import KafkaError
from prometheus_client import REGISTRY, CollectorRegistry

from mistudio_explain.errors import ExplainError, told
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.lag import LagReader
from mistudio_explain.observability.lag import LagCollector

log = structlog.get_logger(__name__)

EVERY_S = 15.0


async def refresh_lag(clients: KafkaClients, *, escalates: bool = False, every_s: float = EVERY_S, registry: CollectorRegistry = REGISTRY) -> None:
    """Read lag for ever, and show it as metrics for as long; whatever fails is said in the log and in `mistudio_explain_lag_read_success`.

    `escalates` is LagReader's.
    """
    collector = LagCollector()
    registry.register(collector)
    try:
        while True:
            try:
                async with clients.admin() as admin:
                    reader = LagReader(admin, escalates=escalates)
                    while True:
                        collector.show(await reader.read())
                        await asyncio.sleep(every_s)
            except (ExplainError, KafkaError, OSError) as error:  # a timeout is an OSError
                log.warning("lag.unread", error=told(error), again_in_s=every_s)
            except Exception as error:  # what only shows figures must not end the services beside it
                log.exception("lag.unread", error=told(error), again_in_s=every_s)
            collector.failed()
            await asyncio.sleep(every_s)
    finally:
        registry.unregister(collector)
