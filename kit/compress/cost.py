"""What a cut saves, measured: bytes of a file, and the time of a sentence on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from kit import artifacts, data, measure
from kit.compress.search import SENTENCE, shapes
from kit.engine import session
from kit.measure import Timing
from kit.quantize import minilm_inputs

KINDS = ("padded", "bare")


def _work(path: Path, padded: bool) -> Callable[[], object]:
    """One sentence through a file, edge model or reader."""
    edge = session(path, threads=1, spin=False)
    if edge.get_inputs()[0].name == "bytes":
        feed = {"bytes": data.encode([SENTENCE], data.LENGTH if padded else len(SENTENCE.encode()))}
        return lambda: edge.run(None, feed)
    reader, tokens = session(path, spin=False), minilm_inputs([SENTENCE])
    return lambda: reader.run(None, tokens)


def sentence_times(files: Mapping[str, Path], rounds: int = 150) -> dict[str, Timing]:
    """Time of one sentence for each file, timed in turn.

    An edge model gets one thread: it is done before a second one has woken up. A reader gets two.

    Args:
        files: name -> ONNX file of an edge model, or of one that reads MiniLM's tokens.
        rounds: runs of each.
    """
    return measure.compare({name: _work(path, True) for name, path in files.items()}, rounds, 10)


def padding_times(
    files: Mapping[str, Path], rounds: int = 150
) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Time of one sentence padded to 96 bytes, as ``data.encode`` does, and of its own bytes alone.

    Both are timed in one run.

    Args:
        files: name -> ONNX file of an edge model.
        rounds: runs of each.
    """
    work = {f"{kind} {n}": _work(path, kind == "padded") for n, path in files.items() for kind in KINDS}
    times = measure.compare(work, rounds, 10)
    padded, bare = ({name: times[f"{kind} {name}"] for name in files} for kind in KINDS)
    return padded, bare


def operators(path: Path, runs: int = 50) -> dict[str, float]:
    """Microseconds that one sentence spends in each kind of operator, longest first.

    ONNX Runtime's own profile; it slows the session down, so the parts matter, not the sum.
    """
    feed = {"bytes": data.encode([SENTENCE])}
    with tempfile.TemporaryDirectory() as folder:
        opened = session(path, threads=1, enable_profiling=True, profile_file_prefix=f"{folder}/profile")
        for _ in range(runs):
            opened.run(None, feed)
        events = json.loads(Path(opened.end_profiling()).read_text())
    spent: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            spent[kind] = spent.get(kind, 0) + event["dur"] / runs
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def candidates() -> tuple[dict[str, float], dict[str, Path]]:
    """The artifact ``compress.search``: shape -> accuracy on dev in percent, and shape -> ONNX file."""
    folder = artifacts.get("compress.search")
    return json.loads((folder / "search.json").read_text()), {
        s.name: folder / f"{s.name}.onnx" for s in shapes()
    }


def sparse_product(shares: Sequence[float], size: int = 1024) -> dict[float, tuple[float, float, float]]:
    """Time of a matrix times a vector in CSR form over that of the dense product, with its interval.

    Args:
        shares: of the weights that are zero.
        size: rows and columns.
    """
    from scipy.sparse import csr_array
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    w, x = (rng.normal(size=n).astype(np.float32) for n in ((size, size), size))
    work: dict[str, Callable[[], object]] = {"dense": lambda: w @ x}
    for share in shares:
        thin = csr_array(np.where(rng.random(w.shape) < share, np.float32(0), w))
        work[str(share)] = lambda thin=thin: thin @ x
    with threadpool_limits(1):  # SciPy's product has one thread, so the dense one gets no more
        times = measure.compare(work, 60, 5)
    return {share: measure.ratio(times[str(share)], times["dense"]) for share in shares}


def speed_choice(faster: tuple[float, float, float]) -> str:
    """How much faster, in the words of the chapter's question.

    Args:
        faster: how many times as fast, with its interval.
    """
    times, low, high = faster
    if low <= 1 <= high or 0.9 < times < 1.1:
        return "as fast as before"
    return "slower" if times < 1 else "1-2x faster" if times <= 2 else "over 2x faster"
