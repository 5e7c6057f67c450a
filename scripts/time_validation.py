"""Measures validation on real features: milliseconds a feature, start and memory.

    taskset -c 0 python scripts/time_validation.py examples/features [--minilm]

Every text is scored for the first time, so remembered words are those of earlier features, as in a running service.
"""

import os
import resource
import sys
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"
START = time.perf_counter()

import numpy as np  # noqa: E402

from mistudio_explain.evaluation.data import read_sets  # noqa: E402
from mistudio_explain.settings import QualitySettings, Settings  # noqa: E402
from mistudio_explain.validation.offline import Scorer, background_of, draft_of  # noqa: E402
from mistudio_explain.validation.stage import validate  # noqa: E402
from mistudio_explain.validation.validator import Validator  # noqa: E402


def memory_mb() -> float:
    """Greatest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(directory: Path, minilm: bool) -> None:
    """Print the table: wall-clock and processor time, which differ when the core is shared."""
    imported, before = time.perf_counter() - START, memory_mb()
    began = time.perf_counter()
    validator = Validator.load(QualitySettings(), minilm=minilm)
    print(f"imports {imported:.2f} s, load {time.perf_counter() - began:.2f} s, memory {before:.0f} MB after imports, {memory_mb():.0f} MB after load\n")
    scorer = Scorer.of(validator, Settings())
    print(f"{'features':28}    n  p50 ms  p95 ms  max ms  CPU p95 ms  background ms")
    for one in read_sets(directory):
        background = background_of(f"find_{one.source}", [known.feature for known in one.features])
        drafts = [draft_of(known.feature, known.explanation, scorer) for known in one.features if known.explanation]
        if not drafts:
            continue
        began = time.perf_counter()
        validator.contrasts.of(background)
        prepared = time.perf_counter() - began
        spent, busy = [], []
        for draft in drafts:
            began, running = time.perf_counter(), time.process_time()
            validate(draft, background, validator)
            spent.append(1e3 * (time.perf_counter() - began))
            busy.append(1e3 * (time.process_time() - running))
        p50, p95 = np.percentile(spent, [50, 95])
        print(f"{one.source:28} {len(drafts):4} {p50:7.2f} {p95:7.2f} {max(spent):7.2f} {np.percentile(busy, 95):11.2f} {1e3 * prepared:14.0f}")
    print(f"\nmemory at the end {memory_mb():.0f} MB")


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--minilm"]
    if len(arguments) != 1:
        sys.exit("usage: time_validation.py DIRECTORY [--minilm] (feature sets, such as examples/features)")
    main(Path(arguments[0]), minilm="--minilm" in sys.argv)
