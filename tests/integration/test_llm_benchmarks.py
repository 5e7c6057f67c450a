"""The benchmarks of the LLM fleet run, and print what they promise."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from benchmarks.llm import batching, delphi, prefix, repeatability, spec_hardware, throughput, workload
from benchmarks.llm.servers import Served

from integration.slow_llm import SlowLlm

FAST_S = 0.02


@contextmanager
def fast_server() -> Iterator[Served]:
    with SlowLlm(FAST_S) as server:
        yield Served("openai", server.url, "fake", 4)


def rows_of(printed: str) -> dict[str, list[str]]:
    """The cells behind the first of each row of a table."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in cells}


def test_throughput_compares_our_path_with_a_plain_client_and_with_prompts_that_share_no_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    throughput.compare("a fake", fast_server, features=2, runs=1)
    rows = rows_of(capsys.readouterr().out)
    assert [rows[contender][2:] for contender in (throughput.PLAIN, throughput.OURS, throughput.REVERSED)] == [["100", "30"]] * 3
    ratio = rows[f"{throughput.OURS} ÷ {throughput.PLAIN} (goal ≥ 0.97)"][0]
    assert float(ratio.split()[0]) > 0


def test_prompts_with_the_part_that_differs_first_have_the_same_words_and_no_instructions_in_common_at_the_beginning() -> None:
    asked = workload.requests(2)
    turned = [throughput.variable_first(request) for request in asked]
    beginnings = [request.prompt.messages[0].content for request in asked]
    assert beginnings[0] == beginnings[1]
    evidence = [request.prompt.messages[0].content for request in turned]
    assert evidence[0][:30] != evidence[1][:30]
    for before, after in zip(asked, turned, strict=True):
        assert sorted(message.content for message in before.prompt.messages) == sorted(message.content for message in after.prompt.messages)
        assert before.prompt.sha256 != after.prompt.sha256


def test_what_a_slot_keeps_of_the_next_prompt_is_what_both_begin_with() -> None:
    lane = [(1, 2, 3, 4), (1, 2, 9, 9), (7, 2, 9, 9), (1, 2, 9, 5)]
    assert list(prefix.kept(lane, 1)) == [0.5, 0.0, 0.0]
    assert list(prefix.kept(lane, 2)) == [0.0, 0.75]


def test_repeatability_is_measured_on_a_real_llama_cpp(capsys: pytest.CaptureFixture[str]) -> None:
    repeatability.main(1, 1, ("llama.cpp",))
    printed = capsys.readouterr().out
    assert re.search(r"\| llama.cpp \| one at a time \| 1.00 \| 1.00 \|", printed)
    assert re.search(r"\| llama.cpp \| both \| [01].00 \| [01].00 \|", printed)


def test_batching_counts_what_shared_calls_lack_and_asks_for_it_singly(capsys: pytest.CaptureFixture[str]) -> None:
    batching.main(4, (1, 2), fast_server)
    rows = rows_of(capsys.readouterr().out)
    assert rows["1"][1:] == ["1", "4", "-", "-", "-", "4 of 4"]
    assert rows["2"][1:] == ["2", "6", "1.00", "0.00", "0.00", "4 of 4"]  # the server answers each shared call as if it were about one feature


def test_delphi_is_shown_the_windows_that_our_prompt_shows_round_their_strongest_token() -> None:
    (request,) = workload.requests(1, workload.PYTHIA)
    examples = delphi.examples_of(request)
    assert len(examples) == len(request.evidence.seen)
    for example, activation in zip(examples, request.evidence.seen, strict=True):
        assert len(example["tokens"]) == len(example["activations"]) == min(delphi.WINDOW, len(activation.tokens or ()))
        assert max(example["activations"]) == max(activation.token_activations or ())
        assert "".join(example["tokens"]) in "".join(activation.tokens or ())


def test_the_specifications_targets_are_simulated_and_said_to_be_unmeasured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_hardware, "SCALE", 0.02)
    spec_hardware.main(8, 2)
    rows = rows_of(capsys.readouterr().out)
    assert rows["> 98 % of the features processed"][0] == "100.0 %"
    assert rows["2 to 4 explanations at once"][0] == "4: 2 and 2"
    assert {row[1] for row in rows.values()} == {"measured", "---", spec_hardware.UNMEASURED}
