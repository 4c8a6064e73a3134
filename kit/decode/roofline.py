"""How fast can it be? Bytes and operations of a token, against what the machine can read and multiply.

After Williams, Waterman and Patterson 2009, "Roofline": the time is at least what the bytes take to read,
and at least what the operations take to do; whichever is longer is the limit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kit import facts
from kit.engine import Engine, session
from kit.measure import fastest, read_gb_s

PAUSE_S = 0.03
BITS_PER_WEIGHT = 4.5  # 4-bit codes in blocks of 32, each with a scale of 16 bits


@dataclass(frozen=True)
class Work:
    """What a piece of work needs.

    Attributes:
        operations: multiplications and additions.
        bytes: read from memory.
        seconds: that it took; NaN if it was not measured.
    """

    operations: float
    bytes: float
    seconds: float = float("nan")

    @property
    def intensity(self) -> float:
        """Operations per byte read."""
        return self.operations / self.bytes

    @property
    def gops(self) -> float:
        """10^9 operations a second, as measured."""
        return self.operations / self.seconds / 1e9

    @property
    def gb_s(self) -> float:
        """10^9 bytes a second, as measured."""
        return self.bytes / self.seconds / 1e9


def weights(path: Path) -> tuple[int, int]:
    """Of a fused decoder: numbers that a token is multiplied with, and bytes that are read for them.

    Every matrix counts once. A table in which only rows are looked up counts for nothing: a token needs one
    row. Where the table of words is the last layer's matrix, too, all of it is read.
    """
    model = onnx.load(path)
    looked_up = {n.input[0] for n in model.graph.node if n.op_type == "Gather"}
    looked_up -= {i for n in model.graph.node if n.op_type != "Gather" for i in n.input}
    unread = looked_up | {"cos_cache", "sin_cache"}
    sizes = {t.name: (int(np.prod(t.dims)), len(t.raw_data)) for t in model.graph.initializer}
    numbers = 0
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            shape = {a.name: a.i for a in node.attribute}
            numbers += shape["K"] * shape["N"]
        elif node.op_type in ("MatMul", "Gemm"):
            numbers += sizes[node.input[1]][0]
    read = sum(nbytes for name, (_, nbytes) in sizes.items() if name not in unread)
    return numbers, read


def work_of(path: Path, tokens: int = 1, seconds: float = float("nan")) -> Work:
    """Reading ``tokens`` tokens in one call: weights are read once for all of them.

    Args:
        path: of a fused decoder.
        seconds: that it took.
    """
    numbers, read = weights(path)
    return Work(2 * numbers * tokens, read, seconds)


def kernel_gops(bits: int, rows: int = 1, seconds: float = 0.3) -> float:
    """10^9 operations a second of ONNX Runtime's matrix product when the weights need not come from memory.

    Sixteen products in a row use one matrix of 576 x 576 over and over, so it stays in the nearest cache:
    what is left is arithmetic, and the start of each product.

    Args:
        bits: of a weight: 32 (``MatMul``), 8 or 4 (``MatMulNBits``).
        rows: tokens at once.
    """
    size, links, block = 576, 16, 32
    rng = np.random.default_rng(0)
    if bits == 32:
        constants = {"w": rng.normal(0, 0.04, (size, size)).astype(np.float32)}
        kind: dict[str, Any] = {"op_type": "MatMul"}
    else:
        constants = {
            "w": rng.integers(0, 256, (size, size // block, block * bits // 8), np.uint8),
            "scale": np.full(size * size // block, 0.04 / 2 ** (bits - 1), np.float32),
        }
        kind = {"op_type": "MatMulNBits", "domain": "com.microsoft", "K": size, "N": size}
        kind |= {"bits": bits, "block_size": block, "accuracy_level": 4}
    nodes = [
        helper.make_node(inputs=[f"x{i}", *constants], outputs=[f"x{i + 1}"], **kind) for i in range(links)
    ]
    ends = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, [rows, size]) for i in (0, links)]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    opened = session(model.SerializeToString())
    x = {"x0": rng.normal(size=(rows, size)).astype(np.float32)}
    return 2 * rows * size * size * links / fastest(lambda: opened.run(None, x), seconds) / 1e9


@dataclass(frozen=True)
class Near:
    """How near decoding comes to what memory allows: measured in turn, as often as there are rounds.

    Attributes:
        bytes: read for a token.
        operations: of a token.
        token_ms: time of a token in each round, [rounds].
        roof_gb_s: reading speed of as many bytes with as many threads, right after it, [rounds].
    """

    bytes: float
    operations: float
    token_ms: np.ndarray
    roof_gb_s: np.ndarray

    @property
    def work(self) -> Work:
        """One token, with its median time."""
        return Work(self.operations, self.bytes, float(np.median(self.token_ms)) / 1000)

    @property
    def percent(self) -> tuple[float, float, float]:
        """Of the reading speed: median of the rounds, and its 95% bootstrap interval. Above 100 means that
        the roof was measured wrongly."""
        each = 100 * self.bytes / self.token_ms / 1e6 / self.roof_gb_s
        draws = np.median(np.random.default_rng(0).choice(each, (2000, len(each))), axis=1)
        low, high = np.percentile(draws, [2.5, 97.5])
        return float(np.median(each)), float(low), float(high)

    @property
    def limit(self) -> float:
        """Tokens a second if reading were all that takes time."""
        return float(np.median(self.roof_gb_s)) * 1e9 / self.bytes


def bound_by_memory(near: Near, kernel_gops: float) -> bool:
    """True if memory allows fewer tokens a second than arithmetic."""
    return near.limit < kernel_gops * 1e9 / near.operations


def near_the_roof(
    engines: Mapping[str, Engine], read: Mapping[str, tuple[int, int]], rounds: int = 12, tokens: int = 16
) -> dict[str, Near]:
    """Decode and read memory in turn, so that both meet the same machine.

    Args:
        engines: name -> engine.
        read: name -> numbers and bytes of its weights, from ``weights``.
        rounds: each decodes ``tokens`` tokens with every engine, and reads memory at every size.
    """
    times: dict[str, list[float]] = {name: [] for name in engines}
    roofs: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            engine.reset()
            engine.prefill([1, 2, 3, 4])
            for _ in range(2):
                engine.step(5)  # the threads are awake
            start = time.perf_counter()
            for _ in range(tokens):
                engine.step(5)
            times[name].append((time.perf_counter() - start) / tokens * 1000)
            time.sleep(PAUSE_S)  # now they sleep again, and leave the cores to the reading
            roofs[name].append(read_gb_s(round(read[name][1] / 1024), engine.threads, 0.08))
    return {
        name: Near(nbytes, 2 * numbers, np.array(times[name]), np.array(roofs[name]))
        for name, (numbers, nbytes) in read.items()
    }


@dataclass(frozen=True)
class OnDevice:
    """What a device would do with a model, from figures on its box.

    Attributes:
        device: its name.
        gb: bytes of the weights, in 10^9.
        fits: whether they are at most 80% of its memory; None if that is unknown.
        by_memory: tokens a second that its bandwidth allows at most; None if unknown.
        by_tops: tokens a second that its INT8 operations would allow; None if unknown.
    """

    device: str
    gb: float
    fits: bool | None
    by_memory: float | None
    by_tops: float | None

    @property
    def share_of_tops(self) -> float | None:
        """Of its operations, the part that one conversation can use."""
        return self.by_memory / self.by_tops if self.by_memory and self.by_tops else None


def on_device(device: facts.Device, parameters: float, bits: float = BITS_PER_WEIGHT) -> OnDevice:
    """The roofline's answer for one conversation on a device of ``datasets/devices.csv``.

    Args:
        parameters: of the model.
        bits: of a weight, scales included.

    Raises:
        ValueError: no parameters or no bits.
    """
    if parameters <= 0 or bits <= 0:
        raise ValueError(f"parameters and bits must be above 0, got {parameters} and {bits}.")
    gb = parameters * bits / 8 / 1e9
    memory, bandwidth, tops = device.memory_gb, device.bandwidth_gb_s, device.int8_tops_dense
    return OnDevice(
        device=device.device,
        gb=gb,
        fits=None if memory is None else gb <= 0.8 * memory,
        by_memory=None if bandwidth is None else bandwidth / gb,
        by_tops=None if tops is None else tops * 1e12 / (2 * parameters),
    )
