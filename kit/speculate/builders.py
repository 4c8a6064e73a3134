"""How the store makes ``smollm2.drafts``: both drafts as ONNX files, from the trained layers beside this
file."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

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


def _fused(hf: Path, weights: dict[str, np.ndarray], scratch: Path) -> onnx.ModelProto:
    """A decoder with these layers between the target's table of words and its last layer, as a fused
    graph."""
    import torch
    from transformers import LlamaForCausalLM

    target = models.smollm2_torch(hf)
    config = copy.deepcopy(target.config)
    config.num_hidden_layers = 1 + max(int(name.split(".")[2]) for name in weights if ".layers." in name)
    small = LlamaForCausalLM(config)
    state = small.state_dict()
    state |= {name.replace("body.", "model."): torch.from_numpy(w) for name, w in weights.items()}
    state |= {
        name: w for name, w in target.state_dict().items() if "embed_tokens" in name or "lm_head" in name
    }
    small.load_state_dict(state)
    with tempfile.TemporaryDirectory(dir=scratch.parent) as folder, models.quiet():
        from onnxruntime_genai.models.builder import create_model

        small.save_pretrained(f"{folder}/hf")
        models.smollm2_tokenizer(hf).save_pretrained(f"{folder}/hf")
        create_model(None, f"{folder}/hf", f"{folder}/onnx", "fp32", "cpu", f"{folder}/cache")
        return onnx.load(Path(folder) / "onnx" / "model.onnx")
