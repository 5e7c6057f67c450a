"""How jobs, features and lanes are named, by example."""

import pytest
from pydantic import ValidationError

from mistudio_explain.events import topics
from mistudio_explain.events.feature import FeatureFound, JobRequest
from mistudio_explain.events.identity import default_explain_job_id, feature_key, lane_name, may_name, outcome_key


@pytest.mark.parametrize(
    ("find_job_id", "tenant", "explain_job_id"),
    [
        ("find_20240115_143022", "default", "explain_20240115_143022"),
        ("nightly", "default", "explain_nightly"),
        ("refind_1", "default", "explain_refind_1"),
        ("find_find_1", "default", "explain_find_1"),
        ("find_7", "acme", "explain.acme_7"),
    ],
)
def test_the_default_explain_job_follows_from_the_find_job_and_the_tenant(find_job_id: str, tenant: str, explain_job_id: str) -> None:
    assert default_explain_job_id(find_job_id, tenant) == explain_job_id


def test_feature_5_of_two_layers_are_two_features() -> None:
    assert feature_key("5") == "5"
    assert feature_key("5", "blocks.3.hook") == "blocks.3.hook/5"
    assert outcome_key("explain_7", "blocks.3.hook/5") == "explain_7|blocks.3.hook/5"
    feature = FeatureFound(target_model="gpt2", find_job_id="find_7", feature_id="5", source_id="layer 3")
    assert feature.feature_key == "layer 3/5"


def test_a_feature_without_a_request_belongs_to_its_find_jobs_default_job() -> None:
    feature = FeatureFound(target_model="gpt2", find_job_id="find_7", feature_id="5")
    assert feature.effective_request == JobRequest(explain_job_id="explain_7")
    asked = JobRequest(explain_job_id="mine", revision=1)
    assert feature.model_copy(update={"request": asked}).effective_request == asked


@pytest.mark.parametrize("bad", ["", "a|b", "a\n", "ä", "x" * 201, "a\tb", "5\n"])
def test_an_id_that_could_not_be_part_of_a_key_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError):
        FeatureFound(target_model="gpt2", find_job_id="find_7", feature_id=bad)


@pytest.mark.parametrize(
    ("model", "lane"),
    [
        ("gpt2", "gpt2"),
        ("microsoft/phi-4", "microsoft-phi-4-7aceaf6c"),
        ("microsoft-phi-4", "microsoft-phi-4"),
        ("GPT2", "---2-4a74d39a"),
        ("express", "express-008231aa"),
        ("shared", "shared-a4d26868"),
    ],
)
def test_a_lane_is_named_after_its_target_model(model: str, lane: str) -> None:
    assert lane_name(model) == lane


def test_the_express_and_the_shared_lane_are_topics_of_their_own() -> None:
    assert topics.EXPRESS == "mistudio.explain.prompts.express"
    assert topics.SHARED == "mistudio.explain.prompts.shared"


TENANTS = ("default", "a", "a-b", "ab", "-", "explain")


@pytest.mark.parametrize("tenant", TENANTS)
@pytest.mark.parametrize("find_job", ["find_1", "1", "find_", ".a_1", "a_1", "explain.a_1", "/../x"])
def test_a_job_is_named_so_that_its_tenant_and_no_other_may_have_named_it(tenant: str, find_job: str) -> None:
    job = default_explain_job_id(find_job, tenant)
    assert [each for each in TENANTS if may_name(each, job)] == [tenant]


@pytest.mark.parametrize("job", ["explain.a_1", "explain.a-b_", "explain.", "explain_1", "mine", "explain.a", "explain.default_1"])
def test_no_id_may_be_given_by_two_tenants(job: str) -> None:
    assert len([each for each in TENANTS if may_name(each, job)]) <= 1
