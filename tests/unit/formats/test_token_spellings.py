import pytest

from mistudio_explain.intake.formats.tokens import readable, readable_token


@pytest.mark.parametrize(
    ("spelled", "read"),
    [
        (["Ġthe", "Ġcat", "Ċ"], [" the", " cat", "\n"]),
        (["▁the", "▁cat"], [" the", " cat"]),
        (["don", "âĢĻ", "t"], ["don", "’", "t"]),
        ([" Ã¡s", " Â£", "ÃŃ"], [" ás", " £", "í"]),
        ([" École", "é", " naïve"], [" École", "é", " naïve"]),
        (["Ż", "Ġ is a letter of Maltese", " too"], ["Ż", "Ġ is a letter of Maltese", " too"]),
        (["Ļ", " cut"], ["Ļ", " cut"]),
        (["日本", "語"], ["日本", "語"]),
    ],
)
def test_spellings_of_tokenizers_are_read_as_text_and_real_letters_stay(spelled: list[str], read: list[str]) -> None:
    assert readable(spelled, [0.0] * len(spelled))[0] == read


def test_tokens_that_share_a_character_become_one_with_the_greatest_value() -> None:
    assert readable([" he", " âĢ", "ľ", "yes"], [0.0, 1.0, 3.0, 2.0]) == ([" he", " “", "yes"], [0.0, 3.0, 2.0])


def test_a_part_of_a_character_alone_stays_as_it_is_spelled() -> None:
    assert readable_token("ãĤ") == "ãĤ"
    assert readable_token("ãĤ±") == "ケ"
