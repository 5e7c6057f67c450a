"""How much of a prompt a server need not read again: the tokens that it begins with and shares with the prompt before it.

Counted, not timed: llama.cpp's server renders the real prompts of one lane with its chat template and cuts them into tokens, and what two have in
common at their beginning is what a slot that read the first keeps for the second.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise, takewhile
from statistics import mean

import httpx

from benchmarks.llm.servers import SLOTS, llama_cpp
from benchmarks.llm.workload import SETS
from benchmarks.table import print_table
from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.policy import ContextPolicy
from mistudio_explain.context.prompt import Templates
from mistudio_explain.context.stage import build
from mistudio_explain.evaluation.data import read_set
from mistudio_explain.events.explanation import ExplanationRequested, Prompt
from mistudio_explain.events.feature import JobRequest
from mistudio_explain.settings import ContextSettings, QualitySettings

FEATURES = 60
"""Of each source, in the order of its file."""
Tokens = tuple[int, ...]


def prompts(source: str, features: int) -> list[Prompt]:
    """As the context stage makes them where nothing is asked for: the template by each feature's category."""
    policy = ContextPolicy.of(ContextSettings(), QualitySettings(explain_poor=True), Routing())
    templates, made = Templates.load(), []
    for known in islice(read_set(SETS / f"{source}.jsonl.gz").features, features):
        asked = JobRequest(explain_job_id="explain_bench", explain_poor=True, expected=features)
        request = build(known.feature.model_copy(update={"request": asked}), policy, templates, None)
        if isinstance(request, ExplanationRequested):  # one without a word in its texts is skipped
            made.append(request.prompt)
    return made


class Tokenizer:
    """The server's own: its chat template, then its vocabulary."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url.removesuffix("/v1"), trust_env=False, timeout=60)

    def __call__(self, prompt: Prompt) -> Tokens:
        messages = [message.model_dump() for message in prompt.messages]
        text = self._posted("/apply-template", {"messages": messages})["prompt"]
        return tuple(self._posted("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"])

    def _posted(self, path: str, body: dict[str, object]) -> dict[str, list[int]]:
        answer = self._client.post(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())


def shared(first: Tokens, second: Tokens) -> int:
    """Tokens that two prompts begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def kept(lane: Sequence[Tokens], slots: int) -> Iterator[float]:
    """The share of each prompt that the best of the slots has read, when each reads the next one in turn; the first of each slot is left out."""
    read: deque[Tokens] = deque(maxlen=slots)
    for tokens in lane:
        if len(read) == slots:
            yield max(shared(before, tokens) for before in read) / len(tokens)
        read.append(tokens)


def main(features: int = FEATURES) -> None:
    by_template: dict[str, list[Tokens]] = defaultdict(list)
    rows = []
    with llama_cpp(slots=1) as served:
        tokenized = Tokenizer(served.url)
        for path in sorted(SETS.glob("*.jsonl.gz")):
            source = path.name.removesuffix(".jsonl.gz")
            lane = [(f"{prompt.template}@{prompt.version}", tokenized(prompt)) for prompt in prompts(source, features)]
            for template, tokens in lane:
                by_template[template].append(tokens)
            names = [template for template, _ in lane]
            changes = sum(one != other for one, other in pairwise(names)) / max(1, len(names) - 1)
            all_tokens = [tokens for _, tokens in lane]
            of_one, of_all = (mean(kept(all_tokens, slots)) for slots in (1, SLOTS))
            rows.append([source, str(len(lane)), f"{mean(map(len, all_tokens)):.0f}", f"{changes:.2f}", f"{of_one:.2f}", f"{of_all:.2f}"])
    titles = ("source", "prompts", "tokens, mean", "next has another template", "kept by one slot", f"kept by the best of {SLOTS}")
    print_table(f"The beginning that prompts of one lane share, the first {features} features of each source", titles, rows)
    rows = [
        [template, str(len(found)), f"{mean(map(len, found)):.0f}", f"{mean(map(shared, found, found[1:])):.0f}"]
        for template, found in sorted(by_template.items())
        if len(found) > 1
    ]
    print_table("By template", ("template", "prompts", "tokens, mean", "of which shared with the one before"), rows)


if __name__ == "__main__":
    main()
