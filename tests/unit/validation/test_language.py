"""An explanation in another language than its texts, where both are written in one script."""

import random
from pathlib import Path

import orjson
import pytest

from mistudio_explain.evaluation.data import read_sets
from mistudio_explain.events.feature import Activation, FeatureFound
from mistudio_explain.settings import QualitySettings, Settings
from mistudio_explain.validation.language import foreign_to
from mistudio_explain.validation.offline import Scorer, score
from mistudio_explain.validation.script import main_script
from mistudio_explain.validation.validator import Validator
from mistudio_explain.validation.words import words

REPOSITORY = Path(__file__).parents[3]

TEXTS = {
    "German": [
        "Der Bäcker ist um vier Uhr aufgestanden und hat das Brot für die ganze Straße gebacken.",
        "Wir sind mit dem Zug nach Hamburg gefahren, weil die Autobahn gesperrt ist.",
        "Es ist nicht leicht, eine Wohnung zu finden, die groß und bezahlbar ist.",
    ],
    "French": [
        "Le boulanger se lève à quatre heures et prépare le pain pour toute la rue.",
        "Les enfants sont dans le jardin avec leur grand-mère, qui leur raconte une histoire.",
        "Il ne trouve pas ses clés, elles sont sur la table de la cuisine.",
    ],
    "Spanish": [
        "El panadero se levanta a las cuatro y prepara el pan para toda la calle.",
        "Los niños están en el jardín con su abuela, que les cuenta una historia.",
        "No encuentra las llaves que dejó en la mesa de la cocina por la mañana.",
    ],
    "Dutch": [
        "De bakker staat om vier uur op en bakt het brood voor de hele straat.",
        "Wij zijn met de trein naar Utrecht gegaan, omdat het op de weg te druk is.",
        "Het is niet eenvoudig om een huis te vinden dat groot en betaalbaar is.",
    ],
    "Turkish": [
        "Bu sabah fırıncı bütün sokak için ekmek ve simit hazırladı, bir de çay demledi.",
        "Çocuklar bahçede büyükanne ile oturuyor ve o da bir masal anlatıyor, çok güzel bir masal.",
        "Bu ev için daha iyi bir fiyat olarak ne verdiler, ne de aldılar.",
    ],
}
ENGLISH = [
    "The baker gets up at four and bakes the bread for the whole street.",
    "We took the train to York because the road was closed for most of the day.",
    "It is not easy to find a flat that is large and that we can pay for.",
]
CLAIMS = {
    "German": "Beschreibungen von dem Alltag und der Familie",
    "French": "Des phrases sur la vie de tous les jours",
    "Spanish": "Frases sobre la vida de los vecinos y el pan",
    "Dutch": "Zinnen over het dagelijks leven van een gezin",
    "Turkish": "Bir aile ve bir sokak için yazılan cümleler",
}


@pytest.mark.parametrize("language", TEXTS)
def test_an_explanation_in_another_language_than_its_texts_is_told_and_one_in_theirs_is_not(language: str) -> None:
    foreign, english = [words(text) for text in TEXTS[language]], [words(text) for text in ENGLISH]
    assert foreign_to("Sentences about the daily life of a family", foreign) == language
    assert foreign_to(CLAIMS[language], foreign) is None
    assert foreign_to(CLAIMS[language], english) == "English"
    assert foreign_to("Sentences about the daily life of a family", english) is None


def test_what_an_explanation_quotes_is_not_its_language_and_one_without_function_words_has_none() -> None:
    english = [words(text) for text in ENGLISH]
    assert foreign_to('the words "der", "die" and "das" of German', english) is None
    assert foreign_to("capital cities", [words(text) for text in TEXTS["German"]]) is None


def test_code_and_lists_are_of_no_language() -> None:
    code = [words("for (int i = 0; i < n; i++) { total += price[i] * count[i]; }")] * 5
    assert foreign_to("Sätze mit der Summe von den Preisen", code) is None


def test_the_outcome_of_an_english_explanation_of_german_texts_is_a_verdict_with_a_flag() -> None:
    scorer = Scorer.of(Validator.load(QualitySettings()), Settings())

    def flags(texts: list[str]) -> list[str]:
        feature = FeatureFound(target_model="m", find_job_id="j", feature_id="1", top_activations=[Activation(text=text) for text in texts])
        outcome = score(feature, "Sentences about the daily life of a family", None, scorer)
        assert outcome.pattern_verification is not None
        return outcome.flags

    assert "foreign_language" in flags(TEXTS["German"])
    assert "foreign_language" not in flags(ENGLISH)


def test_no_real_feature_is_flagged_wrongly_and_nine_of_ten_answers_in_other_languages_are() -> None:
    """All 448 explanations and nearly all texts of examples/features are English; the answers were collected for generation's own check."""
    features = [known for one in read_sets(REPOSITORY / "examples" / "features") for known in one.features if known.explanation]
    texts = [[words(activation.text) for activation in known.feature.top_activations] for known in features]
    assert len(features) == 448
    assert sum(foreign_to(known.explanation or "", read) is not None for known, read in zip(features, texts, strict=True)) <= 4
    lines = map(orjson.loads, (REPOSITORY / "tests" / "data" / "answers.jsonl").read_bytes().splitlines())
    patterns = [orjson.loads(line["text"])["pattern"] for line in lines if line["class"] == "wrong language" and line["text"].startswith("{")]
    latin = [pattern for pattern in patterns if main_script([pattern]) == "LATIN"]
    chosen = random.Random(0).sample(texts, 20)
    assert len(latin) > 20
    assert sum(foreign_to(pattern, read) == "English" for pattern in latin for read in chosen) >= 0.9 * len(latin) * len(chosen)
