"""What prompts of different features have in common stands at their beginning, where servers keep what they read before."""

from collections.abc import Sequence
from itertools import takewhile

import pytest

from mistudio_explain.context.stage import build
from mistudio_explain.context.template import Template, shipped
from mistudio_explain.events.explanation import ExplanationRequested, Message
from mistudio_explain.events.feature import FeatureFound
from mistudio_explain.generation.several import is_shareable
from unit.context.finding import TEMPLATES as TEMPLATES_KNOWN
from unit.context.finding import found, policy

OTHERWISE = {
    "demonstration": "a model of 135M parameters follows what it read last, and its task has 11 words",
    "spec-": "asked for only, to compare with: the specification's own prompts put the feature before the task",
}
"""Shipped templates that cannot put the constant part first, and why."""

TEMPLATES = [template for template in shipped() if not template.name.startswith(tuple(OTHERWISE))]


def prompt_of(feature: FeatureFound, template: Template) -> tuple[list[Message], bool]:
    made = build(feature, policy(template=template.full_name), TEMPLATES_KNOWN, None)
    assert isinstance(made, ExplanationRequested)
    return made.prompt.messages, is_shareable(made.prompt)


def shared_by(first: FeatureFound, second: FeatureFound, template: Template) -> str:
    texts = [as_read(prompt_of(feature, template)[0]) for feature in (first, second)]
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
    return "".join(character for character, _ in alike)


def two_features() -> tuple[FeatureFound, FeatureFound]:
    return found("A dog slept.", "Two dogs ran.", feature_id="5"), found("Taxes rose.", "She tuned the violin.", feature_id="6", pattern_keywords=["rose"])


def as_read(messages: Sequence[Message]) -> str:
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def said_of_any(feature: FeatureFound, template: Template) -> int:
    """Characters of a prompt that come from the template and not from the feature: those of one with hardly any text."""
    text = feature.top_activations[0].model_copy(update={"text": "x"})
    messages, _ = prompt_of(feature.model_copy(update={"top_activations": [text], "pattern_keywords": []}), template)
    return len(as_read(messages))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.full_name)
def test_two_features_prompts_share_all_turns_but_the_last_which_begins_with_their_fence(template: Template) -> None:
    (first, can_share), (second, _) = (prompt_of(feature, template) for feature in two_features())
    assert can_share
    assert first[:-1] == second[:-1]
    assert shared_by(*two_features(), template).endswith("user: BEGIN ")
    fence = first[-1].content.split()[1]
    assert fence not in as_read(first[:-1])


@pytest.mark.parametrize("template", [template for template in TEMPLATES if template.categories], ids=lambda template: template.full_name)
def test_a_category_s_template_begins_as_the_general_one_so_that_a_mixed_lane_shares_most_of_it(template: Template) -> None:
    feature, _ = two_features()
    (general,) = [each for each in TEMPLATES if not each.categories]
    ours, common = (prompt_of(feature, each)[0][0].content for each in (template, general))
    alike = "".join(one for one, other in takewhile(lambda pair: pair[0] == pair[1], zip(ours, common, strict=False)))
    assert alike.endswith("fit any text. Do not use them.\n- ")
    assert len(alike) >= 0.75 * len(common)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.full_name)
def test_nearly_all_that_a_template_says_of_every_feature_stands_in_the_shared_part(template: Template) -> None:
    feature, other = two_features()
    assert len(shared_by(feature, other, template)) >= 0.9 * said_of_any(feature, template)
