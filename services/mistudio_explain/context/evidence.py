"""Which of a feature's texts the explainer sees, and which are kept from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mistudio_explain.context.passages import Passage, evenly
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.events.explanation import Evidence

NO_HELDOUT = "no_heldout"
NO_HELDOUT_CAVEAT = "There were too few different texts to keep some from the explainer, so the explanation is tested on the very texts it was made from."
NEAR_DUPLICATES = "near_duplicates"
TRIMMED = "evidence_trimmed:"  # and how many texts had no room in the prompt
OVER_BUDGET = "texts_over_budget"  # flags a prompt that is too long with one text


@dataclass(frozen=True, slots=True)
class Split:
    """The texts that are shown and those held out, both strongest first, and how many were left out."""

    seen: tuple[Passage, ...]
    held_out: tuple[Passage, ...]
    trimmed: int

    def without_weakest(self) -> "Split":
        """One seen text less."""
        return replace(self, seen=self.seen[:-1], trimmed=self.trimmed + 1)

    def evidence(self) -> Evidence:
        """The split as it travels."""
        return Evidence(
            seen=[passage.activation for passage in self.seen],
            held_out=[passage.activation for passage in self.held_out],
            trimmed=self.trimmed,
        )


def split(passages: Sequence[Passage], shown_at_most: int, policy: ContextPolicy, trimmed: int = 0) -> Split:
    """Choose at most `policy.max_texts` passages evenly over the ranks, and hold some of them out.

    From `policy.held_out_from` passages on, at least `policy.held_out_share` of them are held out, and those beyond
    the `shown_at_most` that the prompt has room for. The seen ones lie evenly over the ranks from the strongest on,
    the held-out ones between them, so that neither are the weak ones. The validator's coefficients were fitted on
    texts chosen like this. `trimmed` is what was left out before.
    """
    kept = [passages[rank] for rank in evenly(len(passages), policy.max_texts)]
    trimmed += len(passages) - len(kept)
    count = len(kept)
    held_out = math.ceil(policy.held_out_share * count - 1e-9) if count >= policy.held_out_from else 0
    if held_out == 0:
        ranks = set(evenly(count, shown_at_most))
        return Split(tuple(kept[rank] for rank in sorted(ranks)), (), trimmed + count - len(ranks))
    seen = max(1, min(count - held_out, shown_at_most))
    ranks = {step * count // seen for step in range(seen)}
    return Split(
        seen=tuple(passage for rank, passage in enumerate(kept) if rank in ranks),
        held_out=tuple(passage for rank, passage in enumerate(kept) if rank not in ranks),
        trimmed=trimmed,
    )


def has_lower_bins(passages: Sequence[Passage]) -> bool:
    """Whether the texts reach below the feature's strongest half.

    Find's top-k is the top tail: all of its texts fire nearly alike, and their order by strength says nothing.
    """
    strengths = [passage.activation.activation_strength for passage in passages]
    known = [strength for strength in strengths if strength is not None]
    return len(known) == len(strengths) > 0 and min(known) <= max(known) / 2 and max(known) > 0
