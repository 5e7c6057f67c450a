"""The parts that a verdict is made of, one by one."""

from collections import Counter
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import Accuracy, Answer, Category, Subject, Tier, Verification
from mistudio_explain.events.feature import Activation, ActivationStatistics, ActiveToken
from mistudio_explain.events.job import JobBackground
from mistudio_explain.validation.accuracy import Signals, accuracy_of, coverage, estimate, logit_of, sigmoid
from mistudio_explain.validation.clarity import clarity
from mistudio_explain.validation.confidence import confidence
from mistudio_explain.validation.consistency import consistency
from mistudio_explain.validation.contrast import Claim, Contrast, Texts
from mistudio_explain.validation.contrasts import Contrasts
from mistudio_explain.validation.excerpt import passages
from mistudio_explain.validation.general import general_background
from mistudio_explain.validation.lexical import LexicalIndex
from mistudio_explain.validation.quality import quality_score
from mistudio_explain.validation.relevance import Relevance
from mistudio_explain.validation.safety import Lexicon
from mistudio_explain.validation.static_embedding import StaticEmbedding
from mistudio_explain.validation.verdict import HELD_OUT_FROM, verdict
from mistudio_explain.validation.words import claim_stems, stem, words


@pytest.fixture(scope="module")
def embedding() -> StaticEmbedding:
    return StaticEmbedding.load()


def accuracy(p: float, masked: float | None = 0.9, seen: float | None = None, held_out: float | None = None) -> Accuracy:
    return Accuracy(p=p, n=4, basis="seen", seen=seen, held_out=held_out, masked=masked)


def test_words_are_found_in_any_script() -> None:
    assert words("Don't get_user42") == ["don", "t", "get", "user", "42"]
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words("日本語 ok") == ["日本", "本語", "ok"]
    assert words("Ｆｕｌｌ Straße") == ["full", "straße"]


def test_a_claim_means_its_own_words_and_the_stop_words_that_it_quotes() -> None:
    assert claim_stems("This feature detects the word 'of' in legal contracts") == ("contract", "legal", "of")
    assert claim_stems("It's the feature's own word") == ()


def test_bm25_is_the_textbook_formula() -> None:
    index = LexicalIndex.of([[["piano", "key"]], [["acid", "metal", "acid", "flask"]]])
    scores = index.scores(("acid",), [Counter({"acid": 1, "other": 2})])
    idf = log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    assert scores.others == pytest.approx([0, idf * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 4 / 3))])
    assert scores.own == pytest.approx([idf * 2.2 / (1 + 1.2)])


def test_leaving_a_feature_out_is_the_same_as_never_having_sampled_it() -> None:
    features = [[["piano", "key"], ["piano"]], [["acid", "metal", "flask"]], [["piano", "acid"]]]
    own = [Counter(["piano", "acid", "x"])]
    without, never = LexicalIndex.of(features).scores(("acid", "piano"), own, 0), LexicalIndex.of(features[1:]).scores(("acid", "piano"), own)
    assert without.others == pytest.approx(never.others)
    assert without.own == pytest.approx(never.own)


def test_a_text_is_cut_round_its_peak() -> None:
    text = "a " * 300 + "PEAK" + " b" * 300
    by_name = passages(Activation(text=text, peak="PEAK"))
    by_active = passages(Activation(text=text, active_tokens=[ActiveToken(token=" b", strength=1), ActiveToken(token="PEAK", strength=9)]))
    tokens = ["a "] * 300 + ["PEAK"] + [" b"] * 300
    by_value = passages(Activation(text=text, tokens=tokens, token_activations=[0.0] * 300 + [5.0] + [0.0] * 300))
    assert by_name == by_active == by_value
    assert len(by_name) == 1
    assert by_name[0].index("PEAK") == 100


def test_a_long_text_without_a_peak_gives_passages_from_start_to_end() -> None:
    text = "".join(chr(33 + i % 90) for i in range(1000))
    cut = passages(Activation(text=text))
    assert [len(passage) for passage in cut] == [200, 200, 200]
    assert (cut[0], cut[-1]) == (text[:200], text[-200:])
    assert passages(Activation(text="short")) == ["short"]


def signals(bm25: list[float], static: list[float], **whole: float) -> Signals:
    return Signals({"bm25_z": np.array(bm25), "static_z": np.array(static)}, whole)


def test_the_interval_is_wider_where_the_texts_differ_more() -> None:
    calm, torn = estimate(signals([1.0, 1.1, 0.9], [1.0, 1.0, 1.0])), estimate(signals([3.0, 0.0, 0.0], [1.0, 2.0, 0.0]))
    assert calm.p == pytest.approx(torn.p)
    assert calm.low is not None
    assert calm.high is not None
    assert torn.low is not None
    assert torn.high is not None
    assert torn.low < calm.low < calm.p < calm.high < torn.high


def test_a_single_signal_beyond_measure_is_clipped() -> None:
    assert estimate(signals([1e9], [0.0])).signals["bm25_z"] == 6
    assert estimate(signals([-1e9], [0.0])).signals["bm25_z"] == -3
    assert estimate(signals([1.0], [0.0], active_z=1e9)).signals["active_z"] == 6


def test_few_texts_leave_a_probability_nearer_to_even_odds() -> None:
    one, many = estimate(signals([3.0], [3.0])), estimate(signals([3.0] * 12, [3.0] * 12))
    assert 0.5 < one.p < many.p
    unlike_one, unlike_many = estimate(signals([-1.0], [-1.0])), estimate(signals([-1.0] * 12, [-1.0] * 12))
    assert unlike_many.p < unlike_one.p < 0.5


def test_what_the_active_words_and_the_promoted_tokens_say_counts() -> None:
    plain = estimate(signals([1.0, 1.0], [1.0, 1.0], active_z=0.0)).p
    assert estimate(signals([1.0, 1.0], [1.0, 1.0], active_z=3.0)).p > plain
    assert estimate(signals([1.0, 1.0], [1.0, 1.0], active_z=0.0, logits_z=3.0)).p > plain


def test_the_signals_in_an_outcome_give_its_probabilities_again() -> None:
    measured = {"all": signals([1.0, 2.0, 0.5], [1.0, 0.0, 0.0], active_z=1.0), "seen": signals([1.0, 2.0], [1.0, 0.0], active_z=0.5)}
    measured["held_out"] = signals([0.5], [0.0], active_z=2.0)
    found = accuracy_of(measured, measured)
    for part, n, p in (("", 3, found.p), ("seen.", 2, found.seen), ("held_out.", 1, found.held_out), ("masked.", 3, found.masked)):
        kept = {name: found.signals[part + name] for name in ("bm25_z", "static_z", "active_z")}
        assert sigmoid(logit_of(kept, n)) == pytest.approx(p)


def test_coverage_counts_the_texts_that_fit_however_well_or_badly_the_others_do() -> None:
    one_fits = Signals({"bm25_z": np.array([50.0, -0.3, -0.3, -0.3]), "static_z": np.zeros(4)}, {})
    three_fit = Signals({"bm25_z": np.array([6.0, 6.0, 6.0, -3.0]), "static_z": np.zeros(4)}, {})
    assert estimate(one_fits).p > 0.8
    assert coverage(one_fits) == pytest.approx(0.25 + 0.75 * 0.19, abs=0.03)
    assert coverage(three_fit) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"p": 0.55}, Verification.CONFIRMED),
        ({"p": 0.549}, Verification.PARTIAL),
        ({"p": 0.99, "masked": None}, Verification.PARTIAL),
        ({"p": 0.19}, Verification.PARTIAL),
        ({"p": 0.189}, Verification.CONTRADICTED),
        ({"p": 0.9, "held_out": 0.189}, Verification.CONTRADICTED),
        ({"p": 0.9, "held_out": HELD_OUT_FROM - 0.001}, Verification.PARTIAL),
        ({"p": 0.9, "held_out": HELD_OUT_FROM}, Verification.CONFIRMED),
        ({"p": 0.1, "held_out": 0.5}, Verification.PARTIAL),
        ({"p": 0.1, "kind": "output"}, Verification.PARTIAL),
        ({"p": 0.1, "kind": "unclear"}, Verification.CONTRADICTED),
        ({"p": 0.9, "masked": 0.3, "keywords_listed": 2}, Verification.CONFIRMED),
        ({"p": 0.9, "masked": 0.3, "keywords_listed": 3}, Verification.PARTIAL),
        ({"p": 0.9, "masked": 0.6, "keywords_listed": 3}, Verification.CONFIRMED),
        ({"p": 0.9, "masked": 0.6, "keywords_listed": 7}, Verification.PARTIAL),
    ],
)
def test_the_verdict_stands_on_all_its_thresholds(figures: dict[str, Any], expected: Verification) -> None:
    assert verdict(Accuracy.model_validate({"n": 4, "basis": "seen", "masked": 0.9} | figures), 0.55, 0.19) is expected


def test_confidence_grows_with_distance_and_falls_with_disagreement_and_is_absent_for_partial() -> None:
    near, far = confidence(Verification.CONFIRMED, accuracy(0.6)), confidence(Verification.CONFIRMED, accuracy(0.99))
    torn = confidence(Verification.CONFIRMED, accuracy(0.99, seen=0.3, held_out=0.99))
    assert near is not None
    assert far is not None
    assert torn is not None
    assert near < far
    assert torn < far
    assert confidence(Verification.PARTIAL, accuracy(0.5)) is None


def test_a_missing_component_leaves_the_quality_score_out(embedding: StaticEmbedding) -> None:
    score = clarity(Answer(pattern="Names of rivers in Europe"), Category.OTHER)
    assert quality_score(accuracy(1.0), score, score, None) is None
    assert quality_score(None, score, score, score) is None
    assert quality_score(accuracy(1.0), score, score, score) == pytest.approx(0.4 + 0.6 * score.value)


def test_clarity_prefers_a_specific_readable_sentence_to_empty_jargon() -> None:
    good = clarity(Answer(pattern="Names of European rivers such as 'Danube' when ships are mentioned."), Category.OTHER)
    empty = clarity(Answer(pattern="Various related concepts."), Category.OTHER)
    jargon = clarity(Answer(pattern="Institutionalization of interdisciplinary conceptualizations notwithstanding misinterpretations"), Category.OTHER)
    assert good.parts["actionability"] > empty.parts["actionability"]
    assert good.parts["readability"] > jargon.parts["readability"]
    assert good.parts["technical_level"] > jargon.parts["technical_level"]
    assert good.parts.keys() == {"readability", "actionability", "technical_level"}


def test_long_words_are_forgiven_in_technical_features() -> None:
    answer = Answer(pattern="Authentication of configuration files in servers before the program is started again by users")
    assert clarity(answer, Category.TECHNICAL).parts["technical_level"] > clarity(answer, Category.OTHER).parts["technical_level"]


def test_consistency_counts_grounded_words_covered_texts_and_the_category(embedding: StaticEmbedding) -> None:
    contrast = Contrast.of(general_background(), embedding)
    texts = Texts.of([["the json schema is valid"], ["a json file"], ["nothing here"]], embedding)
    found = consistency(Claim.of("JSON schema", embedding), texts, contrast, None, Category.TECHNICAL)
    assert found is not None
    assert found.parts == {"grounded": pytest.approx(1.0), "covered": pytest.approx(2 / 3), "category": 1.0}
    elsewhere = consistency(Claim.of("JSON schema", embedding), texts, contrast, None, Category.TEMPORAL)
    other = consistency(Claim.of("JSON schema", embedding), texts, contrast, None, Category.OTHER)
    assert elsewhere is not None
    assert other is not None
    assert elsewhere.parts["category"] == 0
    assert "category" not in other.parts
    assert consistency(Claim.of("of the", embedding), texts, contrast, None, Category.OTHER) is None


def subject(**fields: object) -> Subject:
    base = {"explain_job_id": "e", "find_job_id": "f", "target_model": "m", "feature_id": "1", "feature_key": "1", "tier": Tier.FAIR}
    return Subject.model_validate(base | {"category": Category.TECHNICAL, "category_source": "given"} | fields)


def test_relevance_leaves_out_what_a_feature_does_not_have() -> None:
    relevance = Relevance.load()
    bare = relevance.of(subject(), Category.TECHNICAL, "safe")
    rich = relevance.of(
        subject(keywords=["payments", "customers", "security"], statistics=ActivationStatistics(frequency=0.01)), Category.BEHAVIORAL, "concerning"
    )
    assert bare.parts.keys() == {"category", "safety"}
    assert rich.parts["keywords"] == rich.parts["frequency"] == rich.parts["safety"] == 1
    assert (relevance.level(rich), relevance.level(bare)) == ("high", "medium")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[weights", "cannot be read"),
        ("[weights]\ncategory = 1\n", "keywords"),
        (None, "cannot be read"),
    ],
)
def test_a_broken_policy_is_refused_with_file_and_place(text: str | None, names: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadSettings, match=names) as refused:
        Relevance.load(path)
    assert "policy.toml" in str(refused.value)


def test_the_lexicon_finds_words_beginnings_and_phrases_and_nothing_else() -> None:
    lexicon = Lexicon.load()
    assert lexicon.found(words("The bombing was planned on the dark web")) == {"violence_weapons": {"bombing"}, "illicit": {"dark web"}}
    assert lexicon.found(words("He wore dark clothes, a web of lies")) == {}
    assert lexicon.found(words("The kill-switch of SQL-injection")) == {"violence_weapons": {"kill"}, "code_vulnerability": {"sql injection"}}


def test_no_entry_of_the_lexicon_is_out_of_reach() -> None:
    lexicon = Lexicon.load()
    entries = [
        *lexicon.exact,
        *(prefix for listed in lexicon.prefixes.values() for prefix, _ in listed),
        *(" ".join(phrase) for listed in lexicon.phrases.values() for phrase, _ in listed),
    ]
    assert [entry for entry in entries if not lexicon.found(words(entry))] == []
    unsuspected = [entry for entry in entries if lexicon.found(words(entry), lexicon.suspects(set(words(entry)))) != lexicon.found(words(entry))]
    assert unsuspected == []


def test_embeddings_are_unit_vectors_and_nothing_is_a_zero_vector(embedding: StaticEmbedding) -> None:
    rows = embedding.embed(["piano music", "", " \n "])
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 0, 0])
    near, far = embedding.embed(["a song on the keyboard", "chemical acids"]) @ rows[0]
    assert near > far


def test_a_background_is_prepared_once_per_version_and_the_oldest_goes_first(embedding: StaticEmbedding) -> None:
    contrasts = Contrasts(embedding, capacity=2)
    one, two, three = (JobBackground(find_job_id=f"find_{n}", target_model="m", sample=general_background()[:3], distinct=3, frozen=False) for n in range(3))
    first = contrasts.of(one)
    assert contrasts.of(one) is first
    assert contrasts.of(one.model_copy(update={"distinct": 4})) is not first
    assert contrasts.of(one) is first
    contrasts.of(two)
    contrasts.of(three)
    assert len(contrasts) == 2
    assert contrasts.of(one) is not first


def test_a_background_without_texts_is_empty(embedding: StaticEmbedding) -> None:
    contrast = Contrast.of([feature.model_copy(update={"texts": [" "]}) for feature in general_background()[:2]], embedding)
    assert contrast.keys == ()
    assert contrast.others("x") == 0


def test_stems_join_the_forms_of_a_word() -> None:
    assert stem("running") == stem("runs") == "run"
