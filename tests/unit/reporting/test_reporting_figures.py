"""A report's figures, as drawings and in words."""

import re
from xml.etree import ElementTree

import pytest
from reporting_samples import HOSTILE, explained, hostile, judgement, review, skipped

from mistudio_explain.events.explanation import Generation
from mistudio_explain.reporting.agreement import Step
from mistudio_explain.reporting.drawing import UNIT, WIDTH, Row, axis_to, boxes, bubbles, calibration, standalone
from mistudio_explain.reporting.figures import Figure, figures_of
from mistudio_explain.reporting.spread import Quartiles
from mistudio_explain.reporting.survey import survey

BOX = Quartiles(5, 0.1, 0.2, 0.5, 0.7, 0.9)


def drawn(*outcomes: object) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures_of(survey(outcomes))}  # type: ignore[arg-type]


def numbers(svg: str, tag: str, *names: str) -> list[tuple[float, ...]]:
    root = ElementTree.fromstring(standalone(svg))
    return [tuple(float(element.attrib[name]) for name in names) for element in root.iter(f"{{http://www.w3.org/2000/svg}}{tag}")]


def test_a_job_without_explanations_has_no_figures() -> None:
    assert drawn() == {}
    assert drawn(skipped("1")) == {}


def test_the_figures_of_agreement_stand_only_where_people_or_a_judge_were_asked() -> None:
    assert set(drawn(explained())) == {"scores", "coherence", "time", "tokens"}
    assert "people" in drawn(explained(review=review(verdict="right")))
    assert "judge" in drawn(explained(judge=judgement()))


def test_every_figure_says_in_words_what_it_shows() -> None:
    figures = drawn(explained("1"), explained("2", review=review(verdict="right"), judge=judgement()))
    for figure in figures.values():
        assert f'aria-label="{figure.alternative}"' in figure.svg
        assert re.search(r"\d", figure.alternative)
    assert "technical: quality median 0.90" in figures["scores"].alternative
    assert "2 features below a coherence of 0.4" in figures["coherence"].alternative
    assert "right 1.00 (1)" in figures["people"].alternative


def test_a_box_lies_between_the_quartiles_and_its_line_on_the_median() -> None:
    svg = boxes([Row("all", (BOX,))], UNIT, "words")
    ((x, width),) = numbers(svg, "rect", "x", "width")
    left, right = 34, 352
    assert x == pytest.approx(left + 0.2 * (right - left), abs=0.1)
    assert width == pytest.approx(0.5 * (right - left), abs=0.1)
    (middle,) = re.findall(r'<line class="middle" x1="([\d.]+)"', svg)
    assert float(middle) == pytest.approx(left + 0.5 * (right - left), abs=0.1)


def test_the_area_of_a_dot_is_its_number_of_features() -> None:
    (small,), (large,) = numbers(bubbles({(0, 0): 1, (5, 5): 4}, 20, (), "words"), "circle", "r")
    assert (large / small) ** 2 == pytest.approx(4, rel=0.01)


def test_higher_agreement_stands_higher() -> None:
    steps = (Step(3, 0.1, 0.2, 0.1, 0.4), Step(3, 0.9, 0.8, 0.6, 0.9))
    (low, high) = numbers(calibration(steps, "words", is_diagonal=True), "circle", "cx", "cy")
    assert low[0] < high[0]
    assert low[1] > high[1]


@pytest.mark.parametrize(("greatest", "ticks"), [(7.0, (0, 2, 4, 6, 8)), (0.9, (0, 0.25, 0.5, 0.75, 1.0)), (4000, (0, 1000, 2000, 3000, 4000)), (0.0, (0, 1))])
def test_an_axis_ends_at_a_round_number_that_holds_all(greatest: float, ticks: tuple[float, ...]) -> None:
    assert axis_to(greatest, "").ticks == pytest.approx(ticks)


def test_nothing_is_drawn_beyond_the_chart() -> None:
    for figure in drawn(*[explained(str(i), quality_score=i / 10, review=review(verdict="wrong")) for i in range(11)]).values():
        for x, y in [*numbers(figure.svg, "line", "x1", "y1"), *numbers(figure.svg, "line", "x2", "y2"), *numbers(figure.svg, "text", "x", "y")]:
            assert 0 <= x <= WIDTH
            assert 0 <= y <= 240


def test_hostile_names_stay_text_and_each_figure_is_a_file_of_its_own() -> None:
    outcomes = [
        *hostile(),
        *(
            explained(f"9{i}", generation=Generation(model=t, endpoint=t, provider=t, latency_s=1, tokens_in=1, tokens_out=1, finish_reason="stop"))
            for i, t in enumerate(HOSTILE)
        ),
    ]
    for figure in drawn(*outcomes).values():
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(standalone(figure.svg)).iter()}
        assert tags <= {"svg", "style", "line", "rect", "text", "circle", "title"}


def test_the_same_job_is_drawn_the_same() -> None:
    outcomes = [explained(str(i), quality_score=i / 10) for i in range(10)]
    assert [figure.svg for figure in figures_of(survey(outcomes))] == [figure.svg for figure in figures_of(survey(list(outcomes)))]
