"""ONNX Runtime sessions, all opened in one place: their threads, and what they log."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class _Pool:
    """What was decided about the threads of this process."""

    shared = False  # one pool for all sessions
    fixed = False  # a session was opened: it cannot change any more


def share_threads(threads: int = 2) -> None:
    """From now on all sessions of this process take turns on one pool of threads.

    Threads that wait keep a core busy for a while. That is right for a session alone; where two take turns,
    such as a target and its draft, the threads of one are in the way of the other.

    Args:
        threads: of the pool. ``threads`` and ``spin`` of a session are not used any more.

    Raises:
        RuntimeError: a session was opened before.
    """
    if _Pool.shared:
        return
    if _Pool.fixed:
        raise RuntimeError(
            "share_threads() must come before the first session is opened: restart the kernel, and call it "
            "first."
        )
    import onnxruntime as ort

    ort.set_global_thread_pool_sizes(threads, 1)
    _Pool.shared = True


def shares_threads() -> bool:
    """Whether ``share_threads`` was called."""
    return _Pool.shared


def session_options(threads: int = 2, spin: bool = True) -> Any:
    """``onnxruntime.SessionOptions`` as all sessions of the kit have them; arguments as for ``session``.

    Without a number of threads ONNX Runtime pins its threads to cores, and torch beside it waits for them.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    if _Pool.shared:
        settings.use_per_session_threads = False
        return settings
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    return settings


def session(path: str | Path | bytes, threads: int = 2, spin: bool = True, **options: Any) -> Any:
    """Open an ONNX model for running on the CPU.

    Args:
        path: the ``.onnx`` file, or a model in memory (``model.SerializeToString()``).
        threads: threads inside one operator. More than the machine has cores makes it slower.
        spin: threads that wait keep a core busy for a while, so that they are back at once. Fastest for a
            session alone; where several sessions take turns, each then slows down the next: see
            ``share_threads``.
        options: further attributes of ``onnxruntime.SessionOptions``, such as
            ``graph_optimization_level``.

    Returns:
        An ``onnxruntime.InferenceSession``.

    Raises:
        FileNotFoundError: no such file.
    """
    if not isinstance(path, bytes) and not Path(path).is_file():
        raise FileNotFoundError(
            f"no ONNX file at {path}. Artifacts of the kit are built by kit.artifacts.get(name)."
        )
    import onnxruntime as ort

    settings = session_options(threads, spin)
    for name, value in options.items():
        setattr(settings, name, value)
    model = path if isinstance(path, bytes) else str(path)
    _Pool.fixed = True
    return ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
