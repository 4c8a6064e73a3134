"""This machine's own limits: how fast it reads memory, how fast it multiplies matrices.

Reading speed depends on how much is read: what fits a cache is read faster than what does not. So it is
measured at sizes from 256 KB to 1 GB, with one core and with all.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kit import artifacts

KB_SIZES = tuple(4**i * 256 for i in range(7))  # 256 KB, 1 MB, ... 1 GB
SHAPES = {  # name: (rows, inputs, outputs)
    "decode": (1, 2048, 8192),  # one token meets a layer: a matrix times a vector
    "prefill": (128, 2048, 8192),  # a prompt of 128 tokens meets it
    "square": (1024, 1024, 1024),
}
FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
)


@dataclass(frozen=True)
class Machine:
    """What was measured.

    Attributes:
        cpu: name of the processor.
        cores: cores this process may use.
        features: instruction sets that matter for small integers, of those the processor has.
        caches_kb: size of one cache by name ("L1", "L2", "L3"), in KiB; empty where unknown.
        bandwidth: rows ``{"kb", "threads", "gb_s"}``: read speed in 10^9 bytes/s by KiB read over and
            over, all threads together.
        matmul: rows ``{"shape", "type", "gops"}``: 10^9 multiplications and additions a second.
        date: when, ISO 8601.
    """

    cpu: str
    cores: int
    features: tuple[str, ...]
    caches_kb: dict[str, int]
    bandwidth: list[dict]
    matmul: list[dict]
    date: str

    def gb_s(self, mb: float) -> float:
        """Read speed with all cores for a model of ``mb`` MB, from the nearest size measured (GB/s)."""
        rows = [r for r in self.bandwidth if r["threads"] == self.cores]
        return min(rows, key=lambda r: abs(np.log(r["kb"] * 1024 / (mb * 1e6))))["gb_s"]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sysctl(name: str) -> str:
    try:
        return subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _cpu() -> tuple[str, tuple[str, ...]]:
    """Name and features, from /proc/cpuinfo (Linux) or sysctl (macOS)."""
    if platform.system() == "Darwin":
        words = _sysctl("machdep.cpu.leaf7_features").lower().split()
        words += [w for w in ("i8mm", "bf16") if _sysctl(f"hw.optional.arm.FEAT_{w.upper()}") == "1"]
        return _sysctl("machdep.cpu.brand_string") or platform.machine(), _known(words)
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), ()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    words = (fields.get("flags") or fields.get("Features") or "").split()
    return fields.get("model name", platform.machine()), _known(words)


def _known(words: list[str]) -> tuple[str, ...]:
    return tuple(f for f in FEATURES if f in words)


def _caches_kb() -> dict[str, int]:
    """Size of one data cache of each level in KiB, as seen from the first core."""
    if platform.system() == "Darwin":
        sizes = {
            "L1": _sysctl("hw.l1dcachesize"),
            "L2": _sysctl("hw.l2cachesize"),
            "L3": _sysctl("hw.l3cachesize"),
        }
        return {level: int(size) // 1024 for level, size in sizes.items() if size.isdigit() and size != "0"}
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = ((index / f).read_text().strip() for f in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}"] = int(size[:-1])
    return found


def fastest(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest run: what the hardware can do when nothing disturbs it."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def read_gb_s(kb: int, threads: int, seconds: float = 0.2) -> float:
    """Read ``kb`` KiB over and over, a share for each thread, and return 10^9 bytes/s.

    The reading is an OR over 64-bit integers: one instruction per 64 bytes and no arithmetic to wait for;
    NumPy lets go of the interpreter lock for it. The arrays are written first: memory never written to
    is one shared page of zeros, and would be read from the nearest cache.
    """
    words = kb * 1024 // 8 // threads
    arrays = [np.full(words, i, np.int64) for i in range(threads)]
    again = max(1, 4_000_000 // words)  # small arrays many times, so that starting a thread costs little

    def read(a: np.ndarray) -> None:
        for _ in range(again):
            np.bitwise_or.reduce(a)

    with ThreadPoolExecutor(threads) as pool:
        best = fastest(lambda: list(pool.map(read, arrays)), seconds)
    return words * 8 * threads * again / best / 1e9


def _matmul_gops(shape: tuple[int, int, int], seconds: float = 0.3) -> dict[str, float]:
    """10^9 operations a second of one matrix product in fp32 and bf16 (torch) and int8 (ONNX Runtime).

    At ``decode`` shapes the weights are read for one token only, so this is reading speed, not arithmetic.
    """
    import onnxruntime as ort
    import torch
    from onnx import TensorProto, helper

    m, k, n = shape
    speed = {}
    with torch.inference_mode():
        for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            a, b = torch.ones(m, k, dtype=kind), torch.ones(n, k, dtype=kind).T
            speed[name] = fastest(lambda a=a, b=b: a @ b, seconds)
    values = [
        helper.make_tensor_value_info("a", TensorProto.UINT8, [m, k]),
        helper.make_tensor_value_info("y", TensorProto.INT32, [m, n]),
    ]
    weights = helper.make_tensor("b", TensorProto.INT8, [k, n], np.ones((k, n), np.int8).tobytes(), raw=True)
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    graph = helper.make_graph([node], "int8", values[:1], values[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = _cores()
    int8 = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = {"a": np.ones((m, k), np.uint8)}
    speed["int8"] = fastest(lambda: int8.run(None, x), seconds)
    return {name: 2 * m * k * n / s / 1e9 for name, s in speed.items()}


def _measure() -> Machine:
    cpu, features = _cpu()
    threads = sorted({1, _cores()})
    bandwidth = [
        {"kb": kb, "threads": t, "gb_s": round(read_gb_s(kb, t), 1)} for t in threads for kb in KB_SIZES
    ]
    matmul = [
        {"shape": name, "type": kind, "gops": round(gops, 1)}
        for name, shape in SHAPES.items()
        for kind, gops in _matmul_gops(shape).items()
    ]
    date = time.strftime("%Y-%m-%dT%H:%M:%S")
    return Machine(cpu, _cores(), features, _caches_kb(), bandwidth, matmul, date)


def machine() -> Machine:
    """Limits of this machine: measured once (some 10 seconds, with nothing else running), then kept.

    They are kept in ``machine.json`` in the store of artifacts; delete that file to measure again.
    """
    file = artifacts.home() / "machine.json"
    cpu, _ = _cpu()
    try:
        kept = Machine(**json.loads(file.read_text()))
        if (kept.cpu, kept.cores) == (cpu, _cores()):  # else the folder came from another machine
            return Machine(**{**asdict(kept), "features": tuple(kept.features)})
    except (OSError, ValueError, TypeError):
        pass
    measured = _measure()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(measured), indent=1))
    return measured
