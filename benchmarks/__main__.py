"""`python -m benchmarks [NAME...]`: prints the tables of the named benchmarks, or of all that take seconds."""

import importlib
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # the real Kafka that the tests start

NAMES = ("mechanics", "cores", "slots", "intake", "complexity", "lanes", "express", "rebalance", "replay", "aggregator", "answers", "swap_check")
LONG = ("llm.throughput", "llm.repeatability", "llm.batching", "llm.delphi", "llm.spec_hardware", "llm.dispatch", "prompts")  # minutes: only by name


def main() -> None:
    logging.disable(logging.CRITICAL)  # a broker that has just started makes its clients complain
    for name in sys.argv[1:] or NAMES:
        if name not in (*NAMES, *LONG):
            sys.exit(f"there is no benchmark {name!r}; there are {', '.join((*NAMES, *LONG))}")
        importlib.import_module(f"benchmarks.{name}").main()


main()
