"""The list of all events."""

from mistudio_explain.events.explanation import (
    DeadLetter,
    EscalationCandidate,
    ExplanationDrafted,
    ExplanationRequested,
    FeatureOutcome,
    FeatureReviewed,
    TokenChunk,
)
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.job import Admission, JobBackground, JobEvent, JobReport, PartitionPaused
from mistudio_explain.events.model import Record

EVENTS: tuple[type[Record], ...] = (
    FeatureFound,
    JobRequest,  # travels in the header mse-request
    JobEvent,
    Admission,
    JobBackground,
    ExplanationRequested,
    ExplanationDrafted,
    FeatureOutcome,
    EscalationCandidate,
    FeatureReviewed,
    TokenChunk,
    JobReport,
    DeadLetter,
    PartitionPaused,
)
