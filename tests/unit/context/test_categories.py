"""The category of a feature: given, or inferred from texts and keywords by rules."""

from collections import Counter

import pytest

from mistudio_explain.context.categories import category_of, inferred
from mistudio_explain.context.passages import passages_of
from mistudio_explain.events.explanation import Category
from mistudio_explain.events.feature import Activation
from unit.context.finding import real_features

# labelled by hand; each list is the texts of one feature
LABELLED: list[tuple[Category, list[str]]] = [
    (Category.TECHNICAL, ['{"type": "object", "properties": {"id": {"type": "string"}}}', '{"required": ["name", "email"], "type": "object"}']),
    (Category.TECHNICAL, ["def area(r):\n    return 3.14 * r ** 2", "for (int i = 0; i < n; i++) { total += a[i]; }", "const x = items.map(i => i.id);"]),
    (
        Category.TECHNICAL,
        ["POST /v1/users returns 201 and the new user", "The endpoint accepts an API key in the header", "The server stores JSON in the database"],
    ),
    (Category.TECHNICAL, ["SELECT * FROM orders WHERE total > 10;", "INSERT INTO logs VALUES (1, 'a');"]),
    (
        Category.CONVERSATIONAL,
        ["User: I lost my card.\nAssistant: I am sorry to hear that.", "Customer: Where is it?\nAgent: On its way.", "Q: Is it safe?\nA: Yes."],
    ),
    (Category.CONVERSATIONAL, ["Hello! How can I help you today?", "Thanks, could you please tell me more?", "Hi, can you help me with my order?"]),
    (Category.BEHAVIORAL, ["I will use the calculator tool to decide", "The agent decided to invoke the search tool", "<tool_call> weather </tool_call>"]),
    (Category.BEHAVIORAL, ["As an AI, I cannot open links.", "I am not able to browse the web.", "The model refuses the task, it lacks the capability."]),
    (Category.TEMPORAL, ["The meeting is on Tuesday at 14:30.", "Schedule it for next Friday morning", "The deadline is in three weeks, on 12 August"]),
    (Category.TEMPORAL, ["It took 45 minutes", "open from 9 am to 5 pm", "two years ago, in December"]),
    (Category.OTHER, ["The old oak stood at the edge of the field.", "She painted the fence green.", "A river runs through the valley."]),
    (Category.OTHER, ["The senator criticised the bill.", "Voters elected a new mayor.", "The treaty was signed in Geneva."]),
    (Category.OTHER, ["His class was cancelled, so he made a list of objects to draw.", "Return the book to the library.", "The string of the violin broke."]),
]


@pytest.mark.parametrize(("category", "texts"), LABELLED)
def test_labelled_texts_get_the_label_s_category(category: Category, texts: list[str]) -> None:
    assert inferred([], passages_of([Activation(text=text) for text in texts])) is category


def test_a_few_texts_of_a_kind_among_many_others_do_not_make_a_category() -> None:
    texts = ["def f(x):\n    return {x: [x];}"] + [f"The {color} bird sang in the tree." for color in ("red", "blue", "grey", "black", "brown", "white")]
    assert inferred([], passages_of([Activation(text=text) for text in texts])) is Category.OTHER


def test_the_tokens_that_fire_count_beside_the_texts() -> None:
    texts = ["He came on a cold Monday", "Back by Friday, she said", "It rained on Sunday", "Only Thursday was dry"]
    unknown = [Activation(text=text) for text in texts]
    known = [Activation(text=text, peak=peak) for text, peak in zip(texts, (" Monday", " Friday", " Sunday", " Thursday"), strict=True)]
    assert inferred([], passages_of(unknown)) is Category.OTHER
    assert inferred([], passages_of(known)) is Category.TEMPORAL


def test_keywords_count_beside_the_texts() -> None:
    texts = passages_of([Activation(text=text) for text in ("the reply came back", "the key was wrong", "it was stored")])
    assert inferred(["json", "schema", "api"], texts) is Category.TECHNICAL
    assert inferred(["reply", "key", "stored"], texts) is Category.OTHER


@pytest.mark.parametrize(("given", "category"), [("technical", Category.TECHNICAL), (" Behavioral ", Category.BEHAVIORAL), ("OTHER", Category.OTHER)])
def test_a_given_category_counts_whatever_the_texts_say(given: str, category: Category) -> None:
    texts = passages_of([Activation(text="at 14:30 on Monday")])
    assert category_of(given, [], texts) == (category, True, [])


@pytest.mark.parametrize("absent", [None, "", "  "])
def test_an_absent_category_is_inferred(absent: str | None) -> None:
    assert category_of(absent, [], passages_of([Activation(text="at 14:30 on Monday")])) == (Category.TEMPORAL, False, [])


def test_an_unknown_category_is_other_and_flagged() -> None:
    assert category_of("culinary", [], passages_of([Activation(text="at 14:30 on Monday")])) == (Category.OTHER, True, ["unknown_category"])


def test_real_features_are_not_all_of_one_category() -> None:
    categories = Counter(inferred(f.pattern_keywords, passages_of(f.top_activations)) for f in real_features("gemma-2-2b/find_gemma-2-2b_results.json"))
    assert categories[Category.TECHNICAL] >= 3  # loops, default values, enumerations and the like
    assert categories[Category.OTHER] >= 3
