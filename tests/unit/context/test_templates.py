"""Templates as files: what is read, what is chosen, and how an error in one is told."""

from pathlib import Path

import pytest

from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.errors import BadSettings
from mistudio_explain.events.explanation import Category, ExplanationRequested
from mistudio_explain.events.feature import Activation
from unit.context.finding import TEMPLATES, found, policy

HEAD = "---\nname: mine\nversion: 1\nanswer: fields\n---\n"
BODY = "@user\nSay what {{ examples[0].text }} is.\n"


def written(directory: Path, text: str, name: str = "mine.prompt") -> Path:
    (directory / name).write_text(text, encoding="utf-8")
    return directory


def test_templates_of_a_directory_come_beside_the_shipped_ones(tmp_path: Path) -> None:
    templates = Templates.load(written(tmp_path, HEAD + BODY))
    assert set(templates.known) == {*TEMPLATES.known, "mine@1"}
    event = build(found(), policy(template="mine@1"), templates, None)
    assert isinstance(event, ExplanationRequested)
    assert (event.prompt.template, event.prompt.messages[0].content[:17]) == ("mine", "Say what Number 0")


def test_a_template_for_a_family_wins_over_a_general_one(tmp_path: Path) -> None:
    templates = Templates.load(written(tmp_path, HEAD.replace("answer", "families: llama*, qwen*\nanswer") + BODY))
    assert templates.chosen(None, "llama3.1:8b", Category.TECHNICAL).full_name == "mine@1"
    assert templates.chosen(None, "mistral:7b", Category.OTHER).full_name == "general@1"


def test_the_latest_version_is_chosen_by_number(tmp_path: Path) -> None:
    for version in ("2", "10"):
        written(tmp_path, HEAD.replace("name: mine", "name: general").replace("version: 1", f"version: {version}") + BODY, f"{version}.prompt")
    assert Templates.load(tmp_path).chosen(None, "mistral:7b", Category.OTHER).full_name == "general@10"


@pytest.mark.parametrize(
    ("family", "category", "name"),
    [
        ("llama3.1:8b", Category.OTHER, "general@1"),
        ("llama3.1:8b", Category.TECHNICAL, "technical@2"),
        ("demonstration", Category.TECHNICAL, "demonstration@1"),
        ("demonstration", Category.OTHER, "demonstration@1"),
        ("Some/Model", Category.TEMPORAL, "general@1"),
    ],
)
def test_family_and_category_choose_among_the_shipped_ones(family: str, category: Category, name: str) -> None:
    assert TEMPLATES.chosen(None, family, category).full_name == name


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("no front matter", 1, "begins with a line ---"),
        ("---\nname: mine\n", 2, "no closing line"),
        ("---\nname: mine\nversion\n---\n", 3, "not of the form"),
        ("---\nname: mine\nname: mine\n---\n", 3, "stands twice"),
        (HEAD.replace("answer", "colour: red\nanswer"), 4, "'colour' is no field"),
        (HEAD.replace("mine", "My Template") + BODY, 2, "expected a lower-case name"),
        (HEAD.replace("version: 1\n", "") + BODY, 1, "version is missing"),
        (HEAD.replace("fields", "poem") + BODY, 4, "expected fields or sentence"),
        (HEAD.replace("answer", "texts: many\nanswer") + BODY, 4, "expected a whole number from 1 to 100"),
        (HEAD.replace("answer", "text_characters: 0\nanswer") + BODY, 4, "expected a whole number"),
        (HEAD.replace("answer", "categories: technical, culinary\nanswer") + BODY, 4, "'culinary' is no category"),
        (HEAD + "Hello\n" + BODY, 6, "before the first turn"),
        (HEAD, 5, "no turn @user"),
        (HEAD + "@system\nHello\n", 7, "no turn @user"),
        (HEAD + "@user\nHello\n@system\nHello\n", 8, "@system cannot stand here"),
        (HEAD + "@user\nHello\n@robot\nHello\n", 8, "@robot cannot stand here"),
        (HEAD + "@user\nHello\n{% if keywords %}\n", 8, "Unexpected end of template"),
        (HEAD + "@user\nHello\n\n{{ feature.id }}\n", 9, "'feature' is nothing a template can use"),
        (HEAD + "@user\nHello\n{% for example in examples %}\n{{ example.colour }}\n{% endfor %}\n", 9, "cannot be rendered"),
        (HEAD + "@system\nHello\n@user\n{{ keywords.__class__.__mro__ }}\n", 9, "cannot be rendered"),
        (HEAD + "@user\n{{ keywords | shout }}\n", 7, "No filter named 'shout'"),
        (HEAD + "@user\n{{ 1 / 0 }}\n", 7, "cannot be rendered"),
    ],
)
def test_an_error_in_a_template_names_file_line_and_what_is_wrong(tmp_path: Path, text: str, line: int, problem: str) -> None:
    with pytest.raises(BadSettings) as caught:
        Templates.load(written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'mine.prompt'}, line {line}: ")
    assert problem in str(caught.value)


def test_a_template_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.prompt").write_bytes(b"---\nname: \xff\n")
    with pytest.raises(BadSettings, match=r"mine\.prompt"):
        Templates.load(tmp_path)


def test_a_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="is no directory"):
        Templates.load(tmp_path / "nowhere")


def test_a_shipped_template_cannot_be_replaced_under_its_own_version(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="general@1 is also in"):
        Templates.load(written(tmp_path, HEAD.replace("mine", "general") + BODY))


def test_a_default_template_that_does_not_exist_is_found_at_the_start() -> None:
    with pytest.raises(BadSettings, match=r"no template 'mine@1'.*general@1"):
        Templates.load(default="mine@1")


def test_a_peak_of_unknown_strength_is_marked_without_a_number() -> None:
    feature = found(top_activations=[Activation(text="The dog ran", peak=" dog"), Activation(text="A puppy slept", peak=" puppy")])
    for family, expected in (("mistral:7b", "Strongest tokens: dog\n"), ("demonstration", "Marked words: dog, puppy\n")):
        event = build(feature, policy(family), TEMPLATES, None)
        assert isinstance(event, ExplanationRequested)
        assert expected in next(message.content for message in event.prompt.messages if message.role == "user")


def test_the_template_that_the_documentation_shows_works(tmp_path: Path) -> None:
    shown = (Path(__file__).parents[3] / "docs" / "fleet.md").read_text(encoding="utf-8").split("```\n---\nname: short\n")[1].split("```")[0]
    templates = Templates.load(written(tmp_path, f"---\nname: short\n{shown}"))
    event = build(found(), policy("qwen2.5:7b"), templates, None)
    assert isinstance(event, ExplanationRequested)
    assert event.prompt.template == "short"
    assert "for a busy reader" in event.prompt.messages[0].content


def test_a_pattern_takes_the_most_special_template_of_those_that_it_fits() -> None:
    for family, name in (("llama3.1:8b", "spec-llama@1"), ("codellama:13b", "spec-codellama@1"), ("mistral:7b", "spec-general@1"), ("", "spec-general@1")):
        assert TEMPLATES.chosen("spec-*", family, Category.OTHER).full_name == name


def test_a_pattern_that_leaves_some_features_without_a_template_is_found_at_the_start() -> None:
    with pytest.raises(BadSettings, match=r"no template 'technical@\*' that fits every feature"):
        Templates.load(default="technical@*")
