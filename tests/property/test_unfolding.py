"""An answer that is shown while it is written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.cli.unfolding import Unfolding


def shown(*pieces: str) -> str:
    unfolding = Unfolding()
    return "".join(map(unfolding.take, pieces))


def test_the_fields_of_an_object_become_lines_as_they_come() -> None:
    unfolding = Unfolding()
    assert unfolding.take('{"label": "Do') == "label: Do"
    assert unfolding.take('gs", "pat') == "gs\n"
    assert unfolding.take('tern": "They \\"bark\\".\\n') == 'pattern: They "bark". '
    assert unfolding.take('"}') == "\n"


def test_an_answer_that_is_no_object_comes_through() -> None:
    assert shown(" Dogs: ", '"bark"') == ' Dogs: "bark"'


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t\b\f")), st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t\b\f"))
    ),
    st.booleans(),
    st.data(),
)
def test_any_object_cut_anywhere_shows_all_of_its_texts(fields: dict[str, str], ascii_only: bool, data: st.DataObject) -> None:
    whole = json.dumps(fields, ensure_ascii=ascii_only)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert shown(*pieces) == "".join(f"{name}: {text}\n" for name, text in fields.items())


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    shown("{" + text)
