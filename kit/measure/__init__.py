"""Measurements that can be trusted: time, memory, size, shares, the limits of this machine."""

from kit.measure.limits import Machine, fastest, machine, read_gb_s
from kit.measure.memory import peak_memory, size_mb
from kit.measure.shares import accuracy, calibration, ece, lead
from kit.measure.timing import Timing, compare, ratio, timeit

__all__ = [
    "Machine",
    "Timing",
    "accuracy",
    "calibration",
    "compare",
    "ece",
    "fastest",
    "lead",
    "machine",
    "peak_memory",
    "ratio",
    "read_gb_s",
    "size_mb",
    "timeit",
]
