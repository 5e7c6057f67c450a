"""Which traces are kept; imported only where there are traces."""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

FEATURE = "mistudio_explain.feature"


class ShareOfFeatures(Sampler):
    """Keeps a share of the traces of features, and all others, which are few: of orders, reports and batches."""

    def __init__(self, share: float) -> None:
        self._of_features = TraceIdRatioBased(share)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide where a trace begins."""
        sampler = self._of_features if attributes is not None and FEATURE in attributes else ALWAYS_ON
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """What is kept, for people."""
        return f"a share of the traces of features ({self._of_features.get_description()}), and all others"
