import csv
import io
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.events.feature import Activation
from mistudio_explain.reporting.evidence import EXCERPT_CHARACTERS, excerpt, peak_span, visible
from mistudio_explain.reporting.page import environment
from mistudio_explain.reporting.table import cell
from mistudio_explain.reporting.wording import duration, written_feature_id

TEXTS = st.text(alphabet=st.one_of(st.sampled_from("=+-@\t\r\n ,\"'<>&;\x00\u202e＝"), st.characters(exclude_categories=["Cs"])), max_size=60)


@given(TEXTS)
def test_no_text_survives_as_a_formula_and_the_csv_reader_gets_the_cell_back(text: str) -> None:
    written = cell(text)
    assert isinstance(written, str)
    assert written[:1] not in tuple("=+-@\t\r\n＝＋－＠") or not written
    assert written.lstrip()[:1] not in tuple("=+-@") or not written.lstrip()
    file = io.StringIO()
    csv.writer(file).writerow([written, "next"])
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [[written, "next"]]


@given(TEXTS)
def test_no_text_leaves_its_place_in_the_page(text: str) -> None:
    html = environment().from_string('<p title="{{ text }}">{{ text }}</p>').render(text=text)
    inner = html.removeprefix('<p title="').removesuffix("</p>")
    assert not set(inner.replace('">', "", 1)) & set("<>\"'")
    assert unescape(inner) == f'{text}">{text}'


@given(st.from_regex(r"[A-Za-z0-9._:/@ -]{1,200}", fullmatch=True))
def test_a_written_feature_id_reads_back_as_the_same_text(feature_id: str) -> None:
    assert str(written_feature_id(feature_id)) == feature_id


@given(st.floats(min_value=0, max_value=1e7))
def test_a_written_duration_is_within_its_rounding_of_the_truth(seconds: float) -> None:
    written = duration(seconds)
    assert written is not None
    number, unit = written.split()
    scale = {"seconds": 1, "minutes": 60}[unit]
    assert abs(float(number) * scale - seconds) <= 0.0501 * scale
    assert float(number) < 60 or unit == "minutes"


@given(st.lists(st.tuples(st.text(min_size=1, max_size=200), st.floats(min_value=0, max_value=10)), min_size=1, max_size=12))
def test_the_marked_peak_is_the_strongest_token_and_an_excerpt_is_a_part_of_the_text(tokens: list[tuple[str, float]]) -> None:
    activation = Activation(text="".join(t for t, _ in tokens), tokens=[t for t, _ in tokens], token_activations=[v for _, v in tokens])
    strengths = [v for _, v in tokens]
    span = peak_span(activation)
    if max(strengths) > 0:
        position = strengths.index(max(strengths))
        start = len("".join(t for t, _ in tokens[:position]))
        assert span == (start, start + len(tokens[position][0]))
    cut = excerpt(activation)
    shown = cut.before.removeprefix("… ") + cut.peak + cut.after.removesuffix(" …")
    assert shown in visible(activation.text) or len(activation.text) <= EXCERPT_CHARACTERS
    if len(activation.text) <= EXCERPT_CHARACTERS:
        assert cut.before + cut.peak + cut.after == visible(activation.text)
