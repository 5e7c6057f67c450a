"""What of a configuration is on other machines, so that nobody is told that nothing left this one."""

from mistudio_explain.llm.connection import is_loopback
from mistudio_explain.llm.reach import reach_of
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
