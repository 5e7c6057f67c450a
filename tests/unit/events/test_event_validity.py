"""What an event may not be although its schema could hold it."""

import pytest
from pydantic import ValidationError

from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.job import ControlPart, JobEvent, SealedPart


def test_a_job_event_has_exactly_one_part() -> None:
    with pytest.raises(ValidationError, match="exactly one part, not none"):
        JobEvent(explain_job_id="explain_7", at_ms=0)
    with pytest.raises(ValidationError, match="exactly one part, not sealed and control"):
        JobEvent(explain_job_id="explain_7", at_ms=0, sealed=SealedPart(expected=1), control=ControlPart(action="cancel"))


def test_a_feature_whose_default_job_would_have_too_long_a_name_needs_a_request() -> None:
    long = "x" * 193
    with pytest.raises(ValidationError, match="give a request with explain_job_id"):
        FeatureFound(target_model="gpt2", find_job_id=long, feature_id="5")
    assert FeatureFound(target_model="gpt2", find_job_id=long[1:], feature_id="5").effective_request.explain_job_id == "explain_" + long[1:]
    asked = JobRequest(explain_job_id="mine")
    assert FeatureFound(target_model="gpt2", find_job_id=long, feature_id="5", request=asked).effective_request == asked
