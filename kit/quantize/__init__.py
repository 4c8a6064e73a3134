"""Chapter 03: what do 8 and 4 bits buy, and what do they cost?

``by_hand`` rounds weights in NumPy, ``graphs`` rewrites ONNX files, ``quality`` measures the loss,
``builders`` makes the artifacts.
"""

from kit.quantize.builders import (
    build_intent_int8,
    build_minilm_int8,
    build_smollm2_fp32,
    build_smollm2_int4,
    build_smollm2_int8,
)
from kit.quantize.by_hand import (
    Quantized,
    affine_int8,
    awq_scale,
    block_nbits,
    gptq,
    relative_error,
    sqnr_db,
    symmetric_int8,
)
from kit.quantize.graphs import (
    bf16,
    fake_quantize,
    int8_dynamic,
    int8_static,
    matrices,
    to_fp16,
    weights_int8_dynamic,
    weights_nbits,
)
from kit.quantize.quality import embed, minilm_inputs, passages, perplexity, probe, sensitivity

__all__ = [
    "Quantized",
    "affine_int8",
    "awq_scale",
    "bf16",
    "block_nbits",
    "build_intent_int8",
    "build_minilm_int8",
    "build_smollm2_fp32",
    "build_smollm2_int4",
    "build_smollm2_int8",
    "embed",
    "fake_quantize",
    "gptq",
    "int8_dynamic",
    "int8_static",
    "matrices",
    "minilm_inputs",
    "passages",
    "perplexity",
    "probe",
    "relative_error",
    "sensitivity",
    "sqnr_db",
    "symmetric_int8",
    "to_fp16",
    "weights_int8_dynamic",
    "weights_nbits",
]
