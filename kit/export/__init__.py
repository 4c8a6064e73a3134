"""Chapter 02: from a torch model to a file that other programs can run, and the proof of parity.

- ``builders``: how the store of artifacts makes the files
- ``agree``: is the exported model the same model?
- ``look``: what is in a model file?
- ``graph``: what does a runtime make of it?
- ``picture``: what does it look like?
- ``sentences``: what does a measurement say?
- ``breaks``: modules that cannot be exported, and how to mend them (it loads torch, so it is
  imported by name: ``from kit.export import breaks``)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kit import engine, models
from kit.export.agree import Greedy, Parity, batches, from_onnx, from_torch, greedy_agreement, parity
from kit.export.builders import (
    build_intent,
    build_minilm,
    build_smollm2_hf,
    build_smollm2_plain,
    write_reader,
)
from kit.export.graph import LEVELS, at_level, optimise
from kit.export.look import Contents, Tensor, inside, read
from kit.export.picture import draw
from kit.export.sentences import FUSED, fused, read_fusing

__all__ = [
    "FUSED",
    "LEVELS",
    "Contents",
    "Greedy",
    "Parity",
    "Tensor",
    "at_level",
    "batches",
    "build_intent",
    "build_minilm",
    "build_smollm2_hf",
    "build_smollm2_plain",
    "draw",
    "from_onnx",
    "from_torch",
    "fused",
    "greedy_agreement",
    "inside",
    "optimise",
    "parity",
    "read",
    "read_fusing",
    "smollm2_onnx",
    "write_reader",
]


def smollm2_onnx(folder: str | Path) -> Any:
    """SmolLM2 from ``artifacts.get("smollm2.plain")``, with transformers' ``generate`` over ONNX Runtime."""
    with models.quiet():
        from optimum.onnxruntime import ORTModelForCausalLM

        calm = engine.session_options(spin=False)  # torch wants the cores, too
        return ORTModelForCausalLM.from_pretrained(str(folder), session_options=calm)
