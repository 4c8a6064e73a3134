"""What things cost, against numbers worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import economics as e

positive = st.floats(1e-3, 1e6)


def test_energy_money_and_carbon_of_a_kilowatt_hour():
    joules = e.energy_j(power_w=1000, seconds=3600)
    assert joules == 3.6e6
    assert e.electricity_usd(joules, usd_per_kwh=0.12) == pytest.approx(0.12)
    assert e.co2_g(joules, g_per_kwh=270) == pytest.approx(270)


def test_a_device_that_always_works():
    # 249 USD over 4 years of 365.25 days, and 25 W at 0.12 USD/kWh
    hardware = 249 / (4 * 365.25 * 86400)
    power = 25 / 3.6e6 * 0.12
    got = e.owned_usd_per_busy_s(249, 4, utilisation=1, power_w=25, usd_per_kwh=0.12)
    assert got == pytest.approx(hardware + power)
    assert got == pytest.approx(2.8059e-6, rel=1e-4)


def test_a_device_that_works_one_second_in_a_hundred():
    always = e.owned_usd_per_busy_s(249, 4, 1, power_w=0, usd_per_kwh=0.12)
    seldom = e.owned_usd_per_busy_s(249, 4, 0.01, power_w=0, usd_per_kwh=0.12)
    assert seldom == pytest.approx(100 * always)
    # 99 idle seconds of 5 W for each busy second of 15 W
    got = e.owned_usd_per_busy_s(0, 4, 0.01, power_w=15, usd_per_kwh=0.36, idle_power_w=5)
    assert got == pytest.approx((15 + 99 * 5) * 1e-7)


@given(positive, st.floats(0.01, 1), positive, positive)
def test_the_seconds_of_a_life_pay_for_the_device(price, utilisation, busy_w, idle_w):
    """All busy seconds together cost the price and all the electricity of the life: nothing is lost."""
    years, usd_per_kwh = 3, 0.2
    life_s = years * e.SECONDS_PER_YEAR
    per_s = e.owned_usd_per_busy_s(price, years, utilisation, busy_w, usd_per_kwh, idle_w)
    joules = life_s * (utilisation * busy_w + (1 - utilisation) * idle_w)
    assert per_s * life_s * utilisation == pytest.approx(price + joules / 3.6e6 * usd_per_kwh)


def test_a_rented_machine_is_paid_while_it_waits():
    assert e.rented_usd_per_busy_s(usd_per_hour=0.36, utilisation=1) == pytest.approx(1e-4)
    assert e.rented_usd_per_busy_s(usd_per_hour=0.36, utilisation=0.1) == pytest.approx(1e-3)


def test_tokens_and_bytes():
    # 1000 tokens in at 0.15 and 200 out at 0.60 USD per million
    assert e.api_usd(1000, 200, 0.15, 0.60) == pytest.approx(0.00015 + 0.00012)
    assert e.usd_per_mtok(usd_per_busy_s=2.8e-6, tokens_per_s=28) == pytest.approx(0.1)
    assert e.transfer_usd(payload_bytes=50_000_000, usd_per_gb=6) == pytest.approx(0.3)


def test_break_even_by_hand():
    # a box of 249 USD, 0.00001 USD per answer, against a call of 0.00026: 249 / 0.00025
    assert e.break_even_requests(249, 1e-5, 2.6e-4) == pytest.approx(996_000)
    assert e.break_even_requests(249, 3e-4, 2.6e-4) == math.inf
    assert e.break_even_requests(0, 0, 1) == 0


@given(positive, positive, positive)
def test_at_break_even_both_cost_the_same(fixed, own, saved):
    n = e.break_even_requests(fixed, own, own + saved)
    assert fixed + n * own == pytest.approx(n * (own + saved), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: e.energy_j(-1, 1), "power_w must be >= 0, got -1"),
        (lambda: e.co2_g(math.nan, 1), "energy_j must be >= 0, got nan"),
        (lambda: e.owned_usd_per_busy_s(1, 1, 0, 1, 1), "utilisation must be above 0 and at most 1, got 0"),
        (lambda: e.rented_usd_per_busy_s(1, 40), "utilisation must be above 0 and at most 1, got 40"),
        (lambda: e.owned_usd_per_busy_s(1, 0, 1, 1, 1), "life_years must be > 0"),
        (lambda: e.usd_per_mtok(1, 0), "tokens_per_s must be > 0"),
    ],
)
def test_values_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
