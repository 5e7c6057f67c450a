"""The cost analysis for any job: its figures are those of its inputs, and what is not known is absent with a reason."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mistudio_explain.events.job import CloudPrice
from mistudio_explain.reporting.cost import Circumstances, Used, analysed

FIGURES = ("local_cost", "openai_cost", "anthropic_cost", "savings_vs_openai", "savings_vs_anthropic", "roi_break_even_features", "payback_months")
amounts = st.floats(min_value=0, max_value=1e6)
maybe = st.none() | amounts
prices = st.builds(CloudPrice, model=st.just("m"), input=st.floats(0, 1000), output=st.floats(0, 1000), as_of=st.just("2026-01-01"), source=st.just("s"))
used = st.builds(Used, features=st.integers(0, 10**6), seconds=maybe, tokens_in=st.integers(0, 10**10), tokens_out=st.integers(0, 10**9))
known = st.builds(
    Circumstances,
    watts=maybe,
    watts_source=st.none(),
    electricity_usd_per_kwh=maybe,
    hardware_usd=maybe,
    features_per_month=st.none() | st.floats(min_value=1e-3, max_value=1e9),
    openai=st.none() | prices,
    anthropic=st.none() | prices,
)


@given(used, known)
def test_every_figure_is_there_or_says_why_not(job: Used, around: Circumstances) -> None:
    analysis = analysed(job, around)
    for name in FIGURES:
        assert (getattr(analysis, name) is None) == (name in analysis.unavailable)
        assert analysis.unavailable.get(name, "why") != ""


@given(used, known)
def test_savings_are_what_the_cloud_costs_less_the_electricity_and_break_even_pays_the_hardware(job: Used, around: Circumstances) -> None:
    analysis = analysed(job, around)
    if analysis.savings_vs_openai is not None:
        assert analysis.openai_cost is not None
        assert analysis.local_cost is not None
        assert math.isclose(analysis.savings_vs_openai, analysis.openai_cost - analysis.local_cost)
    if analysis.roi_break_even_features is not None:
        assert analysis.savings_vs_openai is not None
        assert around.hardware_usd is not None
        assert analysis.savings_vs_openai > 0
        saved = analysis.roi_break_even_features * analysis.savings_vs_openai / job.features
        assert saved >= around.hardware_usd * (1 - 1e-9)


@given(used, known, st.floats(1, 100))
def test_twice_the_time_is_twice_the_electricity(job: Used, around: Circumstances, times: float) -> None:
    once = analysed(job, around).local_cost
    longer = Used(job.features, None if job.seconds is None else job.seconds * times, job.tokens_in, job.tokens_out)
    more = analysed(longer, around).local_cost
    assert (once is None) == (more is None)
    if once is not None and more is not None:
        assert math.isclose(more, once * times, rel_tol=1e-9, abs_tol=1e-12)


def test_the_specifications_own_example_computed_right() -> None:
    """1,000 features of 0.8 s on 350 W + 320 W at $0.10 a kWh: 800 s are 0.22 h, which cost 1.5 cents and not $8.93."""
    job = Used(features=1000, seconds=800.0, tokens_in=100_000, tokens_out=50_000)
    price = CloudPrice(model="m", input=30.0, output=30.0, as_of="2026-01-01", source="the specification: $0.03 per 1,000 tokens")
    around = Circumstances(
        watts=670.0, watts_source="settings", electricity_usd_per_kwh=0.1, hardware_usd=2000.0, features_per_month=10_000.0, openai=price, anthropic=None
    )
    analysis = analysed(job, around)
    assert analysis.local_cost is not None
    assert math.isclose(analysis.local_cost, 800 / 3600 * 0.67 * 0.1)
    assert analysis.openai_cost == 4.5
    assert analysis.roi_break_even_features == math.ceil(2000 / ((4.5 - analysis.local_cost) / 1000))
    assert analysis.payback_months is not None
    assert math.isclose(analysis.payback_months, analysis.roi_break_even_features / 10_000)
    assert analysis.unavailable.keys() == {"anthropic_cost", "savings_vs_anthropic"}
