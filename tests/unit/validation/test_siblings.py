"""What tells two features apart, and which are the same one several times."""

import json
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from mistudio_explain.cli.compare_features import siblings_of
from mistudio_explain.cli.main import app
from mistudio_explain.errors import BadInput
from mistudio_explain.events.feature import Activation, ActiveToken, FeatureFound, Logit
from mistudio_explain.settings import QualitySettings, Settings
from mistudio_explain.validation.families import Directions, Family, Sibling, families
from mistudio_explain.validation.offline import Scorer, background_of, score
from mistudio_explain.validation.siblings import Difference, compare
from mistudio_explain.validation.validator import Validator
from unit.context.finding import ANIMALS, found
from unit.intake.find_job_files import GPT2

SUBJECTS = {
    "ships": ("The sailor steered the {} ship into the harbour", "A captain and his {} crew crossed the ocean", "Waves broke over the deck of a {} boat"),
    "bread": ("The baker kneads {} dough before dawn", "Warm {} loaves cool beside the oven", "Flour and yeast make a {} crust"),
    "law": ("The judge dismissed the {} appeal", "A lawyer read the {} verdict to the jury", "The court heard a {} witness"),
    "music": ("The pianist played a {} sonata", "Violins opened the {} symphony", "A choir sang the {} chorus"),
    "space": ("The rocket reached a {} orbit", "Astronauts repaired a {} telescope", "A probe photographed the {} planet"),
    "garden": ("She watered the {} roses", "Weeds choked a {} lawn", "Tulips bloom in {} soil"),
    "banks": ("The bank raised a {} loan", "Investors sold {} bonds", "A teller counted {} money"),
    "snow": ("Snow covered the {} mountain", "Skiers climbed a {} slope", "An avalanche buried a {} cabin"),
    "school": ("The teacher marked a {} exam", "Pupils learned {} grammar", "A professor gave a {} lecture"),
    "cars": ("The mechanic fixed a {} engine", "Tyres squealed on a {} road", "A driver parked the {} truck"),
}
ADJECTIVES = ("red", "old", "small", "huge", "quiet")


@cache
def scorer() -> Scorer:
    return Scorer.of(Validator.load(QualitySettings()), Settings())


def feature(subject: str, key: str = "", **fields: Any) -> FeatureFound:
    texts = [template.format(adjective) for template in SUBJECTS[subject] for adjective in ADJECTIVES[:3]]
    return found(*texts, feature_id=key or subject, pattern_keywords=[], **fields)


def job(*copies: Sibling) -> list[Sibling]:
    return [*(Sibling(feature(subject), (f"texts about {subject}",)) for subject in SUBJECTS), *copies]


def compared(first: Sibling, second: Sibling) -> Difference:
    return compare(first, second, background_of("find_1", [sibling.feature for sibling in job()]), scorer())


def found_families(*siblings: Sibling, threshold: float = 0.6) -> list[Family]:
    return families(siblings, scorer().validator, threshold)


def test_the_words_that_tell_two_features_apart_speak_for_the_one_whose_texts_have_them() -> None:
    one = found(*(f"{name} sails the boat round {name}ville bay" for name in ANIMALS[:8]), feature_id="1")
    other = found(*(f"{name} bakes the bread of {name}ville bay" for name in ANIMALS[8:16]), feature_id="2")
    difference = compared(Sibling(one), Sibling(other))
    told = {telling.word: (telling.of, telling.first, telling.second) for telling in difference.words}
    assert told["boat"] == ("1", 8, 0)
    assert told["bread"] == ("2", 0, 8)
    assert all((telling.z > 0) == (telling.of == "1") for telling in difference.words)
    assert not {"the", "bay"} & told.keys()


def test_a_word_counts_once_a_text_and_in_all_its_forms() -> None:
    walks = found(*(f"{name} walks, walked and is walking to {name}ville" for name in ANIMALS[:8]), feature_id="1")
    sits = found(*(f"{name} sits at home in {name}ville" for name in ANIMALS[:8]), feature_id="2")
    (told,) = [telling for telling in compared(Sibling(walks), Sibling(sits)).words if telling.word.startswith("walk")]
    assert (told.first, told.second) == (8, 0)


def test_swapping_the_features_turns_the_comparison_round() -> None:
    one, other = Sibling(feature("ships"), ("sailing boats",)), Sibling(feature("snow"), ("snow on mountains",))
    there, back = compared(one, other), compared(other, one)
    assert {(told.word, told.first, told.second, round(told.z, 9)) for told in there.words} == {
        (told.word, told.second, told.first, round(-told.z, 9)) for told in back.words
    }
    assert {(fit.of, fit.first, fit.second) for fit in there.fits} == {(fit.of, fit.second, fit.first) for fit in back.fits}
    assert there.likeness.value == pytest.approx(back.likeness.value)


def test_each_explanation_is_scored_on_both_features_as_an_outcome_scores_it() -> None:
    one, other = Sibling(feature("ships"), ("sailors on ships at sea",)), Sibling(feature("bread"), ("baking bread", "Unclear."))
    background = background_of("find_1", [sibling.feature for sibling in job()])
    difference = compare(one, other, background, scorer())
    own, baking, unclear = difference.fits
    expected = [score(sibling.feature, "sailors on ships at sea", background, scorer()).accuracy for sibling in (one, other)]
    assert [own.first, own.second] == [accuracy.p for accuracy in expected if accuracy]
    assert own.first is not None
    assert own.second is not None
    assert own.first > 0.5 > own.second
    assert baking.of == "bread"
    assert unclear.first is None
    assert "unclear" in (unclear.why_not or "")


def test_texts_that_stand_nearly_alike_in_both_are_shown() -> None:
    shared = "The harbour master counted forty ships before the long storm reached the town."
    one = found(shared, "Sailors drink rum in the bar.", feature_id="1")
    other = found("A baker kneads dough.", shared + " Then", feature_id="2")
    assert compared(Sibling(one), Sibling(other)).shared_texts == (shared,)


def test_words_that_features_fire_on_are_compared_only_where_both_sources_name_them() -> None:
    def firing(word: str, key: str) -> FeatureFound:
        texts = [f"{name} saw a {word} there" for name in ANIMALS[:8]]
        active = [ActiveToken(token=f" {word}", strength=5.0)]
        return found(feature_id=key, top_activations=[Activation(text=text, active_tokens=active) for text in texts])

    difference = compared(Sibling(firing("ship", "1")), Sibling(firing("loaf", "2")))
    assert difference.active_words is not None
    assert {(told.word, told.of) for told in difference.active_words} == {("ship", "1"), ("loaf", "2")}
    assert compared(Sibling(firing("ship", "1")), Sibling(feature("bread"))).active_words is None


def test_promoted_and_suppressed_tokens_in_common_are_told_from_those_of_one() -> None:
    one = feature("ships", top_logits=[Logit(token=" sea", value=2), Logit(token=" boat", value=3), Logit(token=" no", value=-1)])
    other = feature(
        "snow", top_logits=[Logit(token=" sea", value=1), Logit(token=" ice", value=2), Logit(token=" no", value=-2), Logit(token=" heat", value=-3)]
    )
    difference = compared(Sibling(one), Sibling(other))
    assert difference.promoted is not None
    assert (difference.promoted.both, difference.promoted.first, difference.promoted.second) == ((" sea",), (" boat",), (" ice",))
    assert difference.suppressed is not None
    assert (difference.suppressed.both, difference.suppressed.second) == ((" no",), (" heat",))
    assert compared(Sibling(one), Sibling(feature("bread"))).promoted is None


def test_a_feature_and_its_copy_are_a_family_and_different_features_are_none() -> None:
    copy = Sibling(feature("ships", "copy"), ("texts about ships",))
    (family,) = found_families(*job(copy))
    assert family.members == ("copy", "ships")
    assert family.least.texts == pytest.approx(1.0, abs=1e-5)
    assert {"boat", "captain", "ocean"} <= set(family.common_words)
    assert family.explanations == ("texts about ships", "texts about ships")
    assert found_families(*job()) == []


def test_the_same_texts_under_another_explanation_are_no_family_but_without_an_explanation_the_texts_decide() -> None:
    assert found_families(*job(Sibling(feature("ships", "copy"), ("bread and butter in a kitchen",)))) == []
    assert [family.members for family in found_families(*job(Sibling(feature("ships", "copy"))))] == [("copy", "ships")]


def test_families_do_not_depend_on_the_order_of_the_features() -> None:
    siblings = job(Sibling(feature("ships", "c1")), Sibling(feature("ships", "c2")), Sibling(feature("law", "c3"), ("texts about law",)))
    expected = found_families(*siblings)
    assert [family.members for family in expected] == [("c1", "c2", "ships"), ("c3", "law")]
    for last in permutations(siblings[-3:]):
        assert found_families(*last, *reversed(siblings[:-3])) == expected


def test_every_pair_of_a_family_is_alike_so_that_no_chain_becomes_one() -> None:
    """a is like b and b like c, but a is not like c."""
    half = [feature("ships").top_activations[place] for place in range(9)]
    other = [feature("snow").top_activations[place] for place in range(9)]
    mixed = found(feature_id="mixed", top_activations=[*half[:6], *other[:6]])
    siblings = job(Sibling(mixed))
    directions = Directions.of(sorted(siblings, key=lambda sibling: sibling.key), scorer().validator)
    place = {key: at for at, key in enumerate(directions.keys)}
    to_ships, to_snow = (directions.likeness(place["mixed"], place[key]).texts for key in ("ships", "snow"))
    threshold = min(to_ships, to_snow) - 0.01
    assert directions.likeness(place["ships"], place["snow"]).texts < threshold
    unsaid = [Sibling(sibling.feature) for sibling in siblings]
    (family,) = [family for family in found_families(*unsaid, threshold=threshold) if "mixed" in family.members]
    assert len(family.members) == 2
    assert family.least.value >= threshold


@pytest.mark.parametrize(
    "given", [[], [Sibling(found(feature_id="1"))], [Sibling(found(feature_id="1", top_activations=[])), Sibling(found(feature_id="2", top_activations=[]))]]
)
def test_too_few_features_or_features_without_texts_are_no_family(given: list[Sibling]) -> None:
    assert found_families(*given) == []


def pairs(path: Path, *siblings: Sibling, jobs: str = "find_1") -> Path:
    records = [
        {"job": jobs, "feature": sibling.feature.model_dump(include={"feature_id", "top_activations"}, exclude_none=True), "explanation": said}
        for sibling in siblings
        for said in sibling.explanations
    ]
    path.write_bytes(path.read_bytes() if path.exists() else b"")
    with path.open("ab") as file:
        file.writelines(orjson.dumps(record) + b"\n" for record in records)
    return path


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 0
    return result.stdout


def test_the_command_shows_what_tells_two_features_apart(tmp_path: Path) -> None:
    hostile = Sibling(feature("ships", "7"), ("sailors \x1b[31mred on ships",))
    source = pairs(tmp_path / "pairs.jsonl", *job(hostile))
    shown = invoke("compare-features", "7", "bread", "--from", str(source))
    assert "likeness of the texts" in shown
    assert "Accuracy of each explanation on both" in shown
    assert "ship" in shown
    assert "\x1b" not in shown
    data = json.loads(invoke("compare-features", "7", "bread", "--from", str(source), "--json"))
    assert data["first"] == "7"
    assert {"likeness", "words", "active_words", "fits", "shared_texts", "promoted"} <= data.keys()


def test_the_command_lists_families_from_pairs_of_one_job(tmp_path: Path) -> None:
    source = pairs(tmp_path / "pairs.jsonl", *job(Sibling(feature("ships", "copy"), ("texts about ships",))))
    assert "copy" in invoke("families", str(source))
    data = json.loads(invoke("families", str(source), "--json"))
    assert [[member["feature_key"] for member in family["members"]] for family in data["families"]] == [["copy", "ships"]]
    pairs(source, Sibling(feature("law"), ("law",)), jobs="find_2")
    with pytest.raises(BadInput, match="say which with --job"):
        siblings_of(source, None, None)
    assert len(siblings_of(source, "find_1", None)) == 11


def test_features_of_finds_own_file_are_compared_without_explanations() -> None:
    siblings = siblings_of(GPT2, None, None)
    assert len(siblings) == 16
    assert not any(sibling.explanations for sibling in siblings)
    first, second = siblings[0].key, siblings[1].key
    assert first in invoke("compare-features", first, second, "--from", str(GPT2))


def test_a_feature_in_several_lines_is_one_with_several_explanations(tmp_path: Path) -> None:
    source = pairs(tmp_path / "pairs.jsonl", Sibling(feature("law"), ("courts", "judges", "courts")))
    (sibling,) = siblings_of(source, None, None)
    assert sibling.explanations == ("courts", "judges")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"job": "j", "feature": {"feature_id": 1}}\n{"job": "j", "feature": 5}', r"\$\.feature: the number 5"),
        (b'{"job": "j", "feature": {"feature_id": 1}}\nnonsense', "line 2"),
        (b"nonsense", "one JSON object was expected"),
    ],
)
def test_a_file_that_is_neither_pairs_nor_finds_is_refused_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        siblings_of(tmp_path / "x", None, None)


def test_a_feature_that_is_not_there_is_named_with_some_that_are(tmp_path: Path) -> None:
    source = pairs(tmp_path / "pairs.jsonl", *job())
    result = CliRunner().invoke(app, ["compare-features", "ships", "nobody", "--from", str(source)])
    assert isinstance(result.exception, BadInput)
    assert "there is no feature 'nobody'" in str(result.exception)
