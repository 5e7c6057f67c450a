"""The routing policy: what it sends where, what is wrong with one, and what it comes to on the servers that there are."""

from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from mistudio_explain.context.explainers import DEMONSTRATION, Listed, Route, Routing, Server
from mistudio_explain.context.routing import Case, load_routing
from mistudio_explain.context.stage import build
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import Category, Complexity, ExplanationRequested, Tier
from mistudio_explain.events.feature import Classification, JobRequest
from unit.context.finding import TEMPLATES, found, policy

POLICY = load_routing()
LAST = '[[rules]]\nmodels = ["small"]\n'


def case(category: Category = Category.OTHER, complexity: Complexity = "low", tier: Tier = Tier.GOOD) -> Case:
    return Case(category, complexity, tier)


def server(name: str, *models: str, memory_gb: float | None = None) -> Server:
    return Server(name, tuple(map(Listed, models)), memory_gb)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "routing.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("category", "complexity", "first"),
    [
        (Category.OTHER, "low", "llama3.1:8b"),
        (Category.TECHNICAL, "medium", "llama3.1:8b"),
        (Category.TECHNICAL, "high", "codellama:13b"),
        (Category.OTHER, "high", "llama3.1:70b"),
        (Category.BEHAVIORAL, "low", "llama3.1:70b"),
        (Category.BEHAVIORAL, "high", "llama3.1:70b"),
    ],
)
def test_the_shipped_policy_is_the_specification_s(category: Category, complexity: Complexity, first: str) -> None:
    assert POLICY.models_for(case(category, complexity))[0] == first


def test_every_feature_of_the_shipped_policy_falls_back_to_mistral() -> None:
    for category, complexity, tier in product(Category, get_args(Complexity), Tier):
        assert POLICY.models_for(Case(category, complexity, tier))[-1] == "mistral:7b"


def test_the_shipped_policy_has_the_specification_s_memory_and_use_cases() -> None:
    said = {name: (needs.gpu_memory_gb, needs.use_cases) for name, needs in POLICY.models.items()}
    assert said["llama3.1:8b"] == (8, ("simple_patterns", "quick_explanations"))
    assert said["codellama:13b"] == (12, ("technical_patterns", "code_analysis"))
    assert said["llama3.1:70b"] == (40, ("complex_behavioral", "detailed_analysis"))


def test_a_rule_tells_features_apart_by_tier(tmp_path: Path) -> None:
    rules = '[[rules]]\ntier = ["excellent", "good"]\nmodels = ["one"]\n' + LAST
    own = load_routing(written(tmp_path, rules))
    assert own.models_for(case(tier=Tier.EXCELLENT)) == ("one",)
    assert own.models_for(case(tier=Tier.GOOD)) == ("one",)
    assert own.models_for(case(tier=Tier.FAIR)) == ("small",)


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("[[rules]]\ncategory = ['culinary']\nmodels = ['m']\n" + LAST, 2, "rules.1.category.1", "'technical'"),
        ("[[rules]]\ncomplexity = ['huge']\nmodels = ['m']\n" + LAST, 2, "rules.1.complexity.1", "'low', 'medium' or 'high'"),
        ("[[rules]]\ntier = ['grand']\nmodels = ['m']\n" + LAST, 2, "rules.1.tier.1", "'excellent'"),
        (LAST + "\n[[rules]]\nmodels = []\n", 5, "rules.2.models", "at least 1 item"),
        ("# nothing\n" + LAST + "colour = 'red'\n", 4, "rules.1.colour", "Extra inputs"),
        ("[[rules]]\ncategory = ['other']\n", 1, "rules.1.models", "Field required"),
        ("[[rules]]\ncategory = []\nmodels = ['m']\n" + LAST, 2, "rules.1.category", "at least 1 item"),
        ("rules = []\n", 1, "rules", "at least 1 item"),
        ("", 1, "rules", "Field required"),
        (LAST + "[[rules]]\ncategory = ['other']\nmodels = ['m']\n", 3, "rules.2", "no feature can reach this rule"),
        (
            "[[rules]]\ncategory = ['other']\nmodels = ['m']\n[[rules]]\nmodels = ['n']\n[[rules]]\ntier = ['good']\nmodels = ['m']\n",
            6,
            "rules.3",
            "no feature can reach",
        ),
        ("[[rules]]\ncategory = ['other']\nmodels = ['m']\n", 1, "rules.1", "no rule fits a feature of category behavioral"),
        ("[[rules]]\nmodels = ['m', 'n', 'm']\n", 2, "rules.1.models", "'m' stands twice"),
        ('[models."m:7b"]\ngpu_memory_gb = 0\n' + LAST, 2, "models.m:7b.gpu_memory_gb", "greater than 0"),
        (
            '[models."m:70b"]\nparameters_billion = 70.6\ngpu_memory_gb = 20\nbits_per_weight = 4.5\n' + LAST,
            3,
            "models.m:70b.gpu_memory_gb",
            "20 GB cannot hold its weights, which alone are 39.7 GB",
        ),
    ],
)
def test_a_wrong_policy_names_file_line_key_and_what_is_wrong(tmp_path: Path, text: str, line: int, key: str, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadSettings) as caught:
        load_routing(path)
    assert str(caught.value).startswith(f"routing policy {path}, line {line}, {key}: ")
    assert problem in str(caught.value)


def test_what_is_no_toml_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"routing\.toml cannot be read: .*line 2"):
        load_routing(written(tmp_path, "[[rules]]\nmodels = nothing\n"))
    with pytest.raises(BadSettings, match=r"nowhere\.toml cannot be read"):
        load_routing(tmp_path / "nowhere.toml")


def test_a_route_has_the_policy_s_models_that_a_server_has() -> None:
    routing = Routing(POLICY, (server("a", "llama3.1:8b"), server("b", "codellama:13b", "phi3")))
    assert routing.route(case()) == Route(("llama3.1:8b",))
    assert routing.route(case(Category.TECHNICAL, "high")) == Route(("codellama:13b", "llama3.1:8b"))


def test_a_model_that_no_server_has_is_wanted_and_another_stands_in() -> None:
    routing = Routing(POLICY, (server("a", "llama3.1:8b", "mistral:7b"),))
    assert routing.route(case(Category.BEHAVIORAL)) == Route(("llama3.1:8b", "mistral:7b"), wanted="llama3.1:70b")


def test_a_model_that_no_server_can_hold_is_not_asked_and_the_line_says_the_arithmetic() -> None:
    models = ("llama3.1:8b", "llama3.1:70b", "codellama:13b", "mistral:7b")
    small = Routing(POLICY, (server("gpu0", *models, memory_gb=24), server("gpu1", *models, memory_gb=12)))
    assert small.route(case(Category.BEHAVIORAL)).wanted == "llama3.1:70b"
    assert small.substitutes() == [
        "llama3.1:70b needs 40 GB: 70.6 billion weights x 4.5 bits / 8 = 39.7 GB, and its context, but gpu0 has 24 GB, gpu1 has 12 GB: llama3.1:8b stands in"
    ]
    big = Routing(POLICY, (server("gpu0", *models, memory_gb=24), server("gpu2", *models, memory_gb=80)))
    assert (big.route(case(Category.BEHAVIORAL)).wanted, big.substitutes()) == (None, [])


def test_the_size_that_a_server_tells_counts_more_than_the_file_s() -> None:
    routing = Routing(POLICY, (Server("gpu0", (Listed("llama3.1:8b"), Listed("llama3.1:70b", needed_gb=19.6)), 24),))
    assert routing.route(case(Category.BEHAVIORAL)) == Route(("llama3.1:70b", "llama3.1:8b"))


def test_models_that_are_at_no_endpoint_are_named_each_once_with_what_stands_in() -> None:
    lines = Routing(POLICY, (server("a", "llama3.1:8b"),)).substitutes()
    assert [line.partition(" is at no endpoint")[0] for line in lines] == ["codellama:13b", "mistral:7b", "llama3.1:70b"]
    assert lines[0].endswith(": llama3.1:8b stands in")
    assert "39.7 GB" in lines[2]


def test_the_shipped_policy_says_nothing_where_no_server_has_any_of_its_models() -> None:
    for servers in ((), (server("local", "smollm2:135m"),), (Server("away"),), (Server("d", (Listed("smollm2-135m-instruct"),), is_demonstration=True),)):
        routing = Routing(POLICY, servers)
        assert routing.route(case(Category.BEHAVIORAL, "high")) == Route(())
        assert routing.substitutes() == []


def test_an_own_policy_that_names_only_absent_models_is_served_by_what_there_is_and_says_so(tmp_path: Path) -> None:
    routing = Routing(load_routing(written(tmp_path, LAST)), (server("a", "phi3"),), is_own=True)
    assert routing.route(case()) == Route((), wanted="small")
    assert routing.substitutes() == ["small is at no endpoint: phi3 stands in"]


def test_while_a_server_s_models_are_not_known_none_of_the_policy_is_missing(tmp_path: Path) -> None:
    routing = Routing(load_routing(written(tmp_path, LAST)), (server("a", "phi3"), Server("away")), is_own=True)
    assert routing.route(case()) == Route(("small",))
    assert routing.substitutes() == []


def test_a_name_without_a_tag_means_the_latest(tmp_path: Path) -> None:
    routing = Routing(load_routing(written(tmp_path, LAST)), (server("a", "small:latest"),), is_own=True)
    assert routing.route(case()) == Route(("small",))


def test_prompts_are_written_for_the_model_that_the_route_comes_to() -> None:
    routing = Routing(POLICY, (server("a", "llama3.1:8b", "codellama:13b"),))
    assert routing.family(routing.route(case(Category.TECHNICAL, "high")).models) == "codellama:13b"
    assert routing.family(routing.route(case(Category.BEHAVIORAL)).models) == "llama3.1:8b"
    assert Routing(POLICY, (server("a", "phi3"),)).family(()) == "phi3"
    assert Routing().family(()) == ""


def test_the_demonstration_model_keeps_its_own_prompts_whatever_is_asked_for() -> None:
    routing = Routing(POLICY, (Server("d", (Listed("smollm2-135m-instruct"),), is_demonstration=True),))
    assert routing.family(()) == routing.family(("llama3.1:8b",)) == DEMONSTRATION


def requested(routing: Routing, **fields: object) -> ExplanationRequested:
    standing = policy(routing=routing, template="spec-*")
    event = build(found(**fields), standing, TEMPLATES, None)  # type: ignore[arg-type]
    assert isinstance(event, ExplanationRequested)
    return event


def test_a_request_carries_the_route_of_its_category_and_complexity_and_a_prompt_for_it() -> None:
    routing = Routing(POLICY, (server("a", "llama3.1:8b", "codellama:13b"),))
    hard = requested(routing, pattern_category="technical", classification=Classification(complexity_score=0.9))
    assert (hard.route, hard.wanted, hard.prompt.template) == (["codellama:13b", "llama3.1:8b"], None, "spec-codellama")
    behavioral = requested(routing, pattern_category="behavioral", classification=Classification(complexity_score=0.1))
    assert (behavioral.route, behavioral.wanted, behavioral.prompt.template) == (["llama3.1:8b"], "llama3.1:70b", "spec-llama")


def test_a_request_s_own_route_wins_and_its_prompt_is_for_that_model() -> None:
    routing = Routing(POLICY, (server("a", "llama3.1:8b", "codellama:13b"),))
    own = requested(routing, request=JobRequest(explain_job_id="explain_1", route="codellama:13b"))
    assert (own.route, own.wanted, own.prompt.template) == (["codellama:13b"], None, "spec-codellama")


def test_the_prompt_is_no_longer_than_any_model_of_its_route_takes() -> None:
    roomy, narrow = Listed("llama3.1:8b", prompt_tokens=4000), Listed("mistral:7b", prompt_tokens=900)
    routing = Routing(POLICY, (Server("a", (roomy, narrow)),))
    assert policy(routing=routing).budget(routing.route(case())) == 900
    assert policy(routing=routing).budget(Route(("llama3.1:8b",))) == 1500
    assert policy(routing=routing, prompt_tokens=3000).budget(Route(("llama3.1:8b",))) == 3000
