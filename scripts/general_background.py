"""Draws the general background from real features and prints it as JSON.

    python scripts/general_background.py DIRECTORY > services/mistudio_explain/validation/general_background.json

DIRECTORY holds the JSON Lines that scripts/fit_accuracy.py reads. Only Apache-2.0 sources are drawn from; the features
are those with the smallest hash, so that the same input gives the same file.
"""

import hashlib
import json
import sys
from pathlib import Path

from fit_accuracy import SAMPLE_TEXTS, evenly, read

from mistudio_explain.validation.excerpt import passages

FEATURES = {"axbench_sae": 17, "eleuther_gpt2_128k": 30, "mistudio": 17}


def drawn(directory: Path) -> list[dict[str, object]]:
    """The sample, source by source."""
    sample: list[dict[str, object]] = []
    for source, count in FEATURES.items():
        lines = [line for line in read(directory / f"{source}.jsonl") if len(line["activations"]) >= SAMPLE_TEXTS]
        lines.sort(key=lambda line: hashlib.sha256(f"general|{source}|{line['key']}".encode()).digest())
        for line in lines[:count]:
            texts = [passages(text)[0] for text in evenly(line["activations"], SAMPLE_TEXTS)]
            sample.append({"feature_key": f"{source}/{line['key']}", "texts": texts})
    return sample


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: general_background.py DIRECTORY (JSON Lines of real features)")
    print("[\n" + ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in drawn(Path(sys.argv[1]))) + "\n]")
