"""What a call to a model costs: by the settings' prices, else by the dated list that comes along; never by a guess.

Amounts are whole micro-dollars, rounded up, so that sums are exact and never too low.
"""

import math
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources

from pydantic import TypeAdapter

from mistudio_explain.llm.provider import ANSWER_SCHEMA, Call, Completion
from mistudio_explain.settings import PriceSettings

MICRO = 1_000_000
_TURN_TOKENS = 16
"""What a chat template puts round each turn, tokens; OpenAI's own count is 3 to 4."""
_ANSWER_FORM_TOKENS = len(repr(ANSWER_SCHEMA)) + 256
"""The schema of a structured answer, and what a provider says about it to the model, both at a token a byte."""


@cache
def listed_prices() -> tuple[PriceSettings, ...]:
    """The prices that come along (llm/prices.toml)."""
    text = (resources.files("mistudio_explain.llm") / "prices.toml").read_text(encoding="utf-8")
    return tuple(TypeAdapter(list[PriceSettings]).validate_python(tomllib.loads(text)["price"]))


def price_of(model: str, own: Sequence[PriceSettings]) -> PriceSettings | None:
    """The price of a model: the settings' `own` come first, then the list; None where neither has the model."""
    return next((price for price in (*own, *listed_prices()) if fnmatchcase(model, price.model)), None)


def cost_micro(price: PriceSettings, tokens_in: int, tokens_out: int, cached_tokens: int = 0) -> int:
    """What a call cost, micro-dollars. A cached token whose price is unknown counts as any other."""
    cached = min(cached_tokens, tokens_in)
    cached_price = price.input if price.cached is None else price.cached
    # dollars per million tokens are micro-dollars per token
    return math.ceil(round((tokens_in - cached) * price.input + cached * cached_price + tokens_out * price.output, 6))


def most_micro(price: PriceSettings, prompt_bytes: int, turns: int, max_tokens: int) -> int:
    """The most that one call can cost, micro-dollars: a token has at least one byte, and the answer at most `max_tokens`."""
    return cost_micro(price, prompt_bytes + turns * _TURN_TOKENS + _ANSWER_FORM_TOKENS, max_tokens)


def cost_of(call: Call, completion: Completion, price: PriceSettings) -> int:
    """What a finished call cost, micro-dollars; the most that it can have cost where the server did not count its tokens."""
    if completion.tokens_in is None or completion.tokens_out is None:
        return most_of(call, price)
    return cost_micro(price, completion.tokens_in, completion.tokens_out, completion.cached_tokens or 0)


def most_of(call: Call, price: PriceSettings) -> int:
    """The most that a call can cost before it is sent, micro-dollars."""
    return most_micro(price, sum(len(message.content.encode()) for message in call.messages), len(call.messages), call.max_tokens)
