"""Reading a Neuronpedia export: features a second and peak memory, beside orjson.loads of every line.

    formats.py [FOLDER]    FOLDER absent: 512 features, made of the 2 of tests/data/formats/neuronpedia over and over

Each run is a process of its own; ours and the peer's take turns. Ours joins the lines of the two kinds of files, checks, completes, ranks and keeps every
feature, and gives each once; the peer decodes the lines, keeps them, and checks nothing. Peak memory is what the process had at most above what it
had before, Linux only; its share is of the unpacked lines.
"""

import gzip
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "tests" / "data" / "formats" / "neuronpedia" / "0-res-jb"
KINDS = ("features", "activations")
BATCH = 256
FEATURES = 512
RUNS = 3


def make(folder: Path, features: int) -> None:
    """An export of so many features in batches, as Neuronpedia cuts its own: the sample's features in turn, under other numbers."""
    rows = {kind: [orjson.loads(line) for line in gzip.decompress((SAMPLE / kind / "batch-1.jsonl.gz").read_bytes()).splitlines()] for kind in KINDS}
    originals = [row["index"] for row in rows["features"]]
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for batch in range(0, features, BATCH):
            copies = ((number, originals[number % len(originals)]) for number in range(batch, min(features, batch + BATCH)))
            lines = (orjson.dumps(row | {"index": str(number)}) + b"\n" for number, original in copies for row in rows[kind] if row["index"] == original)
            with gzip.open(folder / kind / f"batch-{batch // BATCH}.jsonl.gz", "wb", compresslevel=1) as file:
                file.writelines(lines)


def reading(folder: Path) -> dict[str, float]:
    """Read, check, complete and rank an export, and take every feature once."""
    from benchmarks.intake import peak_bytes, reset_peak
    from mistudio_explain.intake.formats.choice import read_input

    reset_peak()
    before, start = peak_bytes(), time.perf_counter()
    job = read_input(folder, "neuronpedia")
    checked = time.perf_counter()
    features = sum(1 for _ in job.features())
    end = time.perf_counter()
    return {"features": features, "checked_s": checked - start, "all_s": end - start, "bytes": peak_bytes() - before}


def decoding(folder: Path) -> dict[str, float]:
    """Decode every line and keep it; nothing is joined or checked."""
    from benchmarks.intake import peak_bytes, reset_peak

    reset_peak()
    before, start = peak_bytes(), time.perf_counter()
    rows = []
    for path in sorted(folder.glob("*/*.jsonl.gz")):
        with gzip.open(path) as lines:
            rows.extend(orjson.loads(line) for line in lines)
    end = time.perf_counter()
    features = len({row["index"] for row in rows})
    return {"features": features, "checked_s": end - start, "all_s": end - start, "bytes": peak_bytes() - before}


CONTENDERS: dict[str, Callable[[Path], dict[str, float]]] = {"ours": reading, "orjson.loads": decoding}


def run(name: str, folder: Path) -> dict[str, float]:
    """Measure one contender in a new process."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.formats", str(folder), "--only", name], check=True, capture_output=True, cwd=ROOT)
    figures: dict[str, float] = orjson.loads(done.stdout)
    return figures


def unpacked(folder: Path) -> int:
    """Bytes of all lines."""
    size = 0
    for path in folder.glob("*/*.jsonl.gz"):
        with gzip.open(path) as file:
            while piece := file.read(1 << 20):
                size += len(piece)
    return size


def compare(folder: Path) -> None:
    """Print the table."""
    from benchmarks.intake import print_compared

    print_compared(CONTENDERS, lambda name: run(name, folder), unpacked(folder), "a Neuronpedia export, unpacked,", runs=RUNS)


def main() -> None:
    """Compare, or measure the one contender that was asked for."""
    match sys.argv[1:]:
        case [folder, "--only", name]:
            sys.stdout.buffer.write(orjson.dumps(CONTENDERS[name](Path(folder))))
        case [folder] if Path(folder).is_dir():
            compare(Path(folder))
        case _:
            with tempfile.TemporaryDirectory() as made:
                make(Path(made), FEATURES)
                compare(Path(made))


if __name__ == "__main__":
    main()
