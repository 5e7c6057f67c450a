"""The validator: everything that validation loads once."""

from dataclasses import dataclass

from mistudio_explain.events.job import JobBackground
from mistudio_explain.settings import QualitySettings
from mistudio_explain.validation.accuracy import FORMULAS, Formula
from mistudio_explain.validation.contrast import Contrast
from mistudio_explain.validation.contrasts import Contrasts
from mistudio_explain.validation.general import general_contrast
from mistudio_explain.validation.minilm import MiniLM
from mistudio_explain.validation.relevance import Relevance
from mistudio_explain.validation.safety import Hazards
from mistudio_explain.validation.static_embedding import StaticEmbedding

VALIDATOR_VERSION = 3
"""Raised with every change of rules, word lists or coefficients: outcomes of a greater version win."""

FEWEST_OTHERS = 8  # fewer other features are no contrast


@dataclass(frozen=True, slots=True)
class Comparison:
    """The background that a feature is scored against: of its find job (`version` > 0), or the general one (0)."""

    contrast: Contrast
    place: int | None
    version: int

    @property
    def others(self) -> int:
        """Features in it, the scored one left out."""
        return len(self.contrast.keys) - (self.place is not None)


@dataclass(frozen=True, slots=True)
class Validator:
    """Models, word lists, policy and thresholds; the only thing in it that changes is the cache of prepared backgrounds."""

    embedding: StaticEmbedding
    hazards: Hazards
    relevance: Relevance
    general: Contrast
    contrasts: Contrasts
    confirmed_from: float
    contradicted_below: float
    minilm: MiniLM | None = None
    formulas: tuple[Formula, ...] = FORMULAS
    """Those in force; the bench puts in others, which have not seen what they are measured on."""

    @classmethod
    def load(cls, quality: QualitySettings, minilm: bool = False) -> "Validator":
        """Load everything from the installed packages, never from a network; MiniLM when the settings or `minilm` say so.

        Raises BadSettings when the relevance policy or a model's files cannot be used.
        """
        embedding = StaticEmbedding.load()
        encoder = MiniLM.load() if minilm or quality.minilm else None
        return cls(
            embedding=embedding,
            hazards=Hazards.load(),
            relevance=Relevance.load(quality.relevance_policy),
            general=general_contrast(embedding, encoder is not None),
            contrasts=Contrasts(embedding, minilm=encoder),
            confirmed_from=quality.confirmed_from,
            contradicted_below=quality.contradicted_below,
            minilm=encoder,
        )

    def comparison(self, feature_key: str, background: JobBackground | None) -> Comparison:
        """The find job's background when it has at least FEWEST_OTHERS other features, else the general one."""
        if background is not None:
            contrast = self.contrasts.of(background)
            if contrast.others(feature_key) >= FEWEST_OTHERS:
                return Comparison(contrast, contrast.place_of(feature_key), background.version)
        return Comparison(self.general, None, 0)
