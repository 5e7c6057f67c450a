"""Names keep apart what is different, whatever people call their models and jobs."""

import hashlib
import re

from hypothesis import example, given
from hypothesis import strategies as st

from mistudio_explain.events.identity import default_explain_job_id, feature_key, lane_name, outcome_key

# names that differ in little: in characters that a lane cannot have, in what another lane's name ends with
_PLAIN = st.text("abc019-", min_size=1, max_size=6)
_AWKWARD = st.text("aA0./_- é", min_size=1, max_size=6)
_RESERVED = st.sampled_from(["express", "shared", "Express", "express-", "x" * 80, "x" * 81, "x" * 82])
_SIMPLE = _PLAIN | _AWKWARD | _RESERVED | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400)
MODELS = _SIMPLE | _SIMPLE.map(lane_name) | _SIMPLE.map(lane_name).map(lane_name)

ID = st.from_regex(r"[A-Za-z0-9._:/@ -]{1,20}", fullmatch=True)
TENANT = st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True)


@example("a.b", lane_name("a.b"))
@example("express", lane_name("express"))
@given(MODELS, MODELS)
def test_two_models_never_share_a_lane(one: str, other: str) -> None:
    assert (lane_name(one) == lane_name(other)) == (one == other)


@given(_SIMPLE)
def test_a_model_named_as_another_models_lane_has_a_lane_of_its_own(model: str) -> None:
    lane = lane_name(model)
    assert lane == model or lane_name(lane) != lane


@given(MODELS)
def test_a_lane_is_a_topic_name_that_kafka_takes_and_no_reserved_one(model: str) -> None:
    lane = lane_name(model)
    assert re.fullmatch(r"[a-z0-9-]{1,89}", lane)
    assert lane not in ("express", "shared")
    assert lane == model or lane.endswith("-" + hashlib.sha256(model.encode()).hexdigest()[:8])


@given(ID, TENANT, ID, TENANT)
def test_jobs_of_two_tenants_never_share_a_default_name(find_job: str, tenant: str, other_find_job: str, other_tenant: str) -> None:
    if tenant != other_tenant:
        assert default_explain_job_id(find_job, tenant) != default_explain_job_id(other_find_job, other_tenant)


@given(ID, ID)
def test_two_find_jobs_share_a_default_name_only_when_one_is_the_other_with_find_before_it(one: str, other: str) -> None:
    same = default_explain_job_id(one) == default_explain_job_id(other)
    assert same == (one.removeprefix("find_") == other.removeprefix("find_"))


@given(ID, ID, ID)
def test_a_key_tells_the_job_and_the_feature(job: str, source: str, feature: str) -> None:
    key = outcome_key(job, feature_key(feature, source))
    assert key.split("|") == [job, f"{source}/{feature}"]
