"""What things cost: a second of a device, a token, a gigabyte, a kilowatt-hour, a gram of CO2.

Small pure functions that the simulator, the router and the chapter on cost share. Every name says
its unit. Money is in US dollars of the price's own date: nothing here knows inflation or tax.
"""

from __future__ import annotations

import math

SECONDS_PER_YEAR = 365.25 * 24 * 3600
JOULES_PER_KWH = 3.6e6
BYTES_PER_GB = 1e9


def _check(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must be >= 0, got {value}.")


def _check_utilisation(utilisation: float) -> None:
    if not 0 < utilisation <= 1:
        raise ValueError(
            f"utilisation must be above 0 and at most 1, got {utilisation}: it is the part of its life "
            "in which a device works. A device that never works has no cost per second of work."
        )


def energy_j(power_w: float, seconds: float) -> float:
    """Energy in joules of ``power_w`` watts for ``seconds``: 1 W for 1 s is 1 J."""
    _check(power_w=power_w, seconds=seconds)
    return power_w * seconds


def electricity_usd(energy_j: float, usd_per_kwh: float) -> float:
    """Price of ``energy_j`` joules."""
    _check(energy_j=energy_j, usd_per_kwh=usd_per_kwh)
    return energy_j / JOULES_PER_KWH * usd_per_kwh


def co2_g(energy_j: float, g_per_kwh: float) -> float:
    """Grams of CO2 of ``energy_j`` joules on a grid that emits ``g_per_kwh``.

    Use only: what it took to make the device is not in it.
    """
    _check(energy_j=energy_j, g_per_kwh=g_per_kwh)
    return energy_j / JOULES_PER_KWH * g_per_kwh


def owned_usd_per_busy_s(
    price_usd: float,
    life_years: float,
    utilisation: float,
    power_w: float,
    usd_per_kwh: float,
    idle_power_w: float = 0.0,
) -> float:
    """Cost of one second of work of a device that you own.

    The price is spread evenly over the device's life. Time in which it idles is paid by the seconds
    in which it works, so a device that works 1% of its life has seconds that are 100 times dearer.

    Args:
        price_usd: what it cost to buy.
        life_years: how long it is used, above 0.
        utilisation: part of that time in which it works, above 0 and at most 1.
        power_w: power while it works.
        usd_per_kwh: price of electricity.
        idle_power_w: power while it waits.
    """
    _check(price_usd=price_usd, power_w=power_w, usd_per_kwh=usd_per_kwh, idle_power_w=idle_power_w)
    _check_utilisation(utilisation)
    if not life_years > 0:
        raise ValueError(f"life_years must be > 0, got {life_years}.")
    hardware_usd = price_usd / (life_years * SECONDS_PER_YEAR * utilisation)
    idle_s_per_busy_s = (1 - utilisation) / utilisation
    joules = power_w + idle_power_w * idle_s_per_busy_s
    return hardware_usd + electricity_usd(joules, usd_per_kwh)


def rented_usd_per_busy_s(usd_per_hour: float, utilisation: float) -> float:
    """Cost of one second of work of a rented machine: idle hours are paid too."""
    _check(usd_per_hour=usd_per_hour)
    _check_utilisation(utilisation)
    return usd_per_hour / 3600 / utilisation


def api_usd(
    prompt_tokens: float, output_tokens: float, input_usd_per_mtok: float, output_usd_per_mtok: float
) -> float:
    """Price of one call to a model that is paid per token. Prices are per million tokens."""
    _check(prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    _check(input_usd_per_mtok=input_usd_per_mtok, output_usd_per_mtok=output_usd_per_mtok)
    return (prompt_tokens * input_usd_per_mtok + output_tokens * output_usd_per_mtok) / 1e6


def usd_per_mtok(usd_per_busy_s: float, tokens_per_s: float) -> float:
    """Cost of a million tokens on a machine that makes ``tokens_per_s`` (all streams together)."""
    _check(usd_per_busy_s=usd_per_busy_s)
    if not tokens_per_s > 0:
        raise ValueError(f"tokens_per_s must be > 0, got {tokens_per_s}.")
    return usd_per_busy_s / tokens_per_s * 1e6


def transfer_usd(payload_bytes: float, usd_per_gb: float) -> float:
    """Price of moving bytes over a network that is paid per gigabyte (1 GB = 1e9 bytes)."""
    _check(payload_bytes=payload_bytes, usd_per_gb=usd_per_gb)
    return payload_bytes / BYTES_PER_GB * usd_per_gb


def break_even_requests(fixed_usd: float, own_usd_per_request: float, call_usd_per_request: float) -> float:
    """Number of requests from which owning is cheaper than paying per call.

    Owning costs ``fixed_usd`` first and then ``own_usd_per_request`` for each; calling costs
    ``call_usd_per_request`` for each. All three belong to the same span of time (a month, a life).

    Returns:
        The number of requests in that span at which both cost the same; ``inf`` if a call is not
        dearer than an answer of one's own, because then owning never pays for itself.
    """
    _check(fixed_usd=fixed_usd, own_usd_per_request=own_usd_per_request)
    _check(call_usd_per_request=call_usd_per_request)
    saved_usd = call_usd_per_request - own_usd_per_request
    return fixed_usd / saved_usd if saved_usd > 0 else math.inf
