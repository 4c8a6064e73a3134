"""How much memory a piece of work takes, and how large a file is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def _status_mb(field: str) -> float:
    """A line of Linux's /proc/self/status in MB: VmRSS (memory now), VmHWM (the most so far)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"no {field} in /proc/self/status")


def peak_memory(fn: Callable[[], object]) -> float:
    """Run ``fn`` and return by how many MB the memory of this process rose at its peak.

    On Linux the process's high-water mark is reset first (``/proc/self/clear_refs``), so each run is
    measured for itself. Elsewhere the mark of ``getrusage`` cannot be reset: only what goes beyond all
    earlier peaks is seen, so measure the largest last. All memory counts, that of ONNX Runtime and torch
    too, which ``tracemalloc`` would miss. Memory that the process already holds in reserve is used
    again without a rise: a first run in a fresh process gives the clearest figure.

    Returns:
        MB; NaN where the system offers neither way.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_mb("VmRSS")
    except OSError:
        return _rise_of_rusage(fn)
    fn()
    return max(0.0, _status_mb("VmHWM") - before)


def _rise_of_rusage(fn: Callable[[], object]) -> float:
    try:
        import resource
    except ImportError:  # Windows
        fn()
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fn()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 1e6


def size_mb(path: Path | str) -> float:
    """Size of a file, or of all files in a folder, in MB (10^6 bytes).

    Raises:
        FileNotFoundError: nothing is there.
    """
    p = Path(path)
    if not p.exists():
        raise FileNotFoundError(f"nothing at {p}: its size cannot be measured.")
    files = [f for f in p.rglob("*") if f.is_file()] if p.is_dir() else [p]
    return sum(f.stat().st_size for f in files) / 1e6
