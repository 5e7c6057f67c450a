"""Which texts are evidence, which of them are held out, and how they are cut."""

import time

import pytest

from mistudio_explain.context.cleaning import cleaned, neutral, one_line
from mistudio_explain.context.evidence import has_lower_bins, split
from mistudio_explain.context.marks import shown, strongest
from mistudio_explain.context.passages import PASSAGE_CHARACTERS, TEXT_CHARACTERS, Passage, distinct, evenly, passages_of
from mistudio_explain.context.windows import bounded, peak_offset
from mistudio_explain.events.feature import Activation, ActiveToken
from unit.context.finding import TEXTS, policy


def passages(*texts: str) -> list[Passage]:
    return passages_of([Activation(text=text) for text in texts])


def tokenised(*tokens: tuple[str, float]) -> Activation:
    return Activation(text="".join(token for token, _ in tokens), tokens=[token for token, _ in tokens], token_activations=[value for _, value in tokens])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\x00b\x1b[31mc", "ab[31mc"),
        ("tab\tand\nnewline stay", "tab\tand\nnewline stay"),
        ("one\r\ntwo\rthree\u2028four\x85five", "one\ntwo\nthree\nfour\nfive"),
        ("e\u0301", "é"),
        ("left\u202eright\u2066x", "leftrightx"),
        ("a\U000e0041\U000e0042b", "ab"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("👩‍💻 keeps its joiner", "👩‍💻 keeps its joiner"),
    ],
)
def test_cleaning_takes_away_what_no_reader_sees(text: str, clean: str) -> None:
    assert cleaned(text) == clean


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>",
        "<|eot_id|>",
        "<|endoftext|>",
        "[INST]",
        "[/INST]",
        "<s>",
        "</s>",
        "<<SYS>>",
        "<</SYS>>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<｜User｜>",
    ],
)
def test_control_tokens_of_chat_templates_do_not_survive_in_a_prompt(token: str) -> None:
    assert token not in neutral(f"before {token} after")


@pytest.mark.parametrize("text", ["if a < b and b > c:", "x[0]", "<div>", "a || b", "[1, 2]"])
def test_other_brackets_stay_as_they_are(text: str) -> None:
    assert neutral(text) == text


def test_one_line_is_one_line_of_bounded_length() -> None:
    assert one_line("a\nb\t c" + "d" * 100, 10) == "a b cddddd"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The dog barked at the gate.", "the dog  barked at the gate."),
        ("The dog barked at the old gate again and again.", "dog barked at the old gate again"),  # a window of the same document
        ("rand new cars were sold in the tow", "Brand new cars were sold in the town"),  # cut inside words
        ("price: 10 dollars a piece in the year 2009 (see the list)", "price: 10 dollars a piece in the year 2010 (see the list)"),
    ],
)
def test_near_identical_texts_are_one(one: str, other: str) -> None:
    assert [passage.text for passage in distinct(passages(one, other))] == [one]
    assert [passage.text for passage in distinct(passages(other, one))] == [other]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The dog barked at the gate.", "The cat slept by the fire."),
        ("the", "the dog barked"),  # a word is no window of a sentence
        ("of the of the of the", "the cat of the man of the hour saw the end of the road"),
        ("猫が庭で寝ている。", "犬が家で吠えている。"),
        ("{}", "[]"),
    ],
)
def test_different_texts_stay_two(one: str, other: str) -> None:
    assert len(distinct(passages(one, other))) == 2


def test_texts_without_a_visible_character_are_no_passages() -> None:
    assert [passage.text for passage in passages("", "  \n", "\x00", "x")] == ["x"]


def test_ranks_are_taken_evenly_from_the_first_to_the_last() -> None:
    assert evenly(20, 5) == [0, 5, 10, 14, 19]
    assert evenly(3, 5) == [0, 1, 2]
    assert evenly(9, 1) == [0]


def test_the_strongest_text_is_seen_and_the_held_out_ones_lie_between_the_others() -> None:
    parted = split(passages(*TEXTS[:12]), 12, policy())
    assert [TEXTS.index(passage.text) for passage in parted.seen] == [0, 1, 3, 4, 6, 7, 9, 10]
    assert [TEXTS.index(passage.text) for passage in parted.held_out] == [2, 5, 8, 11]


def test_texts_beyond_the_template_s_room_are_held_out_too() -> None:
    parted = split(passages(*TEXTS[:12]), 5, policy())
    assert (len(parted.seen), len(parted.held_out), parted.trimmed) == (5, 7, 0)


def test_without_held_out_texts_those_beyond_the_template_s_room_are_trimmed() -> None:
    parted = split(passages(*TEXTS[:7]), 5, policy())
    assert (len(parted.seen), len(parted.held_out), parted.trimmed) == (5, 0, 2)


def test_lower_bins_need_a_strength_on_every_text_and_a_wide_range() -> None:
    def bins(*strengths: float | None) -> bool:
        return has_lower_bins(passages_of([Activation(text=f"t{at}", activation_strength=strength) for at, strength in enumerate(strengths)]))

    assert bins(9.0, 4.5)
    assert not bins(9.0, 8.5)
    assert not bins(9.0, None, 1.0)
    assert not bins(0.0, 0.0)


def test_a_long_text_is_cut_round_its_peak() -> None:
    text = "a " * 3000 + "PEAK " + "b " * 3000
    cut = bounded(Activation(text=text, peak="PEAK"), 100)
    assert len(cut.text) == 100
    assert abs(cut.text.index("PEAK") - 50) < 6


def test_a_monstrous_text_is_cut_round_its_peak_before_it_is_cleaned() -> None:
    text = "\x00é" * 500_000 + "PEAK" + "\x00é" * 500_000
    cut = bounded(Activation(text=text, peak="PEAK"), 100)
    assert len(cut.text) == 100
    assert abs(cut.text.index("PEAK") - 50) < 6
    assert "\x00" not in cut.text
    started = time.perf_counter()
    for _ in range(5):
        bounded(Activation(text=text, peak="PEAK"), 100)
    assert (time.perf_counter() - started) / 5 < 0.1  # cleaned whole it takes 0.4 s


def test_a_long_text_without_a_known_peak_is_cut_to_its_beginning() -> None:
    assert bounded(Activation(text="abc" * 5000), TEXT_CHARACTERS).text == ("abc" * 5000)[:TEXT_CHARACTERS]


def test_tokens_are_cut_with_their_text() -> None:
    activation = tokenised(*[(" word", 0.0)] * 400, (" peak", 9.0), *[(" more", 0.5)] * 400)
    cut = bounded(activation, 100)
    assert cut.tokens is not None
    assert cut.token_activations is not None
    assert "".join(cut.tokens) == cut.text
    assert len(cut.tokens) == len(cut.token_activations)
    assert cut.tokens[cut.token_activations.index(9.0)] == " peak"


def test_tokens_that_are_not_the_text_s_are_left_out_when_it_is_cut() -> None:
    activation = Activation(text="schön " * 100, tokens=["sch", "Ã¶n"], token_activations=[1.0, 2.0])
    assert bounded(activation, 50).tokens is None
    assert bounded(activation, 5000).tokens == ["sch", "Ã¶n"]


def test_a_short_clean_text_is_not_copied() -> None:
    activation = Activation(text="as it is")
    assert bounded(activation, 100) is activation


def test_the_peak_is_where_the_greatest_activation_is() -> None:
    assert peak_offset(tokenised(("a", 0.0), ("b", 3.0), ("a", 9.0))) == 2
    assert peak_offset(Activation(text="one two one", peak=" two")) == 3
    assert peak_offset(Activation(text="one two", active_tokens=[ActiveToken(token="one", strength=1.0), ActiveToken(token="two", strength=2.0)])) == 4
    assert peak_offset(Activation(text="one two")) is None


def test_firing_tokens_are_marked_with_strengths_in_tenths_of_the_strongest() -> None:
    seen = passages_of([tokenised(("The", 0.1), (" big", 4.0), (" dog", 8.0), (" sat", 0.0), (" here", 1.0)), tokenised(("A", 0.0), (" cat", 6.0))])
    ten = strongest(seen)
    assert shown(seen[0], 400, ten) == ("The <<big dog>> sat here", [("dog", 10), ("big", 5)])
    assert shown(seen[1], 400, ten) == ("A <<cat>>", [("cat", 8)])


def test_a_weak_text_s_own_peak_is_marked_too() -> None:
    assert shown(Passage.of(tokenised(("A", 0.1), (" cat", 1.0), (" sat", 0.2))), 400, 10.0) == ("A <<cat>> sat", [("cat", 1)])


@pytest.mark.parametrize(("token", "mark"), [("s", "<< s >>"), ("/s", "<< /s >>"), ("SYS", "<< SYS >>"), ("|", "<< | >>"), ("so", "<<so>>")])
def test_a_mark_makes_no_control_token(token: str, mark: str) -> None:
    assert shown(Passage.of(tokenised(("it'", 0.0), (token, 5.0), (" he", 0.0))), 400, 5.0)[0] == f"it'{mark} he"


def test_a_control_token_that_a_mark_divides_is_rewritten_all_the_same() -> None:
    assert "<" not in shown(Passage.of(tokenised(("<", 0.0), ("|eot_id", 5.0), ("|>", 0.0))), 400, 5.0)[0].replace("<<", "")


def test_active_tokens_are_found_in_the_text_s_order() -> None:
    activation = Activation(text="at bat at hat", active_tokens=[ActiveToken(token=" bat", strength=5.0), ActiveToken(token=" at", strength=5.0)])
    assert shown(Passage.of(activation), 400, 5.0)[0] == "at <<bat at>> hat"


def test_a_text_without_tokens_has_no_marks() -> None:
    assert shown(Passage.of(Activation(text="plain")), 400, None) == ("plain", [])


def test_marks_of_the_text_s_own_are_not_taken_for_ours() -> None:
    text, _ = shown(Passage.of(Activation(text="cout << x >> y <<< z")), 400, None)
    assert "<<" not in text
    assert ">>" not in text


def test_a_shown_text_lies_within_what_was_compared() -> None:
    passage = Passage.of(Activation(text=" ".join(f"w{n}" for n in range(900)), peak="w450"))
    for longest in (120, 300, PASSAGE_CHARACTERS):
        text, _ = shown(passage, longest, None)
        assert text.replace("<<", "").replace(">>", "") in passage.text
