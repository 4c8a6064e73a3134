"""The trained layers of both drafts, kept beside this file in 4 bits; ``training`` makes them again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kit.quantize import Quantized, block_nbits, unpack4

STORED = Path(__file__).with_name("drafts.safetensors")
BLOCK = 32  # weights that share a scale
ABOUT = {"base": "HuggingFaceTB/SmolLM2-135M-Instruct", "licence": "Apache-2.0"}


def save_drafts(words: np.ndarray, nets: Mapping[str, Mapping[str, np.ndarray]], path: Path = STORED) -> None:
    """Write drafts as safetensors: matrices in 4 bits with a scale for each block, the rest in 16 bits.

    Args:
        words: tokens that the drafts can guess, int64 [words].
        nets: name of the draft -> name of a weight -> float32, matrices [outputs, inputs].
        path: the file.
    """
    from safetensors.numpy import save_file

    stored: dict[str, np.ndarray] = {"words": words.astype(np.int32)}
    for net, weights in nets.items():
        for name, w in weights.items():
            if w.ndim != 2:
                stored[f"{net}/{name}"] = w.astype(np.float16)
                continue
            q = block_nbits(w.T, 4, BLOCK)  # codes [outputs, blocks, BLOCK], 0 to 15
            stored[f"{net}/{name}.codes"] = q.packed
            stored[f"{net}/{name}.scale"] = q.scale[..., 0].astype(np.float16)
    save_file(stored, path, ABOUT)


def load_drafts(path: Path = STORED) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """Read what ``save_drafts`` wrote, as float32; arguments in its order.

    Raises:
        FileNotFoundError: no such file.
    """
    from safetensors.numpy import load_file

    if not path.exists():
        raise FileNotFoundError(f"no drafts at {path}: make them with python -m kit.speculate.training.")
    stored = load_file(path)
    words = stored.pop("words").astype(np.int64)
    nets: dict[str, dict[str, np.ndarray]] = {}
    for key, value in stored.items():
        net, name = key.split("/")
        weights = nets.setdefault(net, {})
        if name.endswith(".codes"):
            name = name.removesuffix(".codes")
            codes, scale = unpack4(value), stored[f"{net}/{name}.scale"].astype(np.float32)[..., None]
            outputs, inputs = len(codes), codes[0].size
            weights[name] = Quantized(codes, scale, 8, 4, (inputs, outputs)).dequantize().T
        elif not name.endswith(".scale"):
            weights[name] = value.astype(np.float32)
    return words, nets
