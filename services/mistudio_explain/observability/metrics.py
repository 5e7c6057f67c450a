"""Every metric of the product, each declared once with its meaning."""

from prometheus_client import Counter, Gauge, Histogram

# The specification's, with exactly its labels.
MODEL_REQUESTS = Counter("mistudio_explain_model_requests", "Calls of an explainer model that gave a usable answer.", ["model_name"])
DURATION = Histogram(
    "mistudio_explain_duration_seconds", "Time of one explainer call, from sending to the end of the answer.", ["model_name"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300),
)  # fmt: skip
QUALITY = Histogram("mistudio_explain_quality_score", "Quality score of explained features.", ["model_name"], buckets=tuple(i / 20 for i in range(1, 21)))

# Ours.
EVENTS_IN = Counter("mistudio_explain_events_in", "Records that a service has taken from Kafka. Flat while lag grows: the service hangs or holds.", ["service"])
EVENTS_OUT = Counter("mistudio_explain_events_out", "Records that were published and confirmed.", ["topic"])
IN_FLIGHT = Gauge("mistudio_explain_in_flight", "Records being worked on now.", ["service"])
DEAD_LETTERS = Counter("mistudio_explain_dead_letters", "Records given up. Any increase wants a look at `explain.dlq`.", ["service", "error"])
OUTCOMES = Counter("mistudio_explain_outcomes", "Outcomes made, by kind and verdict.", ["outcome", "verification"])
CACHED_ANSWERS = Counter("mistudio_explain_cached_answers", "Answers that came from the cache instead of a model.", ["model_name"])
TOKENS = Counter("mistudio_explain_tokens", "Tokens counted by the LLM servers.", ["model_name", "direction"])
