"""`make chaos`: both scenarios on a Kafka of its own, and one table of what came of them."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from chaos.scenarios import AWAY, SHORT, STORM
from chaos.storm import Result, run
from chaos.table import table
from integration.real_kafka import RealKafka, missing_for_kafka


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Kills, freezes, poisons and starves the services, and counts what was lost.")
    scenarios = {"storm": STORM, "away": AWAY, "short": SHORT}
    parser.add_argument("--scenario", choices=[*scenarios, "all"], default="all", help="all: storm, then away")
    parser.add_argument("--seed", type=int, help="the seed to repeat; absent: a new one")
    parser.add_argument("--folder", type=Path, help="where logs, inputs and reports are kept; absent: a temporary folder")
    arguments = parser.parse_args()
    if (reason := missing_for_kafka()) is not None:
        print(f"Kafka cannot be run: {reason}", file=sys.stderr)
        return 3
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="mistudio-explain-chaos-"))
    chosen = [STORM, AWAY] if arguments.scenario == "all" else [scenarios[arguments.scenario]]
    results: list[Result] = []
    print(f"seed {seed}; logs in {folder}", flush=True)
    for number, scenario in enumerate(chosen):
        place = folder / f"{number}"
        with RealKafka(place / "kafka") as kafka:
            results.append(run(scenario, seed, kafka, place / "run", lambda line: print(line, flush=True)))
    print(table(results))
    for result in results:
        for finding in result.findings[:50]:
            print(finding)
    return 1 if any(result.findings for result in results) else 0


sys.exit(main())
