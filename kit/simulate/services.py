"""What a request needs of a place: seconds, drawn or from a roofline; or an engine that writes tokens."""

from __future__ import annotations

import numpy as np

from kit import facts
from kit.simulate.draws import gamma, stream
from kit.simulate.llm import Speed
from kit.simulate.scenario import BYTES, Class, Tier, Wrong
from kit.simulate.workload import Requests

MEMORY = 0.9
"""Part of a device's memory that a model and its KV cache may fill."""


def tflops(tier: Tier) -> float:
    """Nominal arithmetic of a tier's device at its precision, in 10^12 operations per second.

    Where a data sheet is silent: FP16 is half of INT8, FP32 half of FP16, and 4-bit weights are multiplied in
    FP16 (ASSUMPTION: the usual ratios).

    Raises:
        Wrong: nothing is known.
    """
    device = facts.devices()[tier.device or ""]
    int8 = device.int8_tops_dense or (device.int8_tops_sparse or 0) / 2
    fp16 = device.fp16_tflops_dense or (2 * device.fp32_tflops if device.fp32_tflops else int8 / 2)
    known = {"int8": int8 or fp16, "fp16": fp16, "int4": fp16, "fp32": device.fp32_tflops or fp16 / 2}
    if not known[tier.precision]:
        raise Wrong("device", f"nobody knows the arithmetic of {device.id}: measure it and say service_ms.")
    return known[tier.precision]


def bandwidth_gb_s(tier: Tier) -> float:
    """Nominal memory bandwidth of a tier's device, in GB/s.

    Raises:
        Wrong: it is not known.
    """
    device = facts.devices()[tier.device or ""]
    if not device.bandwidth_gb_s:
        raise Wrong(
            "device", f"the memory bandwidth of {device.id} is not known: choose another, or service_ms."
        )
    return device.bandwidth_gb_s


def roofline_s(tier: Tier) -> float:
    """Seconds of one call: the slower of reading the weights and of calculating (Williams et al., 2009)."""
    assert tier.parameters
    assert tier.gflop
    read_s = tier.parameters * BYTES[tier.precision] / (1e9 * bandwidth_gb_s(tier) * tier.derate)
    calculate_s = tier.gflop / (1e3 * tflops(tier) * tier.derate)
    return tier.overhead_ms / 1000 + max(read_s, calculate_s)


def speed(tier: Tier) -> Speed:
    """What the calls of a tier's language model cost.

    A step reads all weights once and each row's keys and values; arithmetic is two operations per weight and
    token, and is not hidden behind the reading (so large batches come out a little too slow).
    """
    if tier.speed:
        return tier.speed
    model = facts.llms()[tier.llm or ""]
    reads_gb_s, tops = bandwidth_gb_s(tier) * tier.derate, tflops(tier) * tier.derate
    token_s = 2 * model.parameters / (1e12 * tops)
    weights_s = model.parameters * BYTES[tier.precision] / (1e9 * reads_gb_s)
    overhead_s = tier.overhead_ms / 1000
    return Speed(
        step_s=overhead_s + weights_s,
        row_s=token_s,
        context_s=kv_bytes(tier) / (1e9 * reads_gb_s),
        prompt_s=overhead_s + weights_s,
        token_s=token_s,
    )


def kv_bytes(tier: Tier) -> float:
    """Bytes of the KV cache for one token: keys and values of every layer, in FP16."""
    model = facts.llms()[tier.llm or ""]
    return 2 * 2 * model.layers * model.kv_heads * model.head_size


def kv_tokens(tier: Tier) -> float:
    """Tokens that a tier's engine can hold.

    Raises:
        Wrong: the weights alone do not fit.
    """
    if not tier.llm:
        return np.inf
    if tier.kv_gb is not None:
        return tier.kv_gb * 1e9 / kv_bytes(tier)
    device, model = facts.devices()[tier.device or ""], facts.llms()[tier.llm or ""]
    if device.memory_gb is None:
        return np.inf
    weights_gb = model.parameters * BYTES[tier.precision] / 1e9
    room_gb = MEMORY * device.memory_gb - weights_gb
    if room_gb <= 0:
        raise Wrong(
            "llm",
            f"{model.model} in {tier.precision} needs {weights_gb:.1f} GB, and {device.device} has "
            f"{device.memory_gb:g}: choose a lower precision or a smaller model.",
        )
    return room_gb * 1e9 / kv_bytes(tier)


def mean_s(tier: Tier, kind: Class) -> float:
    """Seconds that one request of a class needs there on average, alone."""
    if tier.writes:
        cost = speed(tier)
        grown = kind.prompt_tokens + kind.output_tokens / 2
        steps = max(kind.output_tokens - 1, 0)
        return (
            cost.prompt_s
            + cost.token_s * kind.prompt_tokens
            + steps * (cost.step_s + cost.row_s + cost.context_s * grown)
        )
    if tier.service_quantiles_ms:
        levels = np.array(tier.service_quantiles_ms)
        return kind.work * float((levels[1:] + levels[:-1]).mean()) / 2000
    return kind.work * (roofline_s(tier) if tier.device else (tier.service_ms or 0) / 1000)


def needs(
    name: str, tier: Tier, asked: Requests, work: np.ndarray, seed: int, chunk: int
) -> tuple[np.ndarray, ...]:
    """What requests need at a tier: for an engine three arrays of tokens, else one of seconds, each [n].

    Args:
        name: of the tier.
        work: of each request's class [n].
    """
    if tier.writes:
        prompt, output = np.maximum(asked.prompt_tokens, 1), np.maximum(asked.output_tokens, 1)
        return prompt, output, np.maximum(asked.max_tokens, output)
    if tier.service_quantiles_ms:
        u = stream(seed, f"service {name}", chunk).random(len(asked))
        known = np.array(tier.service_quantiles_ms)
        return (work * np.interp(u, np.linspace(0, 1, len(known)), known) / 1000,)
    drawn = gamma(stream(seed, f"service {name}", chunk), len(asked), tier.service_cv)
    mean_s = roofline_s(tier) if tier.device else (tier.service_ms or 0) / 1000
    return (work * drawn * mean_s,)
