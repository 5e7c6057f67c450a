"""`make test-alerts`: records real services through every fault that an alert is for, and holds rules and dashboard against the recording."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from alerts.asked import ALERTS, PANELS, RULES_FILE, scraped_series
from alerts.course import Course
from alerts.replaying import replay
from alerts.test_alerts import MAY_BE_EMPTY, RECORDING
from integration.real_kafka import RealKafka, missing_for_kafka
from integration.real_prometheus import INSTALL, RealPrometheus, program


def empty_panels(prometheus: RealPrometheus, begin_s: float) -> list[str]:
    """The questions of the dashboard that got no answer, with their panels."""
    asked = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    now = time.time()
    return [f"{title}: {expression}" for title, expression in asked if title not in MAY_BE_EMPTY and not prometheus.query_range(expression, begin_s, now)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m alerts", description=__doc__)
    parser.add_argument("--keep", action="store_true", help=f"keep the recording as {RECORDING.name}, which `make test` replays")
    keep: bool = parser.parse_args().keep
    if (reason := missing_for_kafka() or (None if program("prometheus") and program("promtool") else INSTALL)) is not None:
        print(f"nothing can be recorded: {reason}", file=sys.stderr)
        return 3
    folder = Path(tempfile.mkdtemp(prefix="mistudio-explain-alerts-"))
    print(f"logs in {folder}", flush=True)
    with RealKafka(folder / "kafka") as kafka:
        course = Course(kafka, folder, RULES_FILE, lambda line: print(line, flush=True))
        with course.recording() as (prometheus, recording_of):
            recording = recording_of(scraped_series())
            empty = empty_panels(prometheus, course.began_s)
    path = RECORDING if keep else folder / RECORDING.name
    recording.write(path)
    print(f"{len(recording.series)} series over {recording.minutes} s, each for a minute, in {path}")
    wrong = replay(recording)
    print(wrong or f"each of {len(ALERTS)} alerts fired on its fault, not before, and ended")
    print("\n".join(f"no data for the panel {each}" for each in empty) or f"each of {len(PANELS)} panels has data, or a reason to have none")
    return 1 if wrong or empty else 0


if __name__ == "__main__":
    sys.exit(main())
