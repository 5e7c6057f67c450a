"""The contrast sample of a find job: which features are in it, and when it changes no more."""

import hashlib
from bisect import insort
from collections.abc import Iterable

from mistudio_explain.context.passages import evenly
from mistudio_explain.context.windows import bounded
from mistudio_explain.events.activity import active_words, distinct_words, promoted_words
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.events.job import BackgroundFeature, JobBackground

SAMPLE = 64
COUNTED = 512
TEXTS = 5
TEXT_CHARACTERS = 200
KEYWORDS = 20
ACTIVE_WORDS = 40
KEYWORD_CHARACTERS = 60  # bounds, so that the sample of any find job fits into one record
_PREFIX = 8  # bytes of a hash that tell features apart: two of 512 are alike with a probability of 1 in 10^14


def empty(find_job_id: str, tenant: str, target_model: str) -> JobBackground:
    """The background of a find job of which nothing was read."""
    return JobBackground(find_job_id=find_job_id, tenant=tenant, target_model=target_model, sample=[], distinct=0, frozen=False)


def include(background: JobBackground, features: Iterable[FeatureFound]) -> JobBackground:
    """The background after these features of its find job, in log order.

    A feature that was counted before changes nothing, and nothing changes after the freeze: at 512 different features,
    or at as many as a feature's request says the job has. So the result depends on the log alone, not on batches,
    restarts or repetitions: the first 512 different features are counted, and those 64 are sampled whose
    sha256(find_job_id|feature_key) is smallest. Features of replays are not for it: they inherit the background of
    their find job.

    When nothing changed, the same object comes back.
    """
    if background.frozen:
        return background
    seen = {background.seen[at : at + _PREFIX] for at in range(0, len(background.seen), _PREFIX)}
    counted = bytearray(background.seen)
    sample = [(_digest(background.find_job_id, feature.feature_key), feature) for feature in background.sample]
    frozen = False
    for feature in features:
        digest = _digest(background.find_job_id, feature.feature_key)
        if digest[:_PREFIX] in seen:
            continue
        seen.add(digest[:_PREFIX])
        counted += digest[:_PREFIX]
        if len(sample) < SAMPLE or digest < sample[-1][0]:
            insort(sample, (digest, _sampled(feature)), key=lambda entry: entry[0])
            del sample[SAMPLE:]
        frozen = _is_complete(len(seen), feature.effective_request.expected)
        if frozen:
            break
    if len(counted) == len(background.seen):
        return background
    return background.model_copy(
        update={"sample": [feature for _, feature in sample], "distinct": len(seen), "frozen": frozen, "seen": b"" if frozen else bytes(counted)}
    )


def freeze(background: JobBackground, expected: int) -> JobBackground:
    """The background after a seal that says how many features the find job has; `expected` features must have been read."""
    if background.frozen or not _is_complete(background.distinct, expected):
        return background
    return background.model_copy(update={"frozen": True, "seen": b""})


def _is_complete(distinct: int, expected: int | None) -> bool:
    return distinct >= COUNTED or (expected is not None and distinct >= expected)


def _digest(find_job_id: str, feature_key: str) -> bytes:
    return hashlib.sha256(f"{find_job_id}|{feature_key}".encode()).digest()


def _sampled(feature: FeatureFound) -> BackgroundFeature:
    """Keywords, at most 5 texts, evenly over the ranks, each at most 200 characters round its peak, their active words, promoted tokens."""
    texts = [activation for activation in feature.top_activations if activation.text.strip()]
    ranks = evenly(len(texts), TEXTS)
    chosen = [bounded(texts[rank], TEXT_CHARACTERS).text for rank in ranks]
    keywords = [keyword[:KEYWORD_CHARACTERS] for keyword in feature.pattern_keywords[:KEYWORDS]]
    return BackgroundFeature(
        feature_key=feature.feature_key,
        keywords=keywords,
        texts=[text for text in chosen if text.strip()],
        active_words=distinct_words((active_words(texts[rank]) for rank in ranks), ACTIVE_WORDS),
        promoted=promoted_words(feature.top_logits),
    )
