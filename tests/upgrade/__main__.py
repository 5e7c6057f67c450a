"""`make test-upgrade`: services of the previous and the present version side by side on a real Kafka, and one table of what came of it."""

import argparse
import sys
import tempfile
from pathlib import Path

from integration.real_kafka import RealKafka, missing_for_kafka
from upgrade.previous import COMMIT, RELEASE, NoHistory
from upgrade.scenarios import SCENARIOS, Result, play


def table(results: list[Result]) -> str:
    """One line for each scenario."""
    head = ("scenario", "features", "findings", "dead letters", "calls made again")
    rows = [head, *((each.name, str(each.features), str(len(each.findings)), str(each.letters), str(each.again)) for each in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m upgrade", description="Runs services of the previous version beside the present ones.")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="one of them; absent: all")
    parser.add_argument("--folder", type=Path, help="where logs, inputs and reports are kept; absent: a temporary folder")
    arguments = parser.parse_args()
    if (reason := missing_for_kafka()) is not None:
        print(f"Kafka cannot be run: {reason}", file=sys.stderr)
        return 3
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="mistudio-explain-upgrade-"))
    print(f"previous: {RELEASE} at {COMMIT}; logs in {folder}", flush=True)
    results: list[Result] = []
    try:
        with RealKafka(folder / "kafka") as kafka:
            for number, name in enumerate(arguments.scenario or SCENARIOS):
                print(f"-- {name}", flush=True)
                results.append(play(name, kafka, folder / str(number), lambda line: print(f"   {line}", flush=True)))
                for finding in results[-1].findings[:50]:
                    print(f"   FOUND {finding}", flush=True)
    except NoHistory as error:
        print(error, file=sys.stderr)
        return 3
    print(table(results))
    return 1 if any(result.findings for result in results) else 0


sys.exit(main())
