"""Makes the example find jobs out of public feature data, and one of Find's size out of the examples.

    make_examples.py examples DATA_DIR   writes examples/gpt2-small and examples/gemma-2-2b
    make_examples.py size OUT            writes 512 features, about 22 MB, to the file OUT

DATA_DIR has eleuther_gpt2_128k.jsonl and axbench_sae.jsonl; examples/README.md says where they come from. `size`
needs nothing but the examples in this repository. Both give the same bytes each time.
"""

import argparse
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from mistudio_explain.intake.computed import coherence, keywords

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
GPT2 = EXAMPLES / "gpt2-small" / "feature_analysis.json"
GEMMA = EXAMPLES / "gemma-2-2b" / "find_gemma-2-2b_results.json"

GPT2_FEATURES = 16
SIZE_FEATURES = 512
SIZE_BYTES = 43_500  # one feature; a file of 512 has 21.7 MB according to the specification

LEAST_MEDIUM = 0.4


def smallest_hashes(records: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Choose `count` records by nothing that they say: those whose `layer/feature_id` has the smallest sha256."""
    return sorted(records, key=lambda record: hashlib.sha256(f"{record['layer']}/{record['feature_id']}".encode()).hexdigest())[:count]


def strongest_first(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The record's texts that are not empty, by strength; equally strong ones stay in the source's order."""
    return sorted((each for each in record["activations"] if each["text"]), key=lambda each: -each["max_activation"])


def gpt2_job(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """16 features of GPT-2 small in the specification's shape."""
    chosen = smallest_hashes(records, GPT2_FEATURES)
    metadata = {"job_id": "find_gpt2-small", "model_name": "openai-community/gpt2", "total_features": len(chosen)}
    return {"job_metadata": metadata, "features": [gpt2_feature(record) for record in chosen]}


def gpt2_feature(record: dict[str, Any]) -> dict[str, Any]:
    """One feature in the specification's shape; `source_id`, `active_tokens` and `peak` come on top of it."""
    activations = strongest_first(record)
    texts = [each["text"] for each in activations]
    return {
        "feature_id": record["feature_id"],
        "source_id": record["layer"],
        "coherence_score": round(coherence(texts) or 0.0, 4),
        "pattern_keywords": keywords(texts),
        "top_activations": [
            {
                "text": each["text"],
                "activation_strength": each["max_activation"],
                "active_tokens": [{"token": token, "strength": strength} for token, strength in each["active_tokens"]],
                "peak": each["peak"],
            }
            for each in activations
        ],
    }


def gemma_job(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """All of the source's features of Gemma 2 2B in the shape that miStudioFind writes."""
    results = [gemma_feature(record) for record in records if record["model"] == "gemma-2-2b"]
    return {
        "job_id": "find_gemma-2-2b",
        "status": "completed",
        "results": results,
        "metadata": {"total_features": len(results), "top_k": 20, "analysis_type": "feature_analysis"},
    }


def gemma_feature(record: dict[str, Any]) -> dict[str, Any]:
    """One feature in miStudioFind's shape; `source_id`, `tokens` and `token_activations` come on top of it."""
    activations = strongest_first(record)
    texts = [each["text"] for each in activations]
    score = coherence(texts) or 0.0
    # with less than 0.4 it is low whatever the frequency, which the source does not give and Find asks for only above
    assert score < LEAST_MEDIUM
    return {
        "feature_id": record["feature_id"],
        "source_id": record["layer"],
        "top_activations": [
            {"text": each["text"], "activation_value": each["max_activation"], "ranking": place, **tokens_of_text(each)}
            for place, each in enumerate(activations, start=1)
        ],
        "coherence_score": round(score, 4),
        "quality_level": "low",
        "pattern_keywords": keywords(texts),
    }


def tokens_of_text(activation: dict[str, Any]) -> dict[str, Any]:
    """The tokens that make the text, with their activations.

    The source's tokens begin with the prompt that the text answers. Nothing is given where no token begins with the
    text, or where the strongest token is in the prompt.
    """
    tokens, values = activation["tokens"], activation["values"]
    for first in range(len(tokens)):
        if "".join(tokens[first:]) == activation["text"] and max(values[first:]) == activation["max_activation"]:
            return {"tokens": tokens[first:], "token_activations": values[first:]}
    return {}


def size_job(job: dict[str, Any]) -> dict[str, Any]:
    """512 features of Find's size with the specification's fields alone, made of the Gemma example's 19 over and over.

    It is no find job that anybody ran, and what is measured on it says nothing of quality.
    """
    originals = [[in_specification(each) for each in feature["top_activations"]] for feature in job["results"]]
    features = list(itertools.islice(size_features(originals), SIZE_FEATURES))
    metadata = {"job_id": "find_size", "model_name": "gemma-2-2b", "total_features": len(features)}
    return {"job_metadata": metadata, "features": features}


def size_features(originals: Sequence[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Features of SIZE_BYTES each, without end.

    Each copy of a feature lacks another two of its texts, so that no two are equal, and is filled up with texts of
    the features after it.
    """
    for number in itertools.count():
        copy, original = divmod(number, len(originals))
        own = originals[original]
        pairs = list(itertools.combinations(range(len(own)), 2))
        left_out = pairs[copy % len(pairs)]
        kept = [each for place, each in enumerate(own) if place not in left_out]
        filling = itertools.chain(*originals[original + 1 :], *originals)
        size = sum(map(json_size, kept))
        while (size := size + json_size(following := next(filling))) < SIZE_BYTES:
            kept.append(following)
        texts = [each["text"] for each in kept]
        yield {
            "feature_id": number,
            "coherence_score": round(coherence(texts) or 0.0, 4),
            "pattern_keywords": keywords(texts),
            "top_activations": kept,
        }


def in_specification(activation: dict[str, Any]) -> dict[str, Any]:
    """An activation of Find's shape with the specification's two fields that the source has."""
    return {"text": activation["text"], "activation_strength": activation["activation_value"]}


def json_size(value: object) -> int:
    """Bytes of a value as JSON."""
    return len(orjson.dumps(value))


def write_lines(path: Path, job: dict[str, Any], features: str) -> None:
    """Write a job as JSON with one feature a line."""
    lines = b",\n    ".join(orjson.dumps(feature) for feature in job[features])
    frame = orjson.dumps({**job, features: []}, option=orjson.OPT_INDENT_2)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(frame.replace(b": []", b": [\n    " + lines + b"\n  ]", 1) + b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("examples", help="rebuild the committed examples").add_argument("data", type=Path, metavar="DATA_DIR")
    commands.add_parser("size", help="write the example of Find's size").add_argument("out", type=Path, metavar="OUT")
    arguments = parser.parse_args()
    if arguments.command == "examples":
        write_lines(GPT2, gpt2_job(read_lines(arguments.data / "eleuther_gpt2_128k.jsonl")), "features")
        write_lines(GEMMA, gemma_job(read_lines(arguments.data / "axbench_sae.jsonl")), "results")
    else:
        write_lines(arguments.out, size_job(orjson.loads(GEMMA.read_bytes())), "features")


if __name__ == "__main__":
    main()
