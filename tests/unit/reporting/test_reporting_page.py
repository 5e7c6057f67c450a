import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reporting_samples import HOSTILE, concerning, explained, failed, hostile, job_report, skipped

from mistudio_explain.events.explanation import Evidence, FeatureOutcome, Generation
from mistudio_explain.events.feature import Activation
from mistudio_explain.events.job import CloudPrice, CostAnalysis, JobReport, JobStatus
from mistudio_explain.reporting.stage import PAGE, write_reports
from mistudio_explain.reporting.wording import share


class Page(HTMLParser):
    """What a browser would make of the page, as far as the tests ask."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._words: list[str] = []
        self._inside: str | None = None
        self.feed(html)
        self.text = " ".join("".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in self.raw else self._inside

    def handle_endtag(self, tag: str) -> None:
        self._inside = None if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        (self.raw[self._inside] if self._inside else self._words).append(data)

    def marked(self, name: str, **attributes: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name and attributes.items() <= attrs.items()]


def page(tmp_path: Path, outcomes: list[FeatureOutcome], report: JobReport | None = None) -> Page:
    return Page(source(tmp_path, outcomes, report))


def source(tmp_path: Path, outcomes: list[FeatureOutcome], report: JobReport | None = None) -> str:
    write_reports(report or job_report(), lambda: outcomes, tmp_path)
    return (tmp_path / PAGE).read_text(encoding="utf-8")


def test_hostile_texts_bring_no_element_and_no_attribute_into_the_page(tmp_path: Path) -> None:
    outcomes = hostile()
    calm = [o.model_copy(update={"reason": "x"}) if o.reason else o for o in outcomes]
    shown = page(tmp_path, outcomes, job_report(target_model=HOSTILE[0]))
    assert len(shown.marked("script")) == 1
    assert {tag for tag, _ in shown.tags} <= {tag for tag, _ in page(tmp_path, [*calm, explained(), concerning()]).tags}
    active = re.compile(r"^(on|style$|src$|action$|srcdoc$)")
    assert not [name for _, attrs in shown.tags for name in attrs if active.match(name)]
    assert "alert(1)" in shown.text


def test_characters_that_would_not_show_or_would_turn_the_text_are_made_visible(tmp_path: Path) -> None:
    shown = page(tmp_path, hostile())
    assert "control [U+0000][U+0007][U+001B][31m and [U+202E]turned[U+202C]" in shown.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown.text)


def test_the_policy_names_the_page_s_own_style_and_script_and_nothing_else(tmp_path: Path) -> None:
    shown = page(tmp_path, [explained()])
    (policy,) = shown.marked("meta", **{"http-equiv": "Content-Security-Policy"})

    def digest(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    style, script = ("".join(shown.raw[name]) for name in ("style", "script"))
    assert policy["content"] == f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; base-uri 'none'; form-action 'none'"


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    shown = page(tmp_path, [explained(), skipped(), concerning()])
    links = [attrs.get("href") or "" for _, attrs in shown.tags if "href" in attrs]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not [tag for tag, _ in shown.tags if tag in ("link", "img", "iframe", "object", "embed", "base")]
    assert not re.search(r"url\(|@import|fetch\(|innerHTML|eval\(", "".join(shown.raw["style"] + shown.raw["script"]))


def test_every_link_of_the_page_leads_to_something(tmp_path: Path) -> None:
    shown = page(tmp_path, [skipped("1"), concerning("2"), explained("3"), failed("4")])
    ids = {attrs["id"] for _, attrs in shown.tags if "id" in attrs}
    assert {(attrs["href"] or "")[1:] for _, attrs in shown.tags if "href" in attrs} <= ids


def test_the_sections_of_the_specification_stand_in_their_order(tmp_path: Path) -> None:
    html = source(tmp_path, [explained(), skipped()])
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", html)
    assert titles == [
        "Contents",
        "Executive Summary",
        "Feature Explanations",
        "Safety Assessment",
        "Business Insights",
        "Targets of the Specification",
        "Technical Details",
        "Skipped, Failed and Sent Again",
        "Methods and Versions",
        "Compliance Appendix",
    ]


def test_every_outcome_can_be_filtered_by_outcome_verdict_and_category(tmp_path: Path) -> None:
    shown = page(tmp_path, [explained("1"), skipped("2"), failed("3")])
    filtered = [(a["data-outcome"], a["data-verdict"], a["data-category"]) for _, a in shown.tags if "data-outcome" in a]
    assert filtered == [("explained", "confirmed", "technical"), ("failed", "", "technical"), ("skipped", "", "technical")]


def test_the_page_says_what_accuracy_means(tmp_path: Path) -> None:
    shown = page(tmp_path, [explained()])
    assert "Accuracy is the probability that this explanation belongs to this feature rather than to another of its find job." in shown.text
    assert "95% interval 0.50–0.80, 3 held-out texts" in shown.text


@pytest.mark.parametrize(("endpoint", "provider"), [("demonstration", "openai"), ("tiny", "demonstration")])
def test_the_demonstration_model_is_named_as_such(tmp_path: Path, endpoint: str, provider: str) -> None:
    banner = "Explanations by a 135M demonstration model: to show the machinery, not to be trusted."
    by_demonstration = Generation(model="SmolLM2", endpoint=endpoint, provider=provider, latency_s=1.0, finish_reason="stop")
    assert banner in page(tmp_path, [explained(generation=by_demonstration)]).text
    assert banner not in page(tmp_path, [explained()]).text


def test_the_peak_is_marked_only_where_the_source_says_where_it_is(tmp_path: Path) -> None:
    def marks(activation: Activation) -> list[str]:
        return re.findall(r"<mark>(.*?)</mark>", source(tmp_path, [explained(evidence=Evidence(seen=[activation]))]))

    assert marks(Activation(text="the cat saw the dog", tokens=["the", " cat", " saw", " the", " dog"], token_activations=[0, 0, 0, 2, 0])) == [" the"]
    assert marks(Activation(text="the cat", peak=" cat")) == [" cat"]
    assert marks(Activation(text="the cat and the dog", peak="the")) == []
    assert marks(Activation(text="the cat")) == []
    assert "peak token, place not given: the" in page(tmp_path, [explained(evidence=Evidence(seen=[Activation(text="the the", peak="the")]))]).text


def test_held_out_texts_are_told_from_those_that_the_explainer_saw(tmp_path: Path) -> None:
    html = source(tmp_path, [explained()])
    seen, held_out = html.split("Held out: no prompt showed this text")
    assert "a JSON schema" in seen
    assert "validate the schema" not in seen.rsplit("<details>", 1)[1]
    assert "validate the schema" in held_out.split("</details>", 1)[0]


def test_a_job_in_which_nothing_passed_says_so_with_the_distribution_and_the_flag(tmp_path: Path) -> None:
    low, high = skipped("1"), skipped("2")
    high = high.model_copy(update={"subject": high.subject.model_copy(update={"coherence_score": 0.3})})
    shown = page(tmp_path, [low, high])
    assert "No feature passed the coherence threshold. The coherence of 2 features lies between 0.10 and 0.30, median 0.20." in shown.text
    assert "--explain-poor" in shown.text
    assert shown.marked("svg", role="img")


def test_a_failure_among_skipped_features_is_not_blamed_on_the_threshold(tmp_path: Path) -> None:
    assert "No feature passed" not in page(tmp_path, [skipped("1"), failed("2")]).text


def test_an_incomplete_job_names_what_is_missing_on_the_page(tmp_path: Path) -> None:
    shown = page(tmp_path, [explained()], job_report(status=JobStatus.INCOMPLETE, expected=3, missing=["5", "6"]))
    assert "The job is incomplete. 1 of 3 features have an outcome. Without one: 5, 6." in shown.text


def test_a_component_without_a_value_says_why_instead_of_showing_a_zero(tmp_path: Path) -> None:
    html = source(tmp_path, [explained(accuracy=None, clarity=None, quality_score=None, unavailable={"accuracy": "no background", "clarity": "no rules"})])
    assert "accuracy not computed: no background" in Page(html).text
    assert "clarity not computed: no rules" in Page(html).text
    assert "<dt>mean quality</dt><dd>–</dd>" in html


def test_a_safety_finding_shows_the_words_and_the_text_they_stand_in(tmp_path: Path) -> None:
    html = source(tmp_path, [concerning()])
    finding = html[html.index('<li class="finding">') :]
    assert "weapons: <i" in finding
    assert "validate the schema" in finding.split("</ul>", 1)[0]


def test_the_page_works_for_a_job_without_any_outcome(tmp_path: Path) -> None:
    assert "The job has no outcome yet." in page(tmp_path, [], job_report(status=JobStatus.RUNNING, expected=None, wall_s=None, find_job_id=None)).text


def test_a_record_that_could_not_be_read_stands_among_the_failed(tmp_path: Path) -> None:
    unread = failed(None)
    unread = unread.model_copy(update={"subject": unread.subject.model_copy(update={"category": None, "category_source": None})})
    assert page(tmp_path, [unread]).marked("tr", **{"data-category": "unknown"})


def test_a_few_is_never_written_as_none_and_nearly_all_never_as_all() -> None:
    assert [share(0, 500), share(1, 500), share(250, 500), share(499, 500), share(500, 500), share(0, 0)] == ["0%", "under 1%", "50%", "over 99%", "100%", "–"]


def test_the_cost_analysis_tells_what_is_known_and_why_the_rest_is_not(tmp_path: Path) -> None:
    price = CloudPrice(model="gpt-x", input=2.5, output=10, as_of="2026-11-01", source="a price list")
    why = {"local_cost": "no electricity price is set", "savings_vs_openai": "no electricity price is set", "payback_months": "no hardware price is set"}
    costs = CostAnalysis(openai_cost=1.25, savings_vs_anthropic=-1.5, roi_break_even_features=1200, openai=price, unavailable=why)
    shown = page(tmp_path, [explained()], job_report(cost_analysis=costs)).text
    assert "the same tokens at OpenAI $1.25; saved against Anthropic –$1.50; features until the hardware has paid for itself 1,200" in shown
    assert "gpt-x: $2.50 and $10.00 per million tokens in and out on 2026-11-01" in shown
    assert "not known: electricity, saved against OpenAI (no electricity price is set)" in shown
    assert "not known: months until then (no hardware price is set)" in shown
