"""What the stage says about drafts, on real features and on bad ones."""

import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from mistudio_explain.events.explanation import (
    Answer,
    Candidate,
    Category,
    Evidence,
    ExplanationDrafted,
    FeatureOutcome,
    Generation,
    Message,
    OutcomeKind,
    Prompt,
    Subject,
    Tier,
    Verification,
)
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import BackgroundFeature, JobBackground
from mistudio_explain.settings import QualitySettings
from mistudio_explain.validation.general import general_background
from mistudio_explain.validation.quality import WEIGHTS
from mistudio_explain.validation.stage import validate
from mistudio_explain.validation.validator import VALIDATOR_VERSION, Validator

KEY = "eleuther_gpt2_128k/own"
PIANO = [
    "She sat down at the piano and played a nocturne by Chopin for her guests.",
    "The concert pianist practised the sonata on a grand piano every morning.",
    "He tuned the old upright piano before the recital of the piano students.",
    "Keys of the piano were sticking, so the pianist asked for another instrument.",
    "Beethoven wrote thirty-two sonatas for piano and five piano concertos.",
    "The jazz trio of piano, bass and drums played until midnight.",
    "Learning the piano takes years of lessons and daily practice of scales.",
    "A piano concerto by Mozart opened the evening at the concert hall.",
    "The piano accompanied the singer softly through the whole song.",
    "Her fingers ran over the piano keyboard in a fast arpeggio.",
]
TRUE = "Mentions of the piano, its players and the music written for it."
FALSE = "Chemical reactions of acids with metals in a laboratory flask."


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator.load(QualitySettings())


@pytest.fixture(scope="module")
def background() -> JobBackground:
    return JobBackground(find_job_id="find_x", target_model="m", sample=general_background(), distinct=64, frozen=True)


def drafted(pattern: str, texts: list[str] = PIANO, held_out: int = 3, **subject: object) -> ExplanationDrafted:
    activations = [Activation(text=text) for text in texts]
    kept = len(activations) - held_out
    return ExplanationDrafted(
        subject=Subject.model_validate(
            {
                "explain_job_id": "explain_x",
                "find_job_id": "find_x",
                "target_model": "m",
                "feature_id": "own",
                "feature_key": KEY,
                "tier": Tier.FAIR,
                "category": Category.OTHER,
                "category_source": "inferred",
                "keywords": ["played", "concert"],
            }
            | subject
        ),
        evidence=Evidence(seen=activations[:kept], held_out=activations[kept:]),
        answer=Answer(pattern=pattern, label="piano music"),
        generation=Generation(model="m", endpoint="e", provider="ollama", latency_s=1.0, finish_reason="stop"),
        prompt=Prompt(
            template="plain",
            version="1",
            sha256="00",
            answer="fields",
            messages=[
                Message(role="system", content="You explain features of language models and you answer with one short sentence about the pattern."),
                Message(role="user", content="\n".join(texts)[:5000]),
            ],
        ),
        complexity="low",
        flags=["poor_coherence"],
        caveats=["few texts"],
    )


def test_a_true_explanation_is_confirmed_and_a_foreign_one_is_not(validator: Validator, background: JobBackground) -> None:
    true, false = validate(drafted(TRUE), background, validator), validate(drafted(FALSE), background, validator)
    assert true.pattern_verification is Verification.CONFIRMED
    assert false.pattern_verification is not Verification.CONFIRMED
    assert true.accuracy is not None
    assert false.accuracy is not None
    assert true.accuracy.p > 0.9 > 0.4 > false.accuracy.p


def test_the_outcome_keeps_what_the_draft_brought(validator: Validator, background: JobBackground) -> None:
    draft = drafted(TRUE)
    outcome = validate(draft, background, validator)
    assert outcome.outcome is OutcomeKind.EXPLAINED
    assert (outcome.subject, outcome.evidence, outcome.answer, outcome.generation) == (draft.subject, draft.evidence, draft.answer, draft.generation)
    assert outcome.caveats == ["few texts"]
    assert "poor_coherence" in outcome.flags
    assert (outcome.prompt_template, outcome.prompt_sha256, outcome.complexity) == ("plain@1", "00", "low")
    assert (outcome.validator_version, outcome.background_version, outcome.background_features) == (VALIDATOR_VERSION, background.version, 64)


def test_held_out_texts_decide_and_both_figures_are_kept(validator: Validator, background: JobBackground) -> None:
    texts = [*PIANO[:7], "Acids dissolve metals.", "The flask held an acid.", "A chemical reaction began in the flask."]
    accuracy = validate(drafted(TRUE, texts), background, validator).accuracy
    assert accuracy is not None
    assert (accuracy.basis, accuracy.n) == ("all", 10)
    assert accuracy.seen is not None
    assert accuracy.held_out is not None
    assert accuracy.seen > 0.9 > 0.4 > accuracy.held_out
    assert accuracy.p > accuracy.held_out


def test_without_held_out_texts_the_seen_ones_decide(validator: Validator, background: JobBackground) -> None:
    accuracy = validate(drafted(TRUE, PIANO[:5], held_out=0), background, validator).accuracy
    assert accuracy is not None
    assert (accuracy.basis, accuracy.n, accuracy.held_out) == ("seen", 5, None)
    assert accuracy.p == accuracy.seen


def test_one_text_gives_a_probability_without_an_interval(validator: Validator, background: JobBackground) -> None:
    accuracy = validate(drafted(TRUE, PIANO[:1], held_out=0), background, validator).accuracy
    assert accuracy is not None
    assert (accuracy.low, accuracy.high) == (None, None)


def test_the_quality_score_is_the_weighted_sum_of_its_components(validator: Validator, background: JobBackground) -> None:
    outcome = validate(drafted(TRUE), background, validator)
    assert outcome.accuracy
    assert outcome.clarity
    assert outcome.consistency
    assert outcome.relevance
    expected = 0.4 * outcome.accuracy.p + 0.3 * outcome.clarity.value + 0.2 * outcome.consistency.value + 0.1 * outcome.relevance.value
    assert outcome.quality_score == pytest.approx(expected)
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    assert "quality_score" not in outcome.unavailable


def test_a_list_of_keywords_is_never_confirmed_however_well_it_fits(validator: Validator, background: JobBackground) -> None:
    keywords = ["piano", "pianist", "concert", "sonata", "played"]
    outcome = validate(drafted("Words such as piano and pianist in a concert where a sonata is played", keywords=keywords), background, validator)
    assert outcome.accuracy is not None
    assert outcome.accuracy.p > 0.9
    assert outcome.accuracy.masked is None
    assert outcome.pattern_verification is Verification.PARTIAL
    assert "keywords_only" in outcome.flags
    assert outcome.review_reason == "the explanation only lists the feature's keywords"


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        ("", "empty"),
        ("  \n\t", "empty"),
        ("\x00\x01", "empty"),
        ("This feature activates on text.", "empty"),
        ("I'm sorry, but I cannot help with that.", "refusal"),
        ("As an AI language model, I do not see activations.", "refusal"),
        ('Error: model "llama3.1:8b" not found', "error_text"),
        ("Traceback (most recent call last): File x", "error_text"),
        ("503 Service Unavailable", "error_text"),
        ("You explain features of language models and you answer with one short sentence about the pattern.", "prompt_leak"),
        ("[/INST] The piano and its players", "prompt_leak"),
        (PIANO[4], "echo"),
        ("played, concert, recital", "echo"),
        ("the piano " * 30, "repetition"),
    ],
)
def test_what_is_no_explanation_is_unverifiable_and_asks_for_a_person(pattern: str, kind: str, validator: Validator, background: JobBackground) -> None:
    outcome = validate(drafted(pattern, keywords=["played", "concert", "recital"]), background, validator)
    assert outcome.pattern_verification is Verification.UNVERIFIABLE
    assert kind in outcome.flags
    assert outcome.review_reason
    assert (outcome.accuracy, outcome.clarity, outcome.consistency, outcome.confidence, outcome.quality_score) == (None,) * 5
    assert {"accuracy", "clarity", "consistency", "confidence", "quality_score"} <= outcome.unavailable.keys()


@pytest.mark.parametrize("pattern", ["Unclear.", "The pattern is unclear", "No clear common pattern in these texts", "I cannot determine a single pattern."])
def test_unclear_is_an_answer_that_nobody_needs_to_look_at(pattern: str, validator: Validator, background: JobBackground) -> None:
    outcome = validate(drafted(pattern), background, validator)
    assert outcome.pattern_verification is Verification.UNVERIFIABLE
    assert "unclear" in outcome.flags
    assert outcome.review_reason is None


@pytest.mark.parametrize(
    "pattern",
    ["Error messages such as 'Traceback' in Python logs", "Sorry and other apologies", "Texts about the unclear future of the euro", "HTTP status codes"],
)
def test_explanations_about_errors_and_apologies_pass_the_gate(pattern: str, validator: Validator, background: JobBackground) -> None:
    assert validate(drafted(pattern), background, validator).accuracy is not None


@pytest.mark.parametrize("size", [None, 0, 1, 8])
def test_a_find_job_without_eight_other_features_is_scored_against_the_general_background(size: int | None, validator: Validator) -> None:
    sample = [BackgroundFeature(feature_key=KEY, texts=PIANO[:5]), *general_background()][: size or 0]
    small = None if size is None else JobBackground(find_job_id=f"find_{size}", target_model="m", sample=sample, distinct=size, frozen=False)
    outcome = validate(drafted(TRUE), small, validator)
    assert {"no_contrast", "provisional"} <= set(outcome.flags)
    assert outcome.background_version == 0
    assert outcome.accuracy is not None


def test_an_open_background_gives_a_provisional_outcome_and_a_frozen_one_does_not(validator: Validator, background: JobBackground) -> None:
    still_open = background.model_copy(update={"frozen": False})
    assert "provisional" in validate(drafted(TRUE), still_open, validator).flags
    assert "provisional" not in validate(drafted(TRUE), background, validator).flags


def test_a_feature_scores_the_same_whether_it_was_sampled_or_not(validator: Validator, background: JobBackground) -> None:
    sampled = background.model_copy(update={"find_job_id": "find_y", "sample": [*background.sample, BackgroundFeature(feature_key=KEY, texts=PIANO[:5])]})
    with_own, without = validate(drafted(TRUE), sampled, validator), validate(drafted(TRUE), background, validator)
    assert with_own.accuracy == without.accuracy
    assert with_own.consistency == without.consistency


def test_a_hazard_in_texts_and_explanation_is_concerning_and_in_one_of_them_asks_for_review(validator: Validator, background: JobBackground) -> None:
    bombs = [f"He built a bomb in room {room} of the old house." for room in range(10)]
    both = validate(drafted("Instructions for bombs in houses.", bombs), background, validator)
    texts_alone = validate(drafted("Rooms in old houses.", bombs), background, validator)
    said_alone = validate(drafted("Bombs hidden near a piano."), background, validator)
    assert both.safety
    assert [outcome.safety.assessment for outcome in (both, texts_alone, said_alone) if outcome.safety] == ["concerning", "requires_review", "requires_review"]
    assert both.safety.categories == ["violence_weapons"]
    assert {"bomb", "bombs"} <= {word for place in both.safety.evidence for word in place.words}
    assert "safety is requires_review" in (texts_alone.review_reason or "")


def test_a_gate_objection_does_not_hide_a_hazard(validator: Validator, background: JobBackground) -> None:
    outcome = validate(drafted("I'm sorry, I can't help.", ["how to build a pipe bomb"] * 4, held_out=0), background, validator)
    assert outcome.safety is not None
    assert outcome.safety.assessment == "requires_review"


@pytest.mark.parametrize(
    "texts", [[], ["a"], ["\x00\x07\u202e"], ["   "], ["💥" * 500], ["日本語のテキストです。" * 100] * 12, ["x" * 1_000_000] * 12, ["word " * 200_000] * 12]
)
def test_bad_texts_give_an_outcome_within_100_ms(texts: list[str], validator: Validator, background: JobBackground) -> None:
    draft = drafted(TRUE, texts, held_out=0)
    validate(drafted(TRUE), background, validator)
    began = time.process_time()
    outcome = validate(draft, background, validator)
    assert time.process_time() - began < 0.1
    assert outcome.pattern_verification is not None
    assert ("long_text" in outcome.flags) == any(len(text) > 100_000 for text in texts)
    assert FeatureOutcome.model_validate(outcome.model_dump()) == outcome


def test_a_monstrous_text_with_hundreds_of_thousands_of_tokens_is_scored_within_100_ms(validator: Validator, background: JobBackground) -> None:
    tokens = [" piano"] * 300_000
    huge = Activation(text="".join(tokens), tokens=tokens, token_activations=[0.0] * len(tokens))
    draft = drafted(TRUE).model_copy(update={"evidence": Evidence(seen=[huge] * 12)})
    began = time.process_time()
    validate(draft, background, validator)
    assert time.process_time() - began < 0.1


def test_a_claim_that_fits_every_feature_but_this_one_is_contradicted_and_asks_for_a_person(validator: Validator) -> None:
    acids = [f"The acid number {n} dissolved the metal in the flask of the laboratory." for n in range(5)]
    sample = [BackgroundFeature(feature_key=f"acid{n}", texts=acids[: 1 + n % 5]) for n in range(12)]
    outcome = validate(drafted(FALSE), JobBackground(find_job_id="find_acid", target_model="m", sample=sample, distinct=12, frozen=True), validator)
    assert outcome.pattern_verification is Verification.CONTRADICTED
    assert outcome.review_reason is not None
    assert outcome.review_reason.startswith("the texts contradict the explanation")


def test_no_text_at_all_is_unverifiable_with_a_reason(validator: Validator, background: JobBackground) -> None:
    outcome = validate(drafted(TRUE, [], held_out=0), background, validator)
    assert outcome.pattern_verification is Verification.UNVERIFIABLE
    assert outcome.unavailable["accuracy"] == "the feature has no text"
    assert outcome.quality_score is None


def test_loading_reaches_for_no_network_and_leaves_logging_alone() -> None:
    program = (
        "import socket, sys, logging\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from mistudio_explain.settings import QualitySettings\n"
        "from mistudio_explain.validation.validator import Validator\n"
        "Validator.load(QualitySettings())\n"
        "print(logging.getLogger().handlers, [name for name in ('requests', 'huggingface_hub', 'wordllama') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[] []"


def test_the_general_background_names_its_sources_and_is_64_features_of_5_texts() -> None:
    sample = general_background()
    folder = Path(sys.modules[Validator.__module__].__file__ or "").parent
    attribution = (folder / "general_background.md").read_text("utf-8")
    assert len({feature.feature_key for feature in sample}) == 64
    assert all(len(feature.texts) == 5 and all(len(text) <= 200 for text in feature.texts) for feature in sample)
    assert all(f"`{feature.feature_key.split('/')[0]}/`" in attribution for feature in sample)
    assert orjson.loads((folder / "general_background.json").read_bytes())


HALF_TRUE = "Mentions of a singer and a concert hall."


def offered(*patterns: str, held_out: int = 4, flags: tuple[str, ...] = ("resampled",), **generation: object) -> ExplanationDrafted:
    draft = drafted(patterns[0], held_out=held_out)
    made = draft.generation.model_copy(update={"tokens_in": 100, "tokens_out": 10, **generation})
    candidates = [
        Candidate(answer=Answer(pattern=pattern), generation=made, flags=list(flags) if place else ["first"]) for place, pattern in enumerate(patterns)
    ]
    return draft.model_copy(update={"generation": made, "candidates": candidates, "flags": [*draft.flags, "first"]})


def test_of_several_answers_the_one_is_taken_that_fits_texts_none_was_made_from(validator: Validator, background: JobBackground) -> None:
    outcome = validate(offered(FALSE, TRUE, HALF_TRUE), background, validator)
    assert outcome.explanation == TRUE
    assert {"candidates:3", "resampled"} <= set(outcome.flags)
    assert "first" not in outcome.flags
    assert (outcome.generation.tokens_in, outcome.generation.tokens_out) == (300, 30)


def test_texts_that_an_answer_was_chosen_on_count_as_seen_and_the_others_still_as_held_out(validator: Validator, background: JobBackground) -> None:
    draft = offered(FALSE, TRUE)
    outcome = validate(draft, background, validator)
    assert outcome.evidence.chosen_on == 2
    assert outcome.evidence.held_out == [draft.evidence.held_out[place] for place in (0, 2, 1, 3)]
    seen = [*draft.evidence.seen, *outcome.evidence.held_out[:2]]
    as_if = drafted(TRUE).model_copy(update={"evidence": Evidence(seen=seen, held_out=outcome.evidence.held_out[2:])})
    assert outcome.accuracy == validate(as_if, background, validator).accuracy


def test_an_answer_that_the_gate_turns_away_loses_and_unclear_loses_only_to_a_good_one(validator: Validator, background: JobBackground) -> None:
    unclear = "Unclear."
    assert validate(offered(TRUE, "I cannot help with that."), background, validator).explanation == TRUE
    assert validate(offered(unclear, TRUE), background, validator).explanation == TRUE
    assert validate(offered(unclear, FALSE), background, validator).explanation == unclear
    assert validate(offered(unclear, unclear), background, validator).pattern_verification is Verification.UNVERIFIABLE


def test_without_held_out_texts_the_choice_rests_on_the_seen_ones_and_says_so(validator: Validator, background: JobBackground) -> None:
    outcome = validate(offered(FALSE, TRUE, held_out=0), background, validator)
    assert outcome.explanation == TRUE
    assert "chosen_on_seen" in outcome.flags
    assert (outcome.evidence.chosen_on, outcome.accuracy.held_out) == (0, None)


def test_a_single_held_out_text_chooses_and_is_no_test_any_more(validator: Validator, background: JobBackground) -> None:
    outcome = validate(offered(FALSE, TRUE, held_out=1), background, validator)
    assert outcome.evidence.chosen_on == 1
    assert outcome.accuracy.held_out is None


def test_a_choice_that_is_scored_again_stays_and_its_texts_stay_seen(validator: Validator, background: JobBackground) -> None:
    once = validate(offered(FALSE, TRUE), background, validator)
    again = offered(TRUE).model_copy(update={"candidates": [], "answer": once.answer, "evidence": once.evidence, "generation": once.generation})
    assert validate(again, background, validator).accuracy == once.accuracy


def test_an_unknown_cost_of_one_answer_makes_the_cost_of_all_unknown(validator: Validator, background: JobBackground) -> None:
    draft = offered(FALSE, TRUE, cost_usd=0.5)
    assert validate(draft, background, validator).generation.cost_usd == 1.0
    free = draft.candidates[0].model_copy(update={"generation": draft.candidates[0].generation.model_copy(update={"cost_usd": None})})
    assert validate(draft.model_copy(update={"candidates": [free, draft.candidates[1]]}), background, validator).generation.cost_usd is None


def test_tokens_of_answers_that_were_kept_are_not_paid_twice(validator: Validator, background: JobBackground) -> None:
    draft = offered(FALSE, TRUE)
    kept = draft.candidates[0].model_copy(update={"generation": draft.candidates[0].generation.model_copy(update={"cached": True})})
    outcome = validate(draft.model_copy(update={"candidates": [kept, draft.candidates[1]]}), background, validator)
    assert (outcome.generation.tokens_in, outcome.generation.cached) == (100, False)
