"""Is it still the same model? Logits beside logits, and greedy text beside greedy text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit import engine

Logits = Callable[[np.ndarray], np.ndarray]


def from_torch(module: Any) -> Logits:
    """A function from int32 bytes [batch, length] to logits [batch, classes] that runs the torch module."""
    import torch

    def logits(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(batch)).numpy()

    return logits


def from_onnx(path: str | Path, **options: Any) -> Logits:
    """The same function for an ONNX file with one input. ``options`` go to ``engine.session``."""
    session = engine.session(path, **options)
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def batches(rows: np.ndarray, sizes: Sequence[int], lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Cut ``rows`` [n, length] into batches of every size, at every length (cut, or padded with zeros).

    A graph that has one size or one length built in fails on the others.
    """
    for length in lengths:
        cut = rows[:, :length]
        cut = np.pad(cut, ((0, 0), (0, length - cut.shape[1])))
        for size in sizes:
            for start in range(0, len(cut), size):
                yield np.ascontiguousarray(cut[start : start + size])


@dataclass(frozen=True)
class Parity:
    """How close two implementations of one classifier are.

    Attributes:
        n: examples compared.
        worst: largest absolute difference of two logits.
        mean: mean absolute difference.
        agreement: fraction of the examples for which both choose the same class.
    """

    n: int
    worst: float
    mean: float
    agreement: float


def parity(torch_fn: Logits, onnx_fn: Logits, inputs: Iterable[np.ndarray]) -> Parity:
    """Run both functions on the same batches and compare their logits.

    Args:
        torch_fn: the model as it was trained; takes a batch, returns logits [batch, classes].
        onnx_fn: the model as it was exported; likewise.
        inputs: batches of examples.

    Raises:
        ValueError: no inputs, or outputs of different shapes.
    """
    differences, same = [], []
    for batch in inputs:
        a, b = torch_fn(batch), onnx_fn(batch)
        if a.shape != b.shape:
            raise ValueError(
                f"one model answers in shape {a.shape}, the other in {b.shape}: not the same task."
            )
        differences.append(np.abs(a - b))  # [batch, classes]
        same.append(a.argmax(1) == b.argmax(1))  # [batch]
    if not same:
        raise ValueError("parity needs at least one batch: with nothing compared, nothing is proven.")
    every = np.concatenate([d.ravel() for d in differences])
    chosen = np.concatenate(same)
    return Parity(len(chosen), float(every.max()), float(every.mean()), float(chosen.mean()))


@dataclass(frozen=True)
class Greedy:
    """One prompt, continued by two models that always take the most probable token.

    Attributes:
        prompt: index of the prompt.
        tokens: tokens that the first model wrote.
        same: tokens until the two texts part; equal to ``tokens`` if they never do.
        margin: where they part, how far the first model's best logit is above its second. A small
            margin is a tie that rounding decided; a large one is a mistake in the export. None if
            they never part.
        worst: largest absolute difference of two logits, as long as both models have read the same.
    """

    prompt: int
    tokens: int
    same: int
    margin: float | None
    worst: float


def _continue(model: Any, prompt: Sequence[int], tokens: int) -> tuple[list[int], np.ndarray]:
    """New tokens [n], and the logits [n, vocab] that they were chosen from."""
    import torch

    ids = torch.tensor([list(prompt)])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=model.generation_config.eos_token_id,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return out.sequences[0, len(prompt) :].tolist(), torch.cat(out.logits).float().numpy()


def greedy_agreement(
    torch_model: Any, onnx_model: Any, prompts: Sequence[Sequence[int]], tokens: int
) -> list[Greedy]:
    """Let both models continue each prompt and find where their texts part.

    Args:
        torch_model: ``models.smollm2_torch(...)``.
        onnx_model: ``export.smollm2_onnx(...)``; anything with transformers' ``generate`` will do.
        prompts: token ids of each prompt.
        tokens: at most so many new tokens each.
    """
    found = []
    for index, prompt in enumerate(prompts):
        ours, logits = _continue(torch_model, prompt, tokens)
        theirs, other = _continue(onnx_model, prompt, tokens)
        same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(ours))
        margin = None
        if same < len(ours):
            second, best = np.sort(logits[same])[-2:]
            margin = float(best - second)
        read = min(same + 1, len(ours))  # the token that parts them was still chosen after equal ones
        worst = float(np.abs(logits[:read] - other[:read]).max())
        found.append(Greedy(index, len(ours), same, margin, worst))
    return found
