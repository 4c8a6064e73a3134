"""A decoder with a KV cache that stays in place: prefill and step.

A decoder reads a prompt once (*prefill*) and then makes one token at a time (*step*). Both need the
keys and values of all tokens so far: the KV cache. The graphs of this kit (GroupQueryAttention) write
new keys and values into the buffer they read from, so the cache is allocated once and never copied.

The cache has a row for each conversation; chapter 07 fills several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kit.engine.sessions import session

KEPT = 24  # tokens in a call of ``extend`` up to which it keeps what is bound


class ContextFull(ValueError):
    """More tokens than the KV cache was made for."""


class Engine:
    """A decoder with a KV cache, for one conversation or for several side by side.

    Each conversation has a *row* of the cache. ``forward``, ``prefill``, ``step`` and ``generate`` work on
    row 0 unless told otherwise; ``step_rows`` makes a token for several rows in one call, each row at its
    own length.

    Args:
        path: a fused graph, as for ``session``: ``artifacts.get("smollm2.fp32")``, ``.int8`` or ``.int4``.
        context: tokens that a row of the KV cache can hold, prompt and answer together.
        threads, spin: as for ``session``.
        rows: conversations that fit side by side.
        options: as for ``session``.

    Attributes:
        pasts: tokens in each row of the cache, int64 [rows].
        layers, heads, head_size: shape of the cache, read from the graph.
        vocab: number of tokens.
        hidden_size: width of the graph's output ``hidden``, what the last layer reads; 0 if it has none.
        hidden: that output of the last call, float32 [tokens, hidden_size], valid as long as its logits.
        cache_bytes: size of the whole cache in bytes.

    Raises:
        ValueError: the graph has no KV cache inputs, or fewer than one row or token was asked for.
    """

    def __init__(
        self,
        path: str | Path | bytes,
        context: int = 512,
        threads: int = 2,
        spin: bool = True,
        rows: int = 1,
        **options: Any,
    ) -> None:
        if context < 1 or rows < 1:
            raise ValueError(f"context and rows must be at least 1, got {context} and {rows}.")
        self.session = session(path, threads, spin, **options)
        pasts = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values.")]
        if not pasts:
            names = ", ".join(i.name for i in self.session.get_inputs())
            raise ValueError(f"the graph has no past_key_values inputs, so no KV cache; it has: {names}.")
        _, self.heads, _, self.head_size = pasts[0].shape
        self.layers, self.context, self.rows, self.threads = len(pasts) // 2, context, rows, threads
        widths = {o.name: o.shape[-1] for o in self.session.get_outputs()}
        self.vocab, self.hidden_size = widths["logits"], widths.get("hidden", 0)
        self.pasts = np.zeros(rows, np.int64)
        shape = (rows, self.heads, context, self.head_size)
        kind = np.int8 if pasts[0].type == "tensor(int8)" else np.float32
        # The numpy arrays own the memory; ONNX Runtime is given their addresses.
        self._cache = {i.name: np.zeros(shape, kind) for i in pasts}
        self.cache_bytes = sum(a.nbytes for a in self._cache.values())
        self._mask = np.ones((1, context), np.int64)
        self._tokens = np.zeros((rows, 1), np.int64)
        self._fetched = self._outputs(rows, 1)
        self._bound: dict[int, Any] = {}  # by number of rows: bound once, for every step
        self._chunks: dict[int, Any] = {}  # by number of tokens: bound once, for every ``extend``
        self.hidden = np.empty((0, self.hidden_size), np.float32)

    @property
    def past(self) -> int:
        """Tokens in row 0. Setting it to a smaller number forgets the later tokens."""
        return int(self.pasts[0])

    @past.setter
    def past(self, tokens: int) -> None:
        self.pasts[0] = tokens

    def _outputs(self, rows: int, tokens: int) -> dict[str, np.ndarray]:
        """Room for what a call returns: ``logits``, and ``hidden`` if the graph has it."""
        widths = {"logits": self.vocab} | ({"hidden": self.hidden_size} if self.hidden_size else {})
        return {name: np.empty((rows, tokens, width), np.float32) for name, width in widths.items()}

    def _bind(self, fed: dict[str, np.ndarray], fetched: dict[str, np.ndarray], first: int = 0) -> Any:
        """Tell ONNX Runtime where everything is, from row ``first`` on: ``input_ids`` int64 [rows, tokens],
        what else the graph reads, and what it returns. The mask is left out: it grows with each call."""
        io = self.session.io_binding()
        for name, array in fed.items():
            io.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in fetched.items():
            io.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        rows = len(fed["input_ids"])
        for name, whole in self._cache.items():
            array = whole[first : first + rows]
            present = name.replace("past_key_values", "present")
            io.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            io.bind_output(present, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return io

    def _room(self, totals: np.ndarray, new: int) -> None:
        """Raise if a row would hold more tokens than fit."""
        if (total := int(totals.max())) > self.context:
            raise ContextFull(
                f"the cache holds {self.context} tokens, {total} are needed ({total - new} kept, {new} new). "
                "Shorten the text, reset() the engine, or open it with a larger context."
            )

    def _run(self, io: Any, totals: np.ndarray) -> None:
        """Run with ``totals`` tokens in each row, the new ones included, int64 [rows]."""
        longest = int(totals.max())
        if len(totals) == 1:
            mask = self._mask[:, :longest]
        else:  # ones up to each row's last token: the graph counts them to know where the row ends
            mask = (np.arange(longest) < totals[:, None]).astype(np.int64)  # [rows, longest]
        io.bind_input("attention_mask", "cpu", 0, np.int64, mask.shape, mask.ctypes.data)
        self.session.run_with_iobinding(io)

    def reset(self, row: int = 0) -> None:
        """Forget a conversation. The buffers stay; their old contents are never read."""
        self.pasts[row] = 0

    def copy(self, source: int, target: int) -> None:
        """Give row ``target`` the conversation of row ``source``, as far as it has come."""
        kept = self.pasts[source]
        for array in self._cache.values():
            array[target, :, :kept] = array[source, :, :kept]
        self.pasts[target] = kept

    def cached(self, row: int = 0) -> dict[str, np.ndarray]:
        """Keys and values of a row: name of the graph's input -> [heads, tokens, head_size], a view."""
        return {name: array[row, :, : self.pasts[row]] for name, array in self._cache.items()}

    def forward(self, ids: Sequence[int], row: int = 0) -> np.ndarray:
        """Append ``ids`` to a row of the cache and return the logits after each of them, [len(ids), vocab].

        Raises:
            ValueError: ``ids`` is empty.
            ContextFull: the cache has no room for them; nothing was changed.
        """
        if len(ids) == 0:
            raise ValueError("no tokens were given: the model needs at least one to predict the next.")
        total = self.pasts[row : row + 1] + len(ids)
        self._room(total, len(ids))
        tokens = np.array([ids], np.int64)  # [1, n]
        fetched = self._outputs(1, len(ids))
        self._run(self._bind({"input_ids": tokens}, fetched, row), total)
        self.pasts[row] = total[0]
        return self._returned(fetched)[0]

    def _returned(self, fetched: dict[str, np.ndarray]) -> np.ndarray:
        """Keep ``hidden`` of the call, return its logits."""
        if self.hidden_size:
            self.hidden = fetched["hidden"].reshape(-1, self.hidden_size)
        return fetched["logits"]

    def extend(self, ids: Sequence[int], features: np.ndarray | None = None) -> np.ndarray:
        """As ``forward`` in row 0, for a few tokens and often: what it returns is valid until the next call
        with as many tokens.

        Args:
            ids: tokens.
            features: for a graph that reads ``features``, float32 [len(ids), hidden_size].
        """
        n = len(ids)
        totals = self.pasts[:1] + n
        self._room(totals, n)
        fed, fetched, io = self._chunks.get(n) or self._chunk(n, features is not None)
        if n <= KEPT:  # longer texts come once
            self._chunks[n] = fed, fetched, io
        fed["input_ids"][0] = ids
        if features is not None:
            fed["features"][0] = features
        self._run(io, totals)
        self.pasts[:1] = totals
        return self._returned(fetched)[0]

    def _chunk(self, n: int, features: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Any]:
        """Room for ``n`` tokens in row 0 and for what they bring, bound."""
        fed: dict[str, np.ndarray] = {"input_ids": np.empty((1, n), np.int64)}
        if features:
            fed["features"] = np.empty((1, n, self.hidden_size), np.float32)
        fetched = self._outputs(1, n)
        return fed, fetched, self._bind(fed, fetched)

    def prefill(self, ids: Sequence[int], row: int = 0) -> np.ndarray:
        """Read a prompt after what the row already holds. Returns the last token's logits, [vocab]."""
        return self.forward(ids, row)[-1].copy()

    def prefill_rows(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Read several prompts in one call, into rows 0, 1, ..., which forget what they held.

        Shorter prompts are padded to the longest, so prompts of like length waste least.

        Returns:
            The logits after the last token of each, [prompts, vocab].

        Raises:
            ValueError: no prompts, an empty one, or more than there are rows.
            ContextFull: the longest does not fit; nothing was changed.
        """
        lengths = np.array([len(ids) for ids in prompts], np.int64)
        if not 1 <= len(prompts) <= self.rows or lengths.min() < 1:
            raise ValueError(
                f"expected 1 to {self.rows} prompts of at least one token, got lengths {lengths.tolist()}."
            )
        self._room(lengths, int(lengths.max()))
        tokens = np.zeros((len(prompts), lengths.max()), np.int64)  # [prompts, longest]
        for i, ids in enumerate(prompts):
            tokens[i, : len(ids)] = ids
        fetched = self._outputs(*tokens.shape)
        self._run(self._bind({"input_ids": tokens}, fetched), lengths)
        self.pasts[: len(prompts)] = lengths
        return self._returned(fetched)[np.arange(len(prompts)), lengths - 1]

    def step(self, token: int) -> np.ndarray:
        """Read one token in row 0. Returns its logits, [vocab], valid until the next step."""
        return self.step_rows([token])[0]

    def step_rows(self, tokens: Sequence[int]) -> np.ndarray:
        """Read one token in each of the rows 0, 1, ..., in one call.

        Returns:
            Logits, [len(tokens), vocab], valid until the next step.

        Raises:
            ValueError: no tokens, or more than there are rows.
            ContextFull: a row has no room; nothing was changed.
        """
        n = len(tokens)
        if not 1 <= n <= self.rows:
            raise ValueError(f"expected 1 to {self.rows} tokens, one for each row, got {n}.")
        totals = self.pasts[:n] + 1
        self._room(totals, 1)
        self._tokens[:n, 0] = tokens
        fetched = {name: array[:n] for name, array in self._fetched.items()}
        if n not in self._bound:
            self._bound[n] = self._bind({"input_ids": self._tokens[:n]}, fetched)
        self._run(self._bound[n], totals)
        self.pasts[:n] = totals
        return self._returned(fetched)[:, 0]

    def generate(
        self,
        ids: Sequence[int],
        n: int = 100,
        eos: int | None = 2,
        pick: Callable[[np.ndarray], Any] = np.argmax,
    ) -> Iterator[int]:
        """Yield up to ``n`` new tokens after ``ids``.

        Args:
            ids: the prompt; see ``chat_ids``.
            n: most tokens to make.
            eos: the token that ends an answer (SmolLM2: 2); it is not yielded. ``None``: never stop.
            pick: logits [vocab] -> the next token; the most likely one if left out (greedy).
        """
        logits = self.prefill(ids)
        for made in range(n):
            token = int(pick(logits))
            if token == eos:
                return
            yield token
            if made < n - 1:
                logits = self.step(token)
