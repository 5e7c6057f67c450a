"""miStudioExplain: explains what the features of a language model detect, as a stream."""

__version__ = "0.1.0"
