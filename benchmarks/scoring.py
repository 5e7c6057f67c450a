"""`score` on many lines: processor time, and the memory of the largest process.

    python -m benchmarks.scoring [LINES...]    LINES absent: 10,000 and 100,000

The lines are the explained features of examples/features over and over, under other ids, in jobs of 318. Each run is a process
of its own, with a worker for each core; processor time is that of all of them.
"""

import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import orjson

from benchmarks.table import print_table
from mistudio_explain.evaluation.data import read_sets

FEATURES = Path(__file__).resolve().parent.parent / "examples" / "features"
LINES = (10_000, 100_000)
JOB = 318  # features; 100,000 lines are 315 jobs
TIMEOUT_S = 7200


def write_pairs(path: Path, lines: int) -> None:
    """Write so many pairs."""
    known = [known for one in read_sets(FEATURES) for known in one.features if known.explanation]
    with path.open("wb") as file:
        for number, each in enumerate(islice(cycle(known), lines)):
            texts = [one.model_dump(mode="json", include={"text", "activation_strength"}, exclude_none=True) for one in each.feature.top_activations]
            feature = {"feature_id": number, "top_activations": texts}
            file.write(orjson.dumps({"job": f"find_{number // JOB}", "feature": feature, "explanation": each.explanation}) + b"\n")


def main() -> None:
    rows = []
    for lines in [int(each) for each in sys.argv[1:] if each.isdigit()] or LINES:
        with tempfile.TemporaryDirectory() as folder:
            pairs = Path(folder) / "pairs.jsonl"
            write_pairs(pairs, lines)
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [sys.executable, "-m", "mistudio_explain.cli.main", "score", str(pairs), "--out", str(Path(folder) / "scores.jsonl")]
            subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)
            after, spent = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
            busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            rows.append([f"{lines:,}", f"{pairs.stat().st_size / lines / 1024:.1f}", f"{busy:.0f}", f"{1e3 * busy / lines:.1f}", f"{spent:.0f}", _mb(after)])
    print_table("score", ("lines", "KB a line", "CPU s", "CPU ms a line", "s", "largest process so far, MB"), rows)


def _mb(usage: resource.struct_rusage) -> str:
    return f"{usage.ru_maxrss / 1024:.0f}"


if __name__ == "__main__":
    main()
