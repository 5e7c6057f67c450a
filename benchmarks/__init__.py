"""Speeds, each beside a named peer in the same run. `python -m benchmarks [NAME...]` prints the tables."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # the real Kafka that the tests start
