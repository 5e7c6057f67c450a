"""The FastStream version whose internals `kafka/subscribers.py` uses."""

import faststream

from mistudio_explain.kafka.subscribers import KNOWN_FASTSTREAM


def test_the_installed_faststream_is_one_whose_internals_were_looked_at() -> None:
    assert faststream.__version__ == KNOWN_FASTSTREAM
