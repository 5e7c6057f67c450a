"""The FastStream version whose internals `kafka/subscribers.py` uses."""

from importlib.metadata import version

from mistudio_explain.kafka.subscribers import KNOWN_FASTSTREAM


def test_the_installed_faststream_is_one_whose_internals_were_looked_at() -> None:
    assert version("faststream") == KNOWN_FASTSTREAM
