"""The topics' names."""

from mistudio_explain.events.identity import EXPRESS_LANE, SHARED_LANE

FEATURES = "mistudio.find.features"
REQUESTS = "mistudio.explain.requests"
REPLAYS = "mistudio.explain.replays"
JOBS = "mistudio.explain.jobs"
ADMISSIONS = "mistudio.explain.admissions"
BACKGROUNDS = "mistudio.explain.backgrounds"
TOKENS = "mistudio.explain.tokens"
DRAFTS = "mistudio.explain.drafts"
ESCALATIONS = "mistudio.explain.escalations"
EXPLANATIONS = "mistudio.explain.explanations"
REVIEWS = "mistudio.explain.reviews"
REPORTS = "mistudio.explain.reports"
RETRY_SHORT = "mistudio.explain.retry.30s"
RETRY_LONG = "mistudio.explain.retry.5m"
DEAD_LETTERS = "mistudio.explain.dlq"
PAUSES = "mistudio.explain.pauses"

PROMPTS_PREFIX = "mistudio.explain.prompts."
EXPRESS = PROMPTS_PREFIX + EXPRESS_LANE
SHARED = PROMPTS_PREFIX + SHARED_LANE
