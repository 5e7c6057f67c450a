"""Reads what people said of a job's explanations out of its topic."""

from mistudio_explain.errors import MalformedEvent
from mistudio_explain.events.codec import decode
from mistudio_explain.events.explanation import FeatureReviewed
from mistudio_explain.events.identity import outcome_key
from mistudio_explain.events.topics import REVIEWS
from mistudio_explain.kafka.client import KafkaClients
from mistudio_explain.kafka.snapshot import standing


async def read_reviews(clients: KafkaClients, job: str) -> list[FeatureReviewed]:
    """The newest review of each feature of a job, by feature key.

    A record that cannot be read, or that stands under the key of something else, is left out: the aggregator writes
    what it covers again.
    """
    found: dict[bytes, FeatureReviewed] = {}
    prefix = outcome_key(job, "").encode()
    async with standing(clients, REVIEWS) as snapshot:
        async for record in snapshot:
            key = record.key or b""
            if not key.startswith(prefix):
                continue
            if record.value is None:
                found.pop(key, None)
                continue
            try:
                review = decode(FeatureReviewed, record.value)
            except MalformedEvent:
                continue
            if outcome_key(review.explain_job_id, review.feature_key).encode() == key:
                found[key] = review
    return [found[key] for key in sorted(found)]
