"""Latency and memory of validation on one core, measured in a process of its own.

    python -m mistudio_explain.evaluation.latency examples/features [--minilm]

pins itself to one core and prints the figures as JSON. Every text is scored for the first time, so remembered words are those
of earlier features, as in a running service.
"""

import os
import time

START = time.perf_counter()
if __name__ == "__main__":
    os.environ.update({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])

import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import orjson  # noqa: E402

from mistudio_explain.errors import ExplainError  # noqa: E402
from mistudio_explain.evaluation.data import read_sets  # noqa: E402
from mistudio_explain.events.explanation import ExplanationDrafted  # noqa: E402
from mistudio_explain.events.feature import Activation  # noqa: E402
from mistudio_explain.events.job import JobBackground  # noqa: E402
from mistudio_explain.settings import Settings  # noqa: E402
from mistudio_explain.validation.offline import Scorer, background_of, draft_of  # noqa: E402
from mistudio_explain.validation.stage import validate  # noqa: E402
from mistudio_explain.validation.validator import Validator  # noqa: E402

_STATUS = Path("/proc/self/status")


class NotMeasured(ExplainError):
    """The measuring process failed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds of `validate` for the explained features of a source; `cpu` is processor time, which a busy machine does not stretch."""

    source: str
    n: int
    p50_ms: float
    p95_ms: float
    cpu_p50_ms: float
    cpu_p95_ms: float


@dataclass(frozen=True, slots=True)
class Latency:
    """What one process of validation costs."""

    minilm: bool
    imports_s: float
    load_s: float
    memory_imported_mb: float
    memory_loaded_mb: float
    memory_end_mb: float
    speed: tuple[Speed, ...]
    bad_input_ms: dict[str, float]
    """Processor time of one validation, the background prepared."""


def measured_apart(directory: Path, minilm: bool) -> Latency:
    """Measure in a new process on one core. Raises NotMeasured when it fails."""
    command = [sys.executable, "-m", __name__, str(directory), *(["--minilm"] if minilm else [])]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  (this module, on a path of the caller)
    if done.returncode:
        raise NotMeasured(f"latency: {' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    found = orjson.loads(done.stdout)
    return Latency(**found | {"speed": tuple(Speed(**one) for one in found["speed"])})


def measure(directory: Path, minilm: bool) -> Latency:
    """Measure in this process."""
    imports, imported = time.perf_counter() - START, _memory_mb()
    validator, load = _timed(lambda: Validator.load(Settings().quality, minilm=minilm))
    loaded = _memory_mb()
    scorer = Scorer.of(validator, Settings())
    speed = []
    bad: dict[str, float] = {}
    for one in read_sets(directory):
        drafts = [draft_of(known.feature, known.explanation, scorer) for known in one.features if known.explanation]
        if not drafts:
            continue
        background = background_of(f"find_{one.source}", [known.feature for known in one.features])
        validator.contrasts.of(background)
        speed.append(_speed(one.source, drafts, background, validator))
        bad = bad or {name: _busy_ms(_with_texts(drafts[0], texts), background, validator) for name, texts in bad_texts().items()}
    return Latency(minilm, imports, load, imported, loaded, _memory_mb(), tuple(speed), bad)


def table(found: Latency) -> str:
    """The figures as a text for people."""
    lines = [
        f"validation on one core, {'MiniLM' if found.minilm else 'static'}: imports {found.imports_s:.2f} s, load {found.load_s:.2f} s, memory "
        f"{found.memory_imported_mb:.0f} MB after imports, {found.memory_loaded_mb:.0f} after load, {found.memory_end_mb:.0f} at the end",
        f"{'features':28}    n  p50 ms  p95 ms  CPU p50  CPU p95",
        *(f"{one.source:28} {one.n:4} {one.p50_ms:7.2f} {one.p95_ms:7.2f} {one.cpu_p50_ms:8.2f} {one.cpu_p95_ms:8.2f}" for one in found.speed),
        *(f"bad input, {name:24} {spent:7.1f} ms" for name, spent in found.bad_input_ms.items()),
    ]
    return "\n".join(lines)


def bad_texts() -> dict[str, list[str]]:
    """Texts that no one would send, by what is wrong with them; made when they are needed, for they take half a second and 14 MB."""
    return {
        "no text": [],
        "one character": ["a"] * 12,
        "control characters": ["\x00\x07\u202e" * 50] * 12,
        "lone surrogates": ["\ud800 a \udfff" * 20] * 12,
        "emoji": ["💥" * 500] * 12,
        "Japanese": ["日本語のテキストです。" * 100] * 12,
        "another language": ["Wir sind mit dem Zug gefahren, weil die Straße gesperrt ist. " * 20] * 12,
        "Arabic": ["هذا نص باللغة العربية. " * 100] * 12,
        "1 MB without a space": ["x" * 1_000_000] * 12,
        "1 MB of words": ["word " * 200_000] * 12,
        "1 MB of distinct words": [" ".join(f"w{n}x{place}" for n in range(110_000)) for place in range(12)],
    }


def _speed(source: str, drafts: list[ExplanationDrafted], background: JobBackground, validator: Validator) -> Speed:
    spent, busy = [], []
    for draft in drafts:
        began, running = time.perf_counter(), time.process_time()
        validate(draft, background, validator)
        spent.append(1e3 * (time.perf_counter() - began))
        busy.append(1e3 * (time.process_time() - running))
    quantiles = [float(value) for values in (spent, busy) for value in np.percentile(values, [50, 95])]
    return Speed(source, len(drafts), *quantiles)


def _with_texts(draft: ExplanationDrafted, texts: list[str]) -> ExplanationDrafted:
    activations = [Activation.model_construct(text=text) for text in texts]  # not checked: a surrogate would be refused before it got here
    evidence = draft.evidence.model_copy(update={"seen": activations[:8], "held_out": activations[8:]})
    return draft.model_copy(update={"evidence": evidence})


def _busy_ms(draft: ExplanationDrafted, background: JobBackground, validator: Validator) -> float:
    running = time.process_time()
    validate(draft, background, validator)
    return 1e3 * (time.process_time() - running)


def _timed(made: Callable[[], Validator]) -> tuple[Validator, float]:
    began = time.perf_counter()
    return made(), time.perf_counter() - began


def _memory_mb() -> float:
    """Greatest resident size of this process so far.

    Linux keeps it by process; elsewhere `ru_maxrss` has to do, which begins at the size of the process that started this one.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(asdict(measure(Path(sys.argv[1]), "--minilm" in sys.argv))).decode() + "\n")
