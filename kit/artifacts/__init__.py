"""A build-once store of the files that one chapter makes for the next.

``get("intent.int8")`` returns a path. What is missing is built first, oldest ancestor first.

What it promises:

- *Atomic*: a build works in a scratch folder; one rename makes the result visible.
- *Locked*: two processes that ask for the same artifact build it once (``filelock``; the
  operating system frees the lock of a process that dies).
- *Fingerprinted*: the key is a hash of the recipe's code, its data and its parents' keys.
  Change the recipe and the artifact, and everything made from it, is built again.
- *Checked*: each file's SHA-256 is kept beside it and compared once per process. A damaged
  file is built again, never trusted.

It does not delete old versions by itself: ``clean()`` does.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kit.artifacts.recipes import RECIPES, Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
DATASETS = ROOT / "datasets"


class ArtifactError(RuntimeError):
    """An artifact cannot be had; the message says why and what to do."""


def home() -> Path:
    """Folder of the store: ``$KIT_HOME``, or ``.kit`` in the project."""
    return Path(os.environ.get("KIT_HOME") or ROOT / ".kit")


def recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        ArtifactError: no such recipe; the message lists the known names.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise ArtifactError(f"no artifact is called {name!r}. Known artifacts: {', '.join(sorted(RECIPES))}.")


def _code(source: str) -> str:
    """Source text reduced to what it does: comments, docstrings and layout do not count."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = body[1:]
    return ast.dump(tree)


def _module_file(module: str) -> Path:
    """Where a module's code is. The module is not imported: that would load torch to list a folder."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    file = Path(spec.origin) if spec and spec.origin else Path(top)
    if not rest:
        return file
    place = file.parent.joinpath(*rest)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@cache
def _source_hash(source: str) -> str:
    """Hash of a module's code, of a file in ``datasets/``, or of weights stored in the package."""
    try:
        if source.endswith(".safetensors"):
            package, *place = source.split("/")
            return _sha256(_module_file(package).parent.joinpath(*place))
        if source.endswith((".csv", ".toml", ".txt")):
            return hashlib.sha256((DATASETS / source).read_bytes()).hexdigest()
        code = _code(_module_file(source).read_text("utf-8"))
    except (OSError, SyntaxError) as e:
        raise ArtifactError(
            f"{source}, which an artifact is made with, cannot be read ({e}). If you did not change it, "
            "install the kit again: pip install -e ."
        ) from e
    return hashlib.sha256(code.encode()).hexdigest()


def fingerprint(name: str) -> str:
    """Twelve hex digits that change when the recipe, its data or its parents change."""
    r = recipe(name)
    parts = [r.name, r.file, r.builder]
    parts += [_source_hash(s) for s in (r.builder.split(":")[0], *r.sources)]
    parts += [fingerprint(parent) for parent in r.needs]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def path(name: str) -> Path:
    """Where the artifact is, or would be. Builds nothing."""
    return home() / name / fingerprint(name) / recipe(name).file


def _files(target: Path) -> list[Path]:
    return sorted(p for p in target.rglob("*") if p.is_file()) if target.is_dir() else [target]


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _manifest(target: Path) -> dict:
    """What the store wrote down about ``target``; empty if it is not there or damaged."""
    try:
        found = json.loads((target.parent / "manifest.json").read_text("utf-8"))
        return found if found["sha256"].keys() and found["bytes"] + found["seconds"] >= 0 else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


_verified: set[tuple[str, int, int]] = set()


def _intact(target: Path) -> bool:
    """True if every file is there with the SHA-256 that was written when it was built."""
    expected = _manifest(target).get("sha256")
    if not expected:
        return False
    for rel, digest in expected.items():
        file = target.parent / rel
        try:
            stat = file.stat()
            seen = (str(file), stat.st_mtime_ns, stat.st_size)
            if seen not in _verified and _sha256(file) != digest:
                return False
        except OSError:
            return False
        _verified.add(seen)
    return True


@contextmanager
def _progress(text: str, seconds: float) -> Iterator[None]:
    """A bar that fills with time against the estimate, for builders of every kind."""
    from tqdm import tqdm

    bar = tqdm(
        total=round(seconds, 1),
        desc=text,
        file=sys.stderr,
        leave=True,
        bar_format="{desc} {bar} {n:.0f}/{total:.0f} s",
        ascii=" ▏▎▍▌▋▊▉█",
        disable=os.environ.get("KIT_QUIET") == "1",
    )
    done = threading.Event()

    def tick() -> None:
        start = time.monotonic()
        while not done.wait(0.5):
            bar.n = min(time.monotonic() - start, bar.total)
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
        bar.n = bar.total
    finally:
        done.set()
        thread.join()
        bar.refresh()
        bar.close()


def _why(r: Recipe, e: Exception) -> str:
    """What went wrong while building, and what to do."""
    if getattr(e, "errno", None) == errno.ENOSPC or "No space left on device" in str(e):
        return (
            f"the disk is full while building {r.name} ({e}). Free some space in {home()}, "
            "or set KIT_HOME to a folder on another disk."
        )
    if isinstance(e, ImportError):
        return f"building {r.name} needs a package that is missing ({e}). See what else is: kit doctor."
    return f"building {r.name} failed in {r.builder}: {type(e).__name__}: {e}"


def _build(r: Recipe, target: Path) -> None:
    """Run the recipe in a scratch folder, then move the result into place in one step."""
    place = target.parent
    scratch = place.with_name(place.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)  # of a build that was killed
    try:
        scratch.mkdir(parents=True)
        free_mb = shutil.disk_usage(scratch).free / 1e6
        if free_mb < r.mb * 1.2:
            raise OSError(errno.ENOSPC, f"{free_mb:.0f} MB free, about {r.mb * 1.2:.0f} MB needed")
        module, function = r.builder.split(":")
        builder: Callable[..., None] = getattr(importlib.import_module(module), function)
        start = time.monotonic()
        with _progress(f"building {r.name}", r.seconds):
            builder(scratch / r.file, *(path(parent) for parent in r.needs))
        if not (scratch / r.file).exists():
            raise FileNotFoundError(f"it left no {r.file}. A builder must write the path that it is given.")
        files = _files(scratch / r.file)
        manifest = {
            "artifact": r.name,
            "sha256": {p.relative_to(scratch).as_posix(): _sha256(p) for p in files},
            "bytes": sum(p.stat().st_size for p in files),
            "built": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "seconds": round(time.monotonic() - start, 1),
        }
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(scratch, place)
    except ArtifactError:
        raise
    except Exception as e:
        raise ArtifactError(f"{_why(r, e)} Nothing half-made was kept.") from e
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _lock(folder: Path) -> AbstractContextManager:
    """Make ``folder`` and take its lock, waiting for whoever has it."""
    try:
        from filelock import FileLock

        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / ".lock").acquire()
    except ImportError as e:
        raise ArtifactError("the package filelock is missing. See what else is: kit doctor.") from e
    except (OSError, NotImplementedError) as e:  # the latter: a file system without locks
        raise ArtifactError(
            f"cannot write to {folder} ({e}). Set KIT_HOME to a folder that you may write to."
        ) from e


def get(name: str) -> Path:
    """Return the path of the artifact, building it and its missing ancestors first.

    Args:
        name: an artifact's name, such as ``"intent.onnx"``; ``RECIPES`` holds them all.

    Raises:
        ArtifactError: unknown name, full disk, folder not writable, or a builder that failed.
    """
    r, target = recipe(name), path(name)
    if _intact(target):
        return target
    for parent in r.needs:
        get(parent)
    with _lock(home() / name):
        if not _intact(target):  # else another process built it while this one waited
            if target.parent.exists():
                print(f"{name} is damaged: building it again.", file=sys.stderr)
            _build(r, target)
    return target


@dataclass(frozen=True)
class Status:
    """One line of ``kit build --list``."""

    name: str
    built: bool
    mb: float
    age_s: float | None
    seconds: float
    path: Path


def status() -> list[Status]:
    """State of every artifact: built or not, size in MB, age and build time in seconds."""
    lines = []
    for name, r in RECIPES.items():
        target = path(name)
        manifest = _manifest(target) if target.exists() else {}
        age = time.time() - (target.parent / "manifest.json").stat().st_mtime if manifest else None
        mb = manifest["bytes"] / 1e6 if manifest else r.mb
        lines.append(Status(name, bool(manifest), mb, age, manifest.get("seconds", r.seconds), target))
    return lines


def clean() -> int:
    """Delete versions that no recipe makes any more. Returns the number of folders removed."""
    keep = {path(name).parent for name in RECIPES}
    keep |= {p.with_name(p.name + ".part") for p in keep}  # another process may be building it
    old = [p for p in home().glob("*/*") if p.is_dir() and p not in keep]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return len(old)
