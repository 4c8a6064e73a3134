"""One language model, one thread: the batcher of chapter 07 between callers that come and go.

The thread does nothing but steps. Callers live in the event loop: they hand in jobs, and take pieces of text
out of a queue of their own. So a slow reader holds up nobody: its pieces wait for it, and its row is free as
soon as the answer is complete. A caller that leaves frees its row at the next step.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from kit.batch import Event, Job, QueueFull
from kit.serve.places import Places


@dataclass(frozen=True, slots=True)
class Piece:
    """A step of one answer.

    Attributes:
        choice: which answer of the request.
        token, text, finish: as of ``Event``.
        at_s: when it was there, on ``time.perf_counter``.
        joined_s: when its prompt began to be read; before that it waited.
    """

    choice: int
    token: int | None
    text: str
    finish: str
    at_s: float
    joined_s: float


class EngineFailed(RuntimeError):
    """The model could not make a step. The message says why; the next request starts afresh."""


class Stepper(Protocol):
    """What a writer drives: a ``Batcher``, or chapter 06 behind the same words."""

    @property
    def idle(self) -> bool: ...
    @property
    def running(self) -> tuple[str, ...]: ...
    def submit(self, job: Job, now_s: float = 0.0) -> None: ...
    def cancel(self, id: str) -> Event | None: ...
    def join(self, now_s: float = 0.0) -> list[Event]: ...
    def advance(self) -> list[Event]: ...


@dataclass
class _Caller:
    """Where the pieces of one job go."""

    choice: int
    give: Callable[[Piece | Exception], None]
    loop: asyncio.AbstractEventLoop
    joined_s: float = 0.0


class Writer(Places):
    """Drives a batcher from a thread.

    Args:
        make: makes the batcher, with an empty engine; called again after a failure.
        rows: answers at a time. ``queue``: those that may wait besides.

    Attributes:
        open: answers that run or wait.
    """

    def __init__(self, make: Callable[[], Stepper], rows: int, queue: int) -> None:
        super().__init__(rows, queue)
        self._make, self._batcher = make, make()
        self._inbox: deque[tuple[Job, _Caller] | str] = deque()  # a job, or the id of one that is cancelled
        self._callers: dict[str, _Caller] = {}  # only the thread looks at it
        self._wake, self._closing = threading.Event(), False
        self._made = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    # -- for callers, in the event loop

    @property
    def running(self) -> int:
        """Answers that have a row."""
        return len(self._batcher.running)

    @property
    def alive(self) -> bool:
        """The thread runs."""
        return self._thread.is_alive()

    @asynccontextmanager
    async def write(self, jobs: Sequence[Job]) -> AsyncIterator[AsyncIterator[Piece]]:
        """Answers to all jobs, pieces as they come. Leaving the block ends what still runs.

        Raises:
            QueueFull: they do not all find a place.
            EngineFailed: from the iterator, when a step fails.
        """
        if self._closing:
            raise QueueFull("this model is being taken away.")
        self.need(len(jobs))
        queue: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        loop, names = asyncio.get_running_loop(), []
        left, holding = set(range(len(jobs))), set(range(len(jobs)))

        def give(item: Piece | Exception) -> None:
            """Into the queue; an answer that is complete gives its place back, whether or not it is read."""
            if isinstance(item, Piece) and item.finish and item.choice in holding:
                holding.discard(item.choice)
                self.open -= 1
            queue.put_nowait(item)

        for choice, job in enumerate(jobs):
            self._made += 1
            names.append(name := f"{self._made}")
            self._inbox.append((replace(job, id=name), _Caller(choice, give, loop)))
        self.open += len(jobs)
        self._wake.set()

        async def pieces() -> AsyncIterator[Piece]:
            while left:
                piece = await queue.get()
                if isinstance(piece, Exception):
                    raise piece
                if piece.finish:
                    left.discard(piece.choice)
                    self.took(piece.at_s - piece.joined_s)
                yield piece

        try:
            yield pieces()
        finally:
            self.open -= len(holding)
            holding.clear()
            self._inbox.extend(names[choice] for choice in left)
            self._wake.set()

    async def close(self) -> None:
        """No more jobs; returns when the last answer is complete."""
        self._closing = True
        while self.open:
            await asyncio.sleep(0.01)
        self.stop()
        await asyncio.to_thread(self._thread.join)

    def stop(self) -> None:
        """End the thread after its step, whatever is open."""
        self._closing = True
        self._inbox.append("")
        self._wake.set()

    # -- the thread

    def _run(self) -> None:
        while True:
            if self._batcher.idle and not self._inbox:
                if self._closing:
                    return
                self._wake.wait()
            self._wake.clear()
            try:
                if not self._read_inbox():
                    return
                start = time.perf_counter()
                joined = self._batcher.join(start)
                read = time.perf_counter()
                self._tell(joined, read, started_s=start)
                self._tell(self._batcher.advance(), time.perf_counter())
            except Exception as e:
                self._fail(e)

    def _read_inbox(self) -> bool:
        """Take what callers left. False: stop now."""
        while self._inbox:
            what = self._inbox.popleft()
            if what == "":
                return False
            if isinstance(what, str):
                self._batcher.cancel(what)
                self._callers.pop(what, None)
                continue
            job, caller = what
            try:
                self._batcher.submit(job, time.perf_counter())
                self._callers[job.id] = caller
            except Exception as e:
                _put(caller, [e])
        return True

    def _tell(self, events: Sequence[Event], at_s: float, started_s: float | None = None) -> None:
        """Hand each event to its caller, all of a caller's loop in one go."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Caller, Piece]]] = {}
        for e in events:
            caller = self._callers[e.id]
            if started_s is not None:
                caller.joined_s = started_s
            piece = Piece(caller.choice, e.token, e.text, e.finish, at_s, caller.joined_s)
            by_loop.setdefault(caller.loop, []).append((caller, piece))
            if e.finish:
                del self._callers[e.id]
        for loop, pieces in by_loop.items():
            _call(loop, lambda pieces=pieces: [caller.give(piece) for caller, piece in pieces])

    def _fail(self, error: Exception) -> None:
        """A step failed: all open answers end with the error, and an empty batcher takes over."""
        failed = EngineFailed(f"the model failed: {error}")
        for caller in self._callers.values():
            _put(caller, [failed])
        self._callers = {}
        self._batcher = self._make()


def _put(caller: _Caller, what: Sequence[Piece | Exception]) -> None:
    _call(caller.loop, lambda: [caller.give(item) for item in what])


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], object]) -> None:
    """Run it in the loop, unless that has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(what)
