"""Find jobs in both shapes, as small as they can be, for tests to write and to spoil."""

import json
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
GPT2 = EXAMPLES / "gpt2-small" / "feature_analysis.json"
GEMMA = EXAMPLES / "gemma-2-2b" / "find_gemma-2-2b_results.json"


def feature(feature_id: Any = 348, **fields: Any) -> dict[str, Any]:
    """The specification's feature."""
    return {
        "feature_id": feature_id,
        "coherence_score": 0.501,
        "quality_level": "medium",
        "pattern_category": "technical",
        "pattern_keywords": ["json", "schema", "validation"],
        "top_activations": [{"text": "JSON schema validation patterns...", "activation_strength": 0.89, "context": "API documentation"}],
        "activation_statistics": {"mean": 0.15, "std": 0.08, "frequency": 0.023},
    } | fields


def specified(*features: Any, **metadata: Any) -> dict[str, Any]:
    """feature_analysis.json."""
    about = {
        "job_id": "find_20250726_151321_d9675dce",
        "source_training_job": "train_20250725_222505_9775",
        "model_name": "microsoft/phi-4",
        "total_features": len(features),
        "processing_time": "1.1 seconds",
    }
    return {"job_metadata": about | metadata, "features": list(features)}


def found_feature(feature_id: Any = 348, **fields: Any) -> dict[str, Any]:
    """A feature as miStudioFind writes it, after filtering."""
    return {
        "feature_id": feature_id,
        "top_activations": [
            {"text": "second", "activation_value": 0.5, "text_index": 3, "ranking": 2},
            {"text": "first", "activation_value": 0.9, "text_index": 17, "ranking": 1},
        ],
        "statistics": {"mean_activation": 0.15, "max_activation": 0.9, "std_activation": 0.08, "activation_frequency": 0.023},
        "coherence_score": 0.501,
        "quality_level": "medium",
        "pattern_keywords": ["json"],
        "classification": {
            "primary_category": "behavioral",
            "secondary_categories": ["technical"],
            "quality_tier": "fair",
            "confidence_score": 0.6,
            "semantic_tags": ["tool_usage"],
            "behavioral_indicators": ["polite_refusal"],
            "complexity_score": 0.4,
        },
    } | fields


def found(*features: Any, **members: Any) -> dict[str, Any]:
    """<job>_results.json."""
    return {
        "job_id": "find_20250726_151321_d9675dce",
        "source_job_id": "train_20250725_222505_9775",
        "status": "completed",
        "results": list(features),
        "processing_time": 1.1,
        "timestamp": "2025-07-26T15:13:22",
        "metadata": {"total_features": len(features), "top_k": 20, "analysis_type": "feature_analysis", "service": "miStudioFind", "version": "1.0.0"},
    } | members


def write(folder: Path, content: Any, name: str = "feature_analysis.json") -> Path:
    """Write a file: bytes as they are, anything else as JSON the way Python's json writes it, NaN and all."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, indent=2).encode())
    return path
