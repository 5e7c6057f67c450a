"""Draws the general background from real features and prints it as JSON.

    python scripts/general_background.py examples/features > services/mistudio_explain/validation/general_background.json

Only Apache-2.0 sources are drawn from; the features are those with the smallest hash, so that the same input gives the
same file.
"""

import hashlib
import json
import sys
from pathlib import Path

from mistudio_explain.context.passages import evenly
from mistudio_explain.evaluation.data import Known, read_set
from mistudio_explain.events.activity import active_words, distinct_words
from mistudio_explain.validation.excerpt import passages

FEATURES = {"axbench_sae": 17, "eleuther_gpt2_128k": 30, "mistudio": 17}
SAMPLE_TEXTS = 5
ACTIVE_WORDS = 40


def key_of(known: Known) -> str:
    """layer/feature/line."""
    line, _, name = known.feature.feature_id.partition(":")
    return f"{known.feature.source_id}/{name}/{line}"


def drawn(directory: Path) -> list[dict[str, object]]:
    """The sample, source by source."""
    sample: list[dict[str, object]] = []
    for source, count in FEATURES.items():
        known = [one for one in read_set(directory / f"{source}.jsonl.gz").features if len(one.feature.top_activations) >= SAMPLE_TEXTS]
        known.sort(key=lambda one: hashlib.sha256(f"general|{source}|{key_of(one)}".encode()).digest())
        for one in known[:count]:
            activations = one.feature.top_activations
            chosen = [activations[rank] for rank in evenly(len(activations), SAMPLE_TEXTS)]
            feature: dict[str, object] = {"feature_key": f"{source}/{key_of(one)}", "texts": [passages(text)[0] for text in chosen]}
            if active := distinct_words(map(active_words, chosen), ACTIVE_WORDS):
                feature["active_words"] = active
            sample.append(feature)
    return sample


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: general_background.py DIRECTORY (feature sets, such as examples/features)")
    print("[\n" + ",\n".join(json.dumps(feature, ensure_ascii=False) for feature in drawn(Path(sys.argv[1]))) + "\n]")
