"""`python -m benchmarks [NAME...]`: prints the tables of the named benchmarks, or of all that take seconds."""

import importlib
import logging
import sys

NAMES = (
    "mechanics",
    "cores",
    "slots",
    "intake",
    "formats",
    "complexity",
    "lanes",
    "express",
    "rebalance",
    "replay",
    "aggregator",
    "answers",
    "gateway",
    "reports",
    "swap_check",
    "explorer",
    "sse",
    "tracing",
)
LONG = (
    "llm.prefix",
    "llm.throughput",
    "llm.repeatability",
    "llm.batching",
    "llm.delphi",
    "llm.spec_hardware",
    "llm.dispatch",
    "prompts",
    "store_search",
    "evidence_search",
    "report_page",
    "idle",
    "scale",
    "capacity",
)  # minutes: only by name


def main() -> None:
    logging.disable(logging.CRITICAL)  # a broker that has just started makes its clients complain
    names, sys.argv[1:] = sys.argv[1:], []  # the benchmarks read their own
    for name in names or NAMES:
        if name not in (*NAMES, *LONG):
            sys.exit(f"there is no benchmark {name!r}; there are {', '.join((*NAMES, *LONG))}")
        importlib.import_module(f"benchmarks.{name}").main()


main()
