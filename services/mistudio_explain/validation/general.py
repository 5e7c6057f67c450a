"""The stored general background: what a feature is compared with when its find job is too small for a contrast."""

from dataclasses import replace
from importlib.resources import as_file, files

import orjson
from safetensors import safe_open

from mistudio_explain.events.job import BackgroundFeature
from mistudio_explain.validation.contrast import Contrast
from mistudio_explain.validation.static_embedding import StaticEmbedding, Vectors

MINILM_STORED = "general_background_minilm.safetensors"
CENTROIDS = "centroids"


def general_background() -> list[BackgroundFeature]:
    """64 features of several models, 5 texts each; sources and licences stand in general_background.md."""
    return [BackgroundFeature.model_validate(feature) for feature in orjson.loads((files(__package__) / "general_background.json").read_bytes())]


def general_contrast(embedding: StaticEmbedding, minilm: bool) -> Contrast:
    """The general background, prepared; MiniLM's part, when it is wanted, is read: embedding 320 texts takes 2 to 3 s of a core."""
    contrast = Contrast.of(general_background(), embedding)
    return replace(contrast, minilm=_stored_centroids()) if minilm else contrast


def _stored_centroids() -> Vectors:
    """The mean of MiniLM's unit vectors of each feature's texts, written by scripts/general_background_minilm.py."""
    with as_file(files(__package__) / MINILM_STORED) as path, safe_open(str(path), framework="np") as tensors:
        centroids: Vectors = tensors.get_tensor(CENTROIDS)
        return centroids
