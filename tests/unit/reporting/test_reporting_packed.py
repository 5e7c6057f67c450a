"""What the page of a large job keeps packed until it is opened."""

import base64
import hashlib
import io
import re
import zlib
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest
from reporting_samples import HOSTILE, concerning, explained, failed, hostile, job_report, skipped

from mistudio_explain.events.explanation import Evidence, FeatureOutcome
from mistudio_explain.events.feature import Activation
from mistudio_explain.reporting import page as pages
from mistudio_explain.reporting.cards import card_of
from mistudio_explain.reporting.page import write_page
from mistudio_explain.reporting.spool import CARDS_PER_CHUNK
from mistudio_explain.reporting.survey import survey


def written(outcomes: list[FeatureOutcome], *, whole_up_to: int = 0) -> str:
    out = io.BytesIO()
    write_page(out, job_report(), survey(outcomes), iter(outcomes), whole_up_to=whole_up_to)
    return out.getvalue().decode()


def unpacked(html: str) -> list[Any]:
    chunks = re.findall(r'<script type="text/plain" id="d(\d+)">(.*?)</script>', html)
    assert [int(number) for number, _ in chunks] == list(range(len(chunks)))
    return [card for _, chunk in chunks for card in orjson.loads(zlib.decompress(base64.b64decode(chunk), -zlib.MAX_WBITS))]


def test_every_explained_feature_is_packed_as_it_is_worded(tmp_path: Any) -> None:
    outcomes = [explained("1"), skipped("2"), concerning("3"), failed("4"), *hostile()]
    cards = [card_of(position, outcome) for position, outcome in enumerate(outcomes, 1) if outcome.outcome == "explained"]
    assert unpacked(written(outcomes)) == orjson.loads(orjson.dumps(cards))


def test_every_card_names_the_chunk_that_holds_the_rest_of_it() -> None:
    html = written([explained(str(i)) for i in range(CARDS_PER_CHUNK + 1)])
    named = [int(number) for number in re.findall(r'data-chunk="(\d+)"', html)]
    assert named == [0] * CARDS_PER_CHUNK + [1]
    assert [card["position"] for card in unpacked(html)] == list(range(1, CARDS_PER_CHUNK + 2))


def test_a_small_job_packs_nothing_and_a_large_one_writes_no_card_whole() -> None:
    outcomes = [explained(str(i)) for i in range(3)]
    assert unpacked(written(outcomes, whole_up_to=3)) == []
    assert "validate the schema" in written(outcomes, whole_up_to=3)
    assert "validate the schema" not in written(outcomes, whole_up_to=2)


def test_no_hostile_text_of_a_packed_card_is_text_of_the_page() -> None:
    class Blocks(HTMLParser):
        scripts = 0

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.scripts += tag == "script"

    html = written([explained("1", evidence=Evidence(seen=[Activation(text="calm"), *(Activation(text=text, context=text) for text in HOSTILE)]))])
    blocks = Blocks()
    blocks.feed(html)
    assert blocks.scripts == 2  # the page's own, and one chunk
    assert "onerror" not in html


def test_the_same_large_job_gives_the_same_bytes() -> None:
    outcomes = [explained(str(i)) for i in range(250)]
    assert hashlib.sha256(written(outcomes).encode()).digest() == hashlib.sha256(written(list(outcomes)).encode()).digest()


def test_the_more_texts_a_job_has_the_shorter_are_their_excerpts(monkeypatch: pytest.MonkeyPatch) -> None:
    def longest(texts: int, letter: str) -> int:
        evidence = Evidence(seen=[Activation(text=letter * 400)] * texts)
        return max(len(text["after"]) for card in unpacked(written([explained("1", evidence=evidence)])) for text in card["seen"])

    monkeypatch.setattr(pages, "_PACKED_BYTES", 4_000)
    few, many, wide = longest(10, "a"), longest(40, "a"), longest(10, "あ")
    assert few > wide > many >= 40  # the letters of one take three bytes each


def test_a_packed_excerpt_keeps_the_peak_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_PACKED_BYTES", 10)
    evidence = Evidence(seen=[Activation(text="a" * 500 + "PEAK" + "b" * 500, peak="PEAK")])
    (card,) = unpacked(written([explained("1", evidence=evidence)]))
    assert card["seen"][0]["peak"] == "PEAK"
    before, after = card["seen"][0]["before"].removeprefix("… "), card["seen"][0]["after"].removesuffix(" …")
    assert len(before + "PEAK" + after) <= 40
