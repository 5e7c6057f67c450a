"""Intake of a file of Find's size: features a second and peak memory, beside orjson.loads of the whole file.

    intake.py [FILE]    FILE absent: the 512 features of scripts/make_examples.py size

Each run is a process of its own; ours and the peer's take turns. Peak memory is what the process had at most above
what it had before reading, Linux only. `read and check` is all that happens before anything is published; `publish`
decodes the features again, in rank order.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

RUNS = 5
SCRIPT = Path(__file__).resolve()
MAKE_EXAMPLES = SCRIPT.parent.parent / "scripts" / "make_examples.py"


def reading(file: Path) -> dict[str, float]:
    """Read, check and rank a file, and take every feature once."""
    from mistudio_explain.intake.stage import read

    reset_peak()
    before, start = peak_bytes(), time.perf_counter()
    job = read(file)
    checked = time.perf_counter()
    features = sum(1 for _ in job.features())
    end = time.perf_counter()
    return {"features": features, "checked_s": checked - start, "all_s": end - start, "bytes": peak_bytes() - before}


def whole(file: Path) -> dict[str, float]:
    """Decode a file at once; nothing is checked."""
    reset_peak()
    before, start = peak_bytes(), time.perf_counter()
    job = orjson.loads(file.read_bytes())
    end = time.perf_counter()
    return {"features": len(job["features"]), "checked_s": end - start, "all_s": end - start, "bytes": peak_bytes() - before}


CONTENDERS: dict[str, Callable[[Path], dict[str, float]]] = {"ours": reading, "orjson.loads": whole}


def reset_peak() -> None:
    """Forget what the process had at most so far."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Most resident memory since the reset; getrusage's figure would include the parent's at the fork."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def run(name: str, file: Path) -> dict[str, float]:
    """Measure one contender in a new process."""
    done = subprocess.run([sys.executable, str(SCRIPT), str(file), "--only", name], check=True, capture_output=True)
    figures: dict[str, float] = orjson.loads(done.stdout)
    return figures


def print_compared(contenders: Iterable[str], measure: Callable[[str], dict[str, float]], size: int, what: str, *, runs: int = RUNS) -> None:
    """Let contenders take turns at an input of so many bytes, and print what each took; `what` is the input, in words."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, measured in results.items():
            measured.append(measure(name))
    features = int(next(iter(results.values()))[0]["features"])
    print(f"{what} of {features} features, {size / 1e6:.1f} MB; median of {runs} interleaved runs")
    print(f"{'':14}{'read and check':>22}{'with publish':>22}{'peak memory':>14}{'of the input':>14}")
    for name, measured in results.items():
        checked, total, peak = (statistics.median(each[figure] for each in measured) for figure in ("checked_s", "all_s", "bytes"))
        rates = "".join(f"{f'{seconds:.3f} s {features / seconds:7,.0f}/s':>22}" for seconds in (checked, total))
        print(f"{name:14}{rates}{peak / 1e6:11.1f} MB{peak / size:13.2f}x")


def compare(file: Path) -> None:
    """Print the table."""
    print_compared(CONTENDERS, lambda name: run(name, file), file.stat().st_size, "intake")


def main() -> None:
    """Compare, or measure the one contender that was asked for."""
    match sys.argv[1:]:
        case [file, "--only", name]:
            sys.stdout.buffer.write(orjson.dumps(CONTENDERS[name](Path(file))))
        case [file]:
            compare(Path(file))
        case _:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "feature_analysis.json"
                subprocess.run([sys.executable, str(MAKE_EXAMPLES), "size", str(file)], check=True)
                compare(file)


if __name__ == "__main__":
    main()
