"""Prompts in scripts of many tokens a character, at real servers: the estimate, the budget, and one shorter try."""

import random
from dataclasses import replace

import httpx
import pytest

from integration.llm_servers import CONTEXT_TOKENS, live_endpoint
from integration.real_ollama import RealOllama
from mistudio_explain.context.explainers import Routing
from mistudio_explain.context.serving import SURE, routing_by
from mistudio_explain.context.stage import build
from mistudio_explain.context.tokens import estimated_tokens
from mistudio_explain.events.explanation import ExplanationRequested
from mistudio_explain.generation.adapting import shortening
from mistudio_explain.generation.explainer import Explainer, GivenUp, call_for
from mistudio_explain.llm.answers_cache import MemoryAnswers
from mistudio_explain.llm.demonstration import Demonstration
from mistudio_explain.llm.endpoints import Endpoints
from mistudio_explain.settings import ContextSettings, GenerationSettings, LlmSettings, Settings
from unit.context.finding import TEMPLATES, found, policy

LLM = LlmSettings(context_tokens=768, max_tokens=16)
BURMESE = "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် လည်းကောင်း၊ တူညီလွတ်လပ်သော အခွင့်အရေးများဖြင့် လည်းကောင်း မွေးဖွားလာသူများ ဖြစ်သည်။ "
EMOJI = "🐕‍🦺🦴🎾 👍🏽 🇲🇲🔥🫠 "
SCRIPTS = {
    "English": "The feature fires on words that describe the weather, such as rain, snow and wind, in newspaper articles about storms. ",
    "German": "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller staatlichen Gewalt. ",
    "Russian": "Все люди рождаются свободными и равными в своём достоинстве и правах. ",
    "Arabic": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. ",
    "Bengali": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। ",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ",
    "Burmese": BURMESE,
    "Chinese": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. ",
    "emoji": EMOJI,
    "numbers": "4711 0815 3.14159265 1234567890 2024-05-01 12:30:55 192.168.0.1 ",
    "code": "def f(x: int) -> dict[str, list[int]]:\n    return {k: [v] for k, v in zip(a, b) if v != 0}\n",
}


async def test_the_estimate_is_not_below_the_count_of_a_small_vocabulary_and_not_far_above() -> None:
    demonstration = await Demonstration.start(1)
    tokenize = str(demonstration._servers[0].client._client.base_url).removesuffix("/v1/") + "/tokenize"
    try:
        async with httpx.AsyncClient() as client:
            counted = {script: len((await client.post(tokenize, json={"content": text * 5})).json()["tokens"]) for script, text in SCRIPTS.items()}
    finally:
        await demonstration.close()
    ratios = {script: round(estimated_tokens(text * 5) / counted[script], 2) for script, text in SCRIPTS.items()}
    assert {script: ratio for script, ratio in ratios.items() if not SURE <= ratio <= 2} == {}, ratios


def asked(text: str, routing: Routing, **context: object) -> ExplanationRequested:
    """A request about 12 texts that share their characters and nothing else."""
    texts = ["".join(random.Random(place).sample(text * 6, 6 * len(text))) for place in range(12)]
    event = build(found(*texts), policy(routing=routing, template="spec-general@1", **context), TEMPLATES, None)  # type: ignore[arg-type]
    assert isinstance(event, ExplanationRequested)
    return event


@pytest.mark.ollama
@pytest.mark.parametrize("text", [BURMESE, EMOJI], ids=["Burmese", "emoji"])
async def test_a_prompt_within_the_budget_of_the_server_s_context_is_taken(text: str, ollama: RealOllama) -> None:
    async with live_endpoint("ollama", ollama) as endpoint:
        routing = routing_by(Settings(llm=LLM), Endpoints([endpoint], rng=random.Random(1)))()
        request = asked(text, routing, prompt_tokens=20_000)
        assert any(flag.startswith("evidence_trimmed:") for flag in request.flags)
        call = call_for(request.prompt, endpoint.models[0], LLM)
        completion = await endpoint.provider.complete(replace(call, max_tokens=1))
        assert completion.tokens_in is not None
        assert LLM.context_tokens / 3 < completion.tokens_in < LLM.context_tokens - LLM.max_tokens


@pytest.mark.ollama
@pytest.mark.parametrize("kind", ["ollama", "demonstration"])
async def test_a_prompt_that_a_real_server_refuses_as_too_long_is_shortened_and_asked_once_more(kind: str, ollama: RealOllama) -> None:
    context_tokens = LLM.context_tokens if kind == "ollama" else CONTEXT_TOKENS
    async with live_endpoint(kind, ollama) as endpoint:
        request = asked(BURMESE, Routing(), prompt_tokens=int(1.4 * context_tokens))
        rng, generation = random.Random(1), GenerationSettings(attempts=1, retry_wait_s=0)
        explainer = Explainer(Endpoints([endpoint], rng=rng), MemoryAnswers(), LLM, generation, rng, shorten=shortening(ContextSettings()))
        with pytest.raises(GivenUp) as caught:  # the answer is cut, so that the test is short: but a prompt that fits was asked
            await explainer.draft(request)
    assert [failed.kind for failed in caught.value.tries] == ["truncated"]
    (failed,) = caught.value.tries
    assert failed.completion is not None
    assert failed.completion.tokens_in is not None
    assert failed.completion.tokens_in < context_tokens
