"""How the store of artifacts makes the quantized models: ``function(out, parent)``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from kit import models
from kit.quantize.graphs import int8_dynamic, weights_nbits


def build_smollm2_fp32(out: Path, hf: Path) -> None:
    """SmolLM2 as one fused ONNX file: GroupQueryAttention, and a KV cache written in place.

    ``onnxruntime-genai``'s model builder writes it; the graph runs in plain ONNX Runtime.
    """
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch, models.quiet():
        from onnxruntime_genai.models.builder import create_model

        create_model(None, str(hf), scratch, "fp32", "cpu", str(Path(scratch) / "cache"))
        onnx.save(onnx.load(Path(scratch) / "model.onnx"), out)


def build_smollm2_int8(out: Path, fp32: Path) -> None:
    """8-bit weights in blocks of 64 to 256. Rounding the inputs too (``int8_dynamic``) doubles its
    perplexity: some of SmolLM2's inputs are a thousand times larger than the rest."""
    onnx.save(weights_nbits(onnx.load(fp32), bits=8, block=256), out)


def build_smollm2_int4(out: Path, fp32: Path) -> None:
    """4-bit weights in blocks of 32; the table of words, shared with the last layer, keeps 8."""
    onnx.save(weights_nbits(onnx.load(fp32), bits=4, block=32), out)


def build_minilm_int8(out: Path, fp32: Path) -> None:
    """MiniLM with INT8 matrices and tables."""
    int8_dynamic(fp32, out)


def build_intent_int8(out: Path, fp32: Path) -> None:
    """The intent model with INT8 matrices and an INT8 table of n-grams."""
    int8_dynamic(fp32, out)
