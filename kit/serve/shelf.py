"""Many models behind one address, each with a version that can be swapped while it answers.

Blue and green: a new version is opened, checked and warmed beside the old one; then one assignment makes it
the one that new requests get. Requests that run keep the version that they began with. The old version stays
open, so that going back is one assignment, too; the version before that is closed when nobody uses it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kit import artifacts, data, engine, models
from kit.decode.text import token_bytes
from kit.serve.manifest import Manifest, ManifestError
from kit.serve.places import Places, Turns
from kit.serve.settings import ModelSettings
from kit.serve.writer import Writer

WARM = [1, 2, 3]  # tokens like any other
OURS = ("small", "head")  # drafts with a file of their own
EMBED_TOKENS = 64
Guessed = Callable[[str, int, int], None]


class TooLong(ValueError):
    """A text is longer than a model reads; cutting it silently would answer another question."""


class NoModel(LookupError):
    """No model has this name."""


class Version:
    """A version of a model that answers.

    Attributes:
        settings: its name, kind and source.
        version: of the model.
        created: Unix time at which it was opened.
        leases: requests that use it.
        places: of a model that writes; None: it only reads, in no time to speak of.
    """

    places: Places | None = None

    def __init__(self, settings: ModelSettings, version: str) -> None:
        self.settings, self.version = settings, version
        self.created, self.leases = int(time.time()), 0

    @property
    def id(self) -> str:
        return f"{self.settings.name}-{self.version}"

    async def close(self) -> None:
        """Give back what it holds, once nobody uses it."""
        while self.leases:
            await asyncio.sleep(0.01)


class Chat(Version):
    """A language model in this process.

    Attributes:
        writer: makes its answers.
        context: tokens of prompt and answer together. ``vocab``: number of tokens.
    """

    def __init__(self, settings: ModelSettings, version: str, path: Path, guessed: Guessed) -> None:
        super().__init__(settings, version)
        token_bytes()  # loads the tokenizer and its template now, not with the first request
        engine.chat_ids("warm up")
        make, rows, self.context, self.vocab = opened(settings, path, guessed)
        self.places = self.writer = Writer(make, rows, settings.queue)

    async def close(self) -> None:
        await super().close()
        await self.writer.close()


def opened(settings: ModelSettings, path: Path, guessed: Guessed) -> tuple[Callable[[], Any], int, int, int]:
    """What a writer needs of a model: a batcher to make, rows, context and vocabulary."""
    from kit.batch import Batcher

    if settings.draft:
        from kit.serve.speculating import open_speculator

        return open_speculator(settings, path, partial(guessed, settings.name))
    llm = engine.Engine(path, settings.context, rows=settings.rows)
    for row in range(settings.rows):
        llm.prefill(WARM, row)
    for rows in range(1, settings.rows + 1):  # the first call of each size is slow
        llm.step_rows(WARM[:1] * rows)
    for row in range(settings.rows):
        llm.reset(row)

    def make() -> Batcher:
        for row in range(llm.rows):
            llm.reset(row)
        return Batcher(llm, queue=settings.queue + settings.rows)

    return make, settings.rows, settings.context, llm.vocab


class Classify(Version):
    """The edge model: text to intent."""

    def __init__(self, settings: ModelSettings, version: str, path: Path) -> None:
        super().__init__(settings, version)
        self._session = engine.session(path, threads=1)
        self.classify(["warm up"])

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of each intent, [texts, intents].

        Raises:
            TooLong: the model does not read so many bytes.
        """
        longest = max(len(data.normalise(t).encode()) for t in texts)
        if longest > data.LENGTH:
            raise TooLong(f"This model reads {data.LENGTH} bytes; a text has {longest}.")
        (logits,) = self._session.run(["logits"], {"bytes": data.encode([data.normalise(t) for t in texts])})
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)


class Embed(Version):
    """MiniLM: text to a vector of length 1."""

    def __init__(self, settings: ModelSettings, version: str, path: Path) -> None:
        super().__init__(settings, version)
        self._session, self._tokenizer = engine.session(path, threads=1), models.minilm_tokenizer()
        self.embed(["warm up"])

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of all texts together.

        Raises:
            TooLong: the model does not read so many.
        """
        lengths = [len(ids) for ids in self._tokenizer(list(texts)).input_ids]
        if max(lengths) > EMBED_TOKENS:
            raise TooLong(f"This model reads {EMBED_TOKENS} tokens; a text has {max(lengths)}.")
        return sum(lengths)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors, float32 [texts, 384]."""
        from kit.quantize.quality import embed

        return embed(self._session, texts)


class Upstream(Version):
    """A model behind another server that speaks the OpenAI API.

    Attributes:
        turns: requests that it is asked at a time, and those that wait here.
    """

    def __init__(self, settings: ModelSettings, version: str) -> None:
        super().__init__(settings, version)
        self.places = self.turns = Turns(settings.rows, settings.queue)


def nobody(name: str, guesses: int, stood: int) -> None:
    """Hears of guesses, and does nothing."""


def find(source: str) -> Path:
    """The file of an artifact, or the path itself.

    Raises:
        ValueError: neither is there.
    """
    if source in artifacts.RECIPES:
        return artifacts.get(source)
    if Path(source).is_file():
        return Path(source)
    raise ValueError(f"source {source!r} is neither an artifact of this kit nor a file.")


def open_version(
    settings: ModelSettings, version: str, manifest: Manifest | None = None, guessed: Guessed = nobody
) -> Version:
    """Check and open a model, and make it warm. Takes seconds.

    Args:
        settings, version: of the model.
        manifest: hashes that its file must have.
        guessed: hears of the rounds of a model with a draft: name, guesses, those that stood.

    Raises:
        ValueError: the file is not there, does not match the manifest, or is no such model.
    """
    if settings.kind == "upstream":
        return Upstream(settings, version)
    try:
        path = find(settings.source)
        if manifest is not None:
            manifest.check(path)
            for file in sorted(artifacts.get("smollm2.drafts").iterdir()) if settings.draft in OURS else ():
                manifest.check(file)
        if settings.kind == "chat":
            return Chat(settings, version, path, guessed)
        return (Classify if settings.kind == "classify" else Embed)(settings, version, path)
    except ManifestError:
        raise
    except Exception as e:
        raise ValueError(f"{settings.source} cannot be opened as a {settings.kind} model: {e}") from e


@dataclass
class _Place:
    """The version that answers, and the one that did before."""

    active: Version
    previous: Version | None = None


class Shelf:
    """The models by name.

    Args:
        models: what to open.
        manifest: hashes that files must have; None: not checked beyond what the artifact store checks.
        guessed: as for ``open_version``.
    """

    def __init__(
        self, models: Sequence[ModelSettings], manifest: Manifest | None = None, guessed: Guessed = nobody
    ) -> None:
        self._manifest, self._guessed, self._closing = manifest, guessed, dict[asyncio.Task, Version]()
        self._places = {m.name: _Place(open_version(m, m.version, manifest, guessed)) for m in models}
        self._busy = asyncio.Lock()

    def active(self) -> list[Version]:
        """The versions that answer, in the order of the settings."""
        return [place.active for place in self._places.values()]

    def every(self) -> list[Version]:
        """Also those that were replaced and may still write: the ones before, and the ones being closed."""
        held = [v for p in self._places.values() for v in (p.active, p.previous) if v is not None]
        return [*held, *self._closing.values()]

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise NoModel(f"no model is called {name!r}; there are: {', '.join(self._places)}.")
        return self._places[name]

    @contextmanager
    def lease(self, name: str) -> Iterator[Version]:
        """The version that answers now; it stays open inside the block.

        Raises:
            NoModel: no such name.
        """
        version = self._place(name).active
        version.leases += 1
        try:
            yield version
        finally:
            version.leases -= 1

    async def load(self, name: str, version: str, source: str) -> Version:
        """Open a new version beside the old one, and let it take over.

        Raises:
            NoModel: no such name.
            ValueError: it cannot be opened; the old version goes on.
        """
        place = self._place(name)
        async with self._busy:  # one after the other
            settings = place.active.settings.model_copy(update={"source": source, "version": version})
            new = await asyncio.to_thread(open_version, settings, version, self._manifest, self._guessed)
            old, place.previous, place.active = place.previous, place.active, new
            self._retire(old)
        return new

    async def rollback(self, name: str) -> Version:
        """The version before takes over again, and the wrong one is closed: done twice it does no harm.

        Raises:
            NoModel: no such name.
            ValueError: there is none before.
        """
        place = self._place(name)
        async with self._busy:
            if place.previous is None:
                raise ValueError(f"model {name!r} has no earlier version that is still open.")
            wrong, place.active, place.previous = place.active, place.previous, None
            self._retire(wrong)
        return place.active

    def _retire(self, version: Version | None) -> None:
        if version is not None:
            task = asyncio.create_task(version.close())
            self._closing[task] = version
            task.add_done_callback(self._closing.pop)

    async def close(self) -> None:
        """Close all of them, once their requests are answered."""
        held = [v for p in self._places.values() for v in (p.active, p.previous) if v is not None]
        await asyncio.gather(*(v.close() for v in held), *self._closing)
