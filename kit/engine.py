"""One ONNX Runtime session, run as fast as it can be: prefill, step, and one KV cache that stays in place.

A decoder reads a prompt once (*prefill*) and then makes one token at a time (*step*). Both need the
keys and values of all tokens so far: the KV cache. The graphs of this kit (GroupQueryAttention) write
new keys and values into the buffer they read from, so the cache is allocated once and never copied.

It serves one conversation at a time; batches are chapter 07's subject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kit import models


def session_options(threads: int = 2, spin: bool = True) -> Any:
    """``onnxruntime.SessionOptions`` as all sessions of the kit have them; arguments as for ``session``.

    Without a number of threads ONNX Runtime pins its threads to cores, and torch beside it waits for them.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    return settings


def session(path: str | Path | bytes, threads: int = 2, spin: bool = True, **options: Any) -> Any:
    """Open an ONNX model for running on the CPU.

    Args:
        path: the ``.onnx`` file, or a model in memory (``model.SerializeToString()``).
        threads: threads inside one operator. More than the machine has cores makes it slower.
        spin: threads that wait keep a core busy for a while, so that they are back at once. Fastest for a
            session alone; where several sessions take turns, each then slows down the next.
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
    return ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


class ContextFull(ValueError):
    """More tokens than the KV cache was made for."""


class Engine:
    """A decoder with a KV cache, for one conversation at a time.

    Args:
        path: a fused graph, as for ``session``: ``artifacts.get("smollm2.fp32")``, ``.int8`` or ``.int4``.
        context: tokens that the KV cache can hold, prompt and answer together.
        threads, spin: as for ``session``.

    Attributes:
        past: tokens in the cache. Setting it to a smaller number forgets the later tokens.
        layers, heads, head_size: shape of the cache, read from the graph.
        cache_bytes: size of the whole cache in bytes.

    Raises:
        ValueError: the graph has no KV cache inputs.
    """

    def __init__(
        self, path: str | Path | bytes, context: int = 512, threads: int = 2, spin: bool = True
    ) -> None:
        self.session = session(path, threads, spin)
        pasts = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values.")]
        if not pasts:
            names = ", ".join(i.name for i in self.session.get_inputs())
            raise ValueError(f"the graph has no past_key_values inputs, so no KV cache; it has: {names}.")
        _, self.heads, _, self.head_size = pasts[0].shape
        self.layers, self.context, self.past = len(pasts) // 2, context, 0
        self.vocab = self.session.get_outputs()[0].shape[-1]
        shape = (1, self.heads, context, self.head_size)
        # The numpy arrays own the memory; ONNX Runtime is given their addresses.
        self._cache = {i.name: np.zeros(shape, np.float32) for i in pasts}
        self.cache_bytes = sum(a.nbytes for a in self._cache.values())
        self._mask = np.ones((1, context), np.int64)
        self._token = np.zeros((1, 1), np.int64)
        self._logits = np.empty((1, 1, self.vocab), np.float32)
        self._one = self._bind(self._token, self._logits)  # bound once, for every step

    def _bind(self, ids: np.ndarray, logits: np.ndarray) -> Any:
        """Tell ONNX Runtime where everything is. The mask is left out: it grows with each call."""
        io = self.session.io_binding()
        io.bind_input("input_ids", "cpu", 0, np.int64, ids.shape, ids.ctypes.data)
        io.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        for name, array in self._cache.items():
            present = name.replace("past_key_values", "present")
            io.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            io.bind_output(present, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return io

    def _run(self, io: Any, new: int) -> None:
        total = self.past + new
        if total > self.context:
            raise ContextFull(
                f"the cache holds {self.context} tokens, {total} are needed ({self.past} kept, {new} new). "
                "Shorten the text, reset() the engine, or open it with a larger context."
            )
        io.bind_input("attention_mask", "cpu", 0, np.int64, (1, total), self._mask.ctypes.data)
        self.session.run_with_iobinding(io)
        self.past = total

    def reset(self) -> None:
        """Forget the conversation. The buffers stay; their old contents are never read."""
        self.past = 0

    def forward(self, ids: Sequence[int]) -> np.ndarray:
        """Append ``ids`` to the cache and return the logits after each of them, [len(ids), vocab].

        Raises:
            ValueError: ``ids`` is empty.
            ContextFull: the cache has no room for them; nothing was changed.
        """
        if len(ids) == 0:
            raise ValueError("no tokens were given: the model needs at least one to predict the next.")
        tokens = np.array([ids], np.int64)  # [1, n]
        logits = np.empty((1, len(ids), self.vocab), np.float32)
        self._run(self._bind(tokens, logits), len(ids))
        return logits[0]

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Read a prompt after what the cache already holds. Returns the last token's logits, [vocab]."""
        return self.forward(ids)[-1].copy()

    def step(self, token: int) -> np.ndarray:
        """Read one token. Returns its logits, [vocab], valid until the next step."""
        self._token[0, 0] = token
        self._run(self._one, 1)
        return self._logits[0, 0]

    def generate(self, ids: Sequence[int], n: int = 100, eos: int | None = 2) -> Iterator[int]:
        """Yield up to ``n`` new tokens after ``ids``, the most likely one each time (greedy).

        Args:
            ids: the prompt; see ``chat_ids``.
            n: most tokens to make.
            eos: the token that ends an answer (SmolLM2: 2); it is not yielded. ``None``: never stop.
        """
        logits = self.prefill(ids)
        for made in range(n):
            token = int(logits.argmax())
            if token == eos:
                return
            yield token
            if made < n - 1:
                logits = self.step(token)


@cache
def tokenizer() -> Any:
    """SmolLM2's tokenizer, loaded once."""
    return models.smollm2_tokenizer()


def chat_ids(question: str) -> list[int]:
    """Tokens of a question in SmolLM2's chat format, ready for ``Engine.prefill``."""
    message = [{"role": "user", "content": question}]
    text = tokenizer().apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    return tokenizer()(text, add_special_tokens=False).input_ids  # the template wrote the first token
