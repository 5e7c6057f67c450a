"""One endpoint: a provider with its slots, its models and its health."""

from dataclasses import dataclass, field

from pydantic import SecretStr

from mistudio_explain.events.explanation import Reach
from mistudio_explain.llm.failures import ModelUnknown
from mistudio_explain.llm.provider import ModelListed, Provider

_DEFAULT_TAG = ":latest"


@dataclass(slots=True, eq=False)
class Endpoint:
    """An LLM server as the dispatch sees it; the unit of placement."""

    name: str
    kind: str
    url: str
    slots: int
    provider: Provider
    wanted: tuple[str, ...] | None = None
    models: tuple[ModelListed, ...] = ()
    is_known: bool = True
    """Whether it has ever said which models it has; until then `models` are those wanted."""
    in_flight: int = 0
    down: str | None = None
    """Why no call is sent to it; None while it is healthy."""
    failures_in_a_row: int = 0
    refused: set[str] = field(default_factory=set)
    """Models that it lists but then does not know."""
    reach: Reach = "machine"
    """How far a prompt travels to it."""
    key: SecretStr | None = None
    """What whoever asks it something beside calls has to show."""

    @property
    def is_cloud(self) -> bool:
        """Whether it is somebody else's: only calls that were allowed to leave go there."""
        return self.reach == "cloud"

    @property
    def free(self) -> int:
        """Slots without a call."""
        return self.slots - self.in_flight

    def model_named(self, name: str) -> ModelListed | None:
        """The model that a route's entry means here; `llama3` means `llama3:latest`."""
        return next((model for model in self.models if _same(model.name, name)), None)

    def may_have(self, name: str) -> bool:
        """Whether it has a model, or nobody knows yet."""
        return self.model_named(name) is not None or (not self.is_known and self.wanted is None)

    async def refresh(self) -> None:
        """Ask which models there are. Raises a CallFailure; ModelUnknown when none of the wanted ones is left."""
        listed = await self.provider.models()
        self.is_known = True
        self.refused &= {model.name for model in listed}
        usable = [model for model in listed if model.name not in self.refused]
        if self.wanted is not None:
            usable = [model for name in self.wanted for model in usable if _same(model.name, name)]
        self.models = tuple(usable)
        if not usable:
            raise ModelUnknown(f"it has none of the models wanted ({', '.join(self.wanted or ()) or 'any'}); it lists {_names(listed)}")


def _same(listed: str, wanted: str) -> bool:
    return listed == wanted or listed == wanted + _DEFAULT_TAG


def _names(models: list[ModelListed] | tuple[ModelListed, ...]) -> str:
    return ", ".join(model.name for model in models) or "no model"
