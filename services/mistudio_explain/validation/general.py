"""The stored general background: what a feature is compared with when its find job is too small for a contrast."""

from importlib.resources import files

import orjson

from mistudio_explain.events.job import BackgroundFeature


def general_background() -> list[BackgroundFeature]:
    """64 features of several models, 5 texts each; sources and licences stand in general_background.md."""
    return [BackgroundFeature.model_validate(feature) for feature in orjson.loads((files(__package__) / "general_background.json").read_bytes())]
