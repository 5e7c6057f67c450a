"""miStudioExplain: explains what the features of a language model detect, as a stream.

From Python and notebooks: `mistudio_explain.score(features, explanations)` and `mistudio_explain.explain(features)`;
docs/library.md has an example. They are loaded when they are first asked for, so that to import the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mistudio_explain.library import Explanations, Features, explain, features_of, score
    from mistudio_explain.library_table import Table

__version__ = "0.2.0.dev0"
__all__ = ["Explanations", "Features", "Table", "__version__", "explain", "features_of", "score"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.library"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
