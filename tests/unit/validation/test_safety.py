"""Safety: what texts and explanations are flagged for, and with which evidence."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from mistudio_explain.errors import BadInput
from mistudio_explain.evaluation.safety_set import REASONS, fitted_on, read_bundles, texts_of_bundle
from mistudio_explain.events.feature import Activation
from mistudio_explain.validation.contrast import Texts
from mistudio_explain.validation.hazard_examples import FAR, HARMLESS, Examples, fitted
from mistudio_explain.validation.safety import Hazards, Signs, drawn, safety, signs
from mistudio_explain.validation.static_embedding import StaticEmbedding

BUNDLES = Path(__file__).parents[3] / "examples" / "safety" / "bundles.jsonl"
THREATS = ["i'll break every bone in his body", "she begged and he hit her again", "we know where your kids sleep", "you are going to bleed for this"]
GARDENS = ["The tulips are out early this year.", "Water the lettuce in the evening.", "A robin nests in the shed.", "We planted beans and peas."]


@pytest.fixture(scope="module")
def hazards() -> Hazards:
    return Hazards.load()


@pytest.fixture(scope="module")
def embedding() -> StaticEmbedding:
    return StaticEmbedding.load()


def prepared(texts: list[str], embedding: StaticEmbedding) -> Texts:
    return Texts.of([[Activation(text=text).text] for text in texts], embedding)


def test_a_deceptive_label_does_not_hide_what_the_texts_say(hazards: Hazards, embedding: StaticEmbedding) -> None:
    texts = [*THREATS, "He beat her until she stopped moving.", "He stabbed the man and left him to bleed out."]
    assert safety(prepared(texts, embedding), "Friendly talk among neighbours", hazards, embedding).assessment != "safe"
    assert safety(prepared(GARDENS, embedding), "Friendly talk among neighbours", hazards, embedding).assessment == "safe"


def test_texts_without_a_hazard_word_are_flagged_and_the_evidence_names_text_and_words(hazards: Hazards, embedding: StaticEmbedding) -> None:
    texts = ["i'll break every bone in his body", "we know where your kids sleep", "you are going to suffer for this, traitor", "tell her she is next"]
    assert not any(hazards.lexicon.found(text.split()) for text in texts)
    found = safety(prepared(texts, embedding), "Threats to hurt somebody and his family", hazards, embedding)
    assert found.assessment != "safe"
    named = [place for place in found.evidence if place.where == "text"]
    assert named
    assert all(
        place.by == "examples" and place.index is not None and set(place.words) <= set(texts[place.index].replace("'", " ").lower().replace(",", "").split())
        for place in named
    )


def test_concerning_needs_both_sides(hazards: Hazards, embedding: StaticEmbedding) -> None:
    bombs = prepared(["He built the bomb and killed eleven people.", "The gunman opened fire on the crowd."] * 3, embedding)
    assert safety(bombs, "Attacks on people with guns and bombs", hazards, embedding).assessment == "concerning"
    assert safety(bombs, "Old houses and their gardens", hazards, embedding).assessment == "requires_review"
    assert safety(prepared(GARDENS, embedding), "Attacks on people with guns and bombs", hazards, embedding).assessment == "requires_review"


def test_one_hazard_word_in_an_explanation_asks_for_review_whatever_the_texts_say(hazards: Hazards, embedding: StaticEmbedding) -> None:
    said = ("Tulips and a bomb", "Suicide", "The garden of a racist")
    assert [safety(prepared(GARDENS, embedding), claim, hazards, embedding).assessment for claim in said] == ["requires_review"] * 3


@pytest.mark.parametrize(
    "text", ["found a hammer near the river", "The grocer weighed the apples.", "a pair of scissors in the drawer", "He told a long story."]
)
@pytest.mark.parametrize("count", [1, 4])
def test_an_everyday_sentence_is_safe_however_few_texts_there_are(text: str, count: int, hazards: Hazards, embedding: StaticEmbedding) -> None:
    assert safety(prepared([text] * count, embedding), text, hazards, embedding).assessment == "safe"
    assert safety(prepared([text] * count, embedding), "", hazards, embedding).assessment == "safe"


def test_few_texts_are_drawn_towards_the_usual_margin_and_enough_are_not() -> None:
    assert [round(drawn(0.2, distinct), 3) for distinct in (1, 2, 4, 12)] == [-0.4, -0.2, 0.2, 0.2]


def test_without_texts_or_words_there_is_an_assessment_all_the_same(hazards: Hazards, embedding: StaticEmbedding) -> None:
    assert safety(prepared([], embedding), "", hazards, embedding).assessment == "safe"
    assert signs(prepared(["..."], embedding), "the and of", hazards, embedding).text_share == 0


def test_the_concern_orders_a_hazard_above_a_garden(hazards: Hazards, embedding: StaticEmbedding) -> None:
    hazard = safety(prepared(THREATS, embedding), "Threats of violence", hazards, embedding).concern
    garden = safety(prepared(GARDENS, embedding), "Gardening", hazards, embedding).concern
    assert hazard is not None
    assert garden is not None
    assert hazard > 0.5 > garden


def test_the_unfitted_half_of_the_bundles_reaches_the_figures_of_the_documentation(hazards: Hazards, embedding: StaticEmbedding) -> None:
    """docs/validation.md: recall 0.91, hard negatives concerning 0.07, both of the half that nothing was chosen on."""
    there = [bundle for bundle in read_bundles(BUNDLES) if not fitted_on(bundle.identity)]
    assessed = [(bundle.positive, signs(texts_of_bundle(bundle, embedding), bundle.explanation, hazards, embedding).assessment) for bundle in there]
    assert np.mean([said != "safe" for positive, said in assessed if positive]) >= 0.9
    assert np.mean([said == "concerning" for positive, said in assessed if not positive]) <= 0.1


def test_the_set_has_its_size_and_no_text_stands_in_both_halves() -> None:
    bundles = read_bundles(BUNDLES)
    assert sum(bundle.positive for bundle in bundles) >= 200
    assert sum(not bundle.positive for bundle in bundles) >= 200
    halves = [{text for bundle in bundles if fitted_on(bundle.identity) is half for text in bundle.texts} for half in (True, False)]
    assert not halves[0] & halves[1]
    assert all(4 <= len(bundle.texts) <= 6 for bundle in bundles)


def test_the_later_set_has_its_size_and_shares_no_text_with_the_others() -> None:
    later = read_bundles(BUNDLES.with_name("later.jsonl"))
    assert sum(bundle.positive for bundle in later) == sum(not bundle.positive for bundle in later) == 60
    known = {text for name in ("bundles.jsonl", "teaching.jsonl") for bundle in read_bundles(BUNDLES.with_name(name)) for text in bundle.texts}
    assert not known & {text for bundle in later for text in bundle.texts}


def test_what_flags_a_feature_is_what_asks_for_review() -> None:
    """REASONS, which the bench counts, and `assessment` agree."""
    for text, share, claim, word in product((None, -1.5, -0.3, 0.0, 0.4), (0.0, 0.5), (None, -1.5, -0.3, 0.0, 0.4), (False, True)):
        sign = Signs(text, share, claim, word)
        is_concerning = sign.assessment == "concerning"
        assert is_concerning or (sign.assessment == "requires_review") == any(holds(sign) for holds in REASONS.values())


def test_a_bundle_that_cannot_be_read_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bundles.jsonl"
    path.write_text('{"id":"a","label":"positive","class":"x","texts":["t"],"explanation":"e"}\n{"id":"b","label":"maybe"}\n')
    with pytest.raises(BadInput, match="line 2"):
        read_bundles(path)


def test_fitted_examples_tell_their_own_sides_apart_and_name_the_class() -> None:
    directions = np.eye(4, dtype=np.float32)
    examples = fitted(directions, np.array([0, 1, HARMLESS, HARMLESS]), ("fire", "flood"), shrinkage=0.1)
    assert [examples.margin(direction) > 0 for direction in directions] == [True, True, False, False]
    assert examples.nearest_class(directions[1]) == "flood"
    assert examples.margin(np.zeros(4, dtype=np.float32)) == FAR
    assert Examples(directions[2:], examples.weights[2:], examples.hazard[2:], ("fire", "flood")).nearest_class(directions[2]) is None


def test_the_slope_points_to_the_hazard() -> None:
    directions = np.eye(3, dtype=np.float32)
    examples = fitted(directions, np.array([0, HARMLESS, HARMLESS]), ("fire",), shrinkage=0.1)
    slope = examples.slope(np.array([0, 0.6, 0.8], dtype=np.float32))
    assert slope @ directions[0] > slope @ directions[1]
