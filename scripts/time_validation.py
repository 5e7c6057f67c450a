"""Measures the pure core of validation on real features: milliseconds a feature, start and memory.

    taskset -c 0 python scripts/time_validation.py DIRECTORY

DIRECTORY holds the JSON Lines that scripts/fit_accuracy.py reads. Every text is scored for the first time, so remembered
words are those of earlier features, as in a running service.
"""

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"
START = time.perf_counter()

import numpy as np  # noqa: E402
from fit_accuracy import background, evenly, read  # noqa: E402

from mistudio_explain.events.explanation import Answer, Category, Evidence, ExplanationDrafted, Generation, Message, Prompt, Subject, Tier  # noqa: E402
from mistudio_explain.events.feature import Activation  # noqa: E402
from mistudio_explain.events.job import JobBackground  # noqa: E402
from mistudio_explain.settings import QualitySettings  # noqa: E402
from mistudio_explain.validation.stage import validate  # noqa: E402
from mistudio_explain.validation.validator import Validator  # noqa: E402

TEXTS, SEEN = 12, 8

Shape = Callable[[list[Activation]], list[Activation]]


def memory_mb() -> float:
    """Greatest resident size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draft(key: str, claim: str, texts: list[Activation], find_job_id: str) -> ExplanationDrafted:
    """A draft with a prompt of ordinary length."""
    shown = "\n".join(text.text[:400] for text in texts[:SEEN])
    return ExplanationDrafted(
        subject=Subject(
            explain_job_id="explain_timing",
            find_job_id=find_job_id,
            target_model="timing",
            feature_id="0",
            feature_key=key,
            tier=Tier.POOR,
            category=Category.OTHER,
            category_source="inferred",
        ),
        evidence=Evidence(seen=texts[:SEEN], held_out=texts[SEEN:]),
        answer=Answer(pattern=claim, significance="It matters for how the model reads text.", implications="It could be used for steering."),
        generation=Generation(model="m", endpoint="e", provider="ollama", latency_s=1.0, finish_reason="stop"),
        prompt=Prompt(template="t", version="1", sha256="0", answer="fields", messages=[Message(role="user", content=shown)]),
        complexity="low",
    )


def measure(title: str, path: Path, shape: Shape, validator: Validator) -> None:
    """Validate every explained feature of a source once and print the quantiles."""
    lines = read(path)
    find_job_id = f"find_{path.stem}_{len(title)}"
    sample = JobBackground(find_job_id=find_job_id, target_model="timing", sample=background(path.stem, lines), distinct=len(lines), frozen=True)
    drafts = [
        draft(line["key"].replace("(", "").replace(")", ""), line["explanation"], shape(evenly(line["activations"], TEXTS)), find_job_id)
        for line in lines
        if line["explanation"]
    ]
    began = time.perf_counter()
    validator.contrasts.of(sample)
    prepared = time.perf_counter() - began
    spent = []
    for one in drafts:
        began = time.perf_counter()
        validate(one, sample, validator)
        spent.append(1e3 * (time.perf_counter() - began))
    size = np.mean([sum(len(text.text) for text in (*one.evidence.seen, *one.evidence.held_out)) for one in drafts])
    p50, p95 = np.percentile(spent, [50, 95])
    print(f"{title:38} {len(drafts):4} {size / 1000:6.1f} {p50:7.2f} {p95:7.2f} {max(spent):7.2f} {1e3 * prepared:9.0f}")


def cut(texts: list[Activation]) -> list[Activation]:
    """Texts of 200 characters."""
    return [Activation(text=text.text[:200]) for text in texts]


def main(directory: Path) -> None:
    """Print the table."""
    imported = time.perf_counter() - START
    before = memory_mb()
    began = time.perf_counter()
    validator = Validator.load(QualitySettings())
    print(f"imports {imported:.2f} s, load {time.perf_counter() - began:.2f} s, memory {before:.0f} MB after imports, {memory_mb():.0f} MB after load\n")
    pool = [record["text"] for line in read(directory / "axbench_sae.jsonl") for record in line["activations"]]
    chosen = np.random.default_rng(0)

    def lengthened(texts: list[Activation]) -> list[Activation]:
        return [Activation(text=" ".join((text.text, *chosen.choice(pool, 9)))[:3500]) for text in texts]

    print(f"{'features':38}    n     KB  p50 ms  p95 ms  max ms  background ms")
    measure("eleuther_gpt2_128k, 12 texts", directory / "eleuther_gpt2_128k.jsonl", list, validator)
    measure("mistudio, up to 12 texts", directory / "mistudio.jsonl", list, validator)
    measure("axbench_sae, 12 texts of 200", directory / "axbench_sae.jsonl", cut, validator)
    measure("axbench_sae, 12 texts of 500, peak", directory / "axbench_sae.jsonl", list, validator)
    measure("axbench_sae, 12 texts of 3,500, no peak", directory / "axbench_sae.jsonl", lengthened, validator)
    print(f"\nmemory at the end {memory_mb():.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: time_validation.py DIRECTORY (JSON Lines of real features)")
    main(Path(sys.argv[1]))
