"""What a report must know of its configuration: what is on other machines, and what things cost."""

from mistudio_explain.events.job import CloudPrice
from mistudio_explain.llm.connection import is_loopback
from mistudio_explain.llm.pricing import price_of
from mistudio_explain.llm.reach import reach_of
from mistudio_explain.reporting.cost import Circumstances
from mistudio_explain.settings import Settings


def beyond_machine(settings: Settings) -> list[str]:
    """The servers on other machines that features pass through: Kafka, a PostgreSQL store, endpoints of models that are the operator's own."""
    brokers = [server.strip() for server in (settings.kafka.bootstrap_servers or "").split(",") if server.strip()]
    store = settings.store.url
    return [
        *(f"Kafka at {server}" for server in brokers if not is_loopback(server)),
        *(["the store's PostgreSQL"] if not store.startswith("sqlite:") and not is_loopback(store) else []),
        *(f"models at {endpoint.name}" for endpoint in settings.llm.endpoints if reach_of(endpoint) == "network"),
    ]


def circumstances(settings: Settings, measured_watts: float | None) -> Circumstances:
    """What the cost analysis needs beside the job's own figures; the setting of the power comes before the measured one."""
    cost = settings.cost
    return Circumstances(
        watts=cost.watts if cost.watts is not None else measured_watts,
        watts_source="settings" if cost.watts is not None else "GPUs" if measured_watts is not None else None,
        electricity_usd_per_kwh=cost.electricity_usd_per_kwh,
        hardware_usd=cost.hardware_usd,
        features_per_month=cost.features_per_month,
        openai=_price(cost.openai_model, settings),
        anthropic=_price(cost.anthropic_model, settings),
    )


def _price(model: str, settings: Settings) -> CloudPrice | None:
    price = price_of(model, settings.llm.prices)
    return None if price is None else CloudPrice(model=model, input=price.input, output=price.output, as_of=price.as_of.isoformat(), source=price.source)
