"""How the store makes ``smollm2.drafts``: both drafts as ONNX files, from the trained layers."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from kit import models
from kit.quantize import weights_nbits
from kit.speculate.graphs import with_fewer_words, with_hidden, with_states
from kit.speculate.stored import load_drafts

WORDS_FILE = "words.npy"


def build_drafts(out: Path, hf: Path) -> None:
    """A folder: ``small.onnx`` and ``head.onnx``, INT4, and ``words.npy``, the tokens that they can guess."""
    words, nets = load_drafts()
    out.mkdir()
    np.save(out / WORDS_FILE, words)
    for name, weights in nets.items():
        join = weights.pop("join.weight", None)
        model = with_fewer_words(_fused(hf, weights, out), words)
        if join is not None:
            model = with_hidden(with_states(model, join.T))
        onnx.save(weights_nbits(model, 4, 32), out / f"{name}.onnx")


def as_llama(target: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """A draft in transformers: the trained layers between the target's table of words and its last layer.

    Args:
        target: SmolLM2 in torch.
        weights: of a draft, from ``load_drafts``.
    """
    import torch
    from transformers import LlamaForCausalLM

    config = copy.deepcopy(target.config)
    config.num_hidden_layers = 1 + max(int(name.split(".")[2]) for name in weights if ".layers." in name)
    draft = LlamaForCausalLM(config)
    ours = {name.replace("body.", "model."): torch.from_numpy(w) for name, w in weights.items()}
    theirs = {n: w for n, w in target.state_dict().items() if "embed_tokens" in n or "lm_head" in n}
    draft.load_state_dict(draft.state_dict() | ours | theirs)
    return draft.eval()


def _fused(hf: Path, weights: Mapping[str, np.ndarray], beside: Path) -> onnx.ModelProto:
    """The same as a fused graph; what is written on the way goes to a folder beside ``beside``."""
    with tempfile.TemporaryDirectory(dir=beside.parent) as folder, models.quiet():
        from onnxruntime_genai.models.builder import create_model

        as_llama(models.smollm2_torch(hf), weights).save_pretrained(f"{folder}/hf")
        models.smollm2_tokenizer(hf).save_pretrained(f"{folder}/hf")
        create_model(None, f"{folder}/hf", f"{folder}/onnx", "fp32", "cpu", f"{folder}/cache")
        return onnx.load(Path(folder) / "onnx" / "model.onnx")
