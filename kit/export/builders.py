"""How the store of artifacts makes the exported models: ``function(out, *parents)``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kit
from kit import data, models

OPSET = 18
IR_VERSION = 9  # ONNX Runtime 1.17, the newest that some Java users get, reads nothing later


def build_intent(out: Path, intent_pt: Path) -> None:
    """Write the edge model as one ONNX file that says what it is.

    Input ``bytes``, int32 [batch, length]: UTF-8, padded with zeros (``data.encode``). Output
    ``logits``, float32 [batch, classes]. Both sizes are free. What a runtime cannot know from the
    graph stands in the metadata: the labels, the languages, the normalisation.
    """
    import torch

    from kit.models.intent import load_intent

    example = torch.from_numpy(data.encode(["turn on the light", "打开灯"], length=32))
    size = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("length", min=1, max=4096)}
    with models.quiet():
        program = torch.onnx.export(
            load_intent(intent_pt),
            (example,),
            input_names=["bytes"],
            output_names=["logits"],
            dynamic_shapes=(size,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    metadata = {
        "name": "intent",
        "version": kit.__version__,
        "licence": "Apache-2.0",
        "labels": json.dumps(data.INTENTS),
        "languages": json.dumps(data.LANGS),
        "length": str(data.LENGTH),
        "normalisation": "NFKC, lower case; punctuation and symbols, except ' % and °, become one space",
        "encoding": "UTF-8 bytes as int32, cut or padded with zeros to length",
    }
    _write(program, out, metadata)


def _write(program: Any, out: Path, metadata: dict[str, str]) -> None:
    """Check and write what ``torch.onnx.export`` made: readable for older runtimes, no traces of its maker.

    The exporter notes beside every operator which source line it came from, with the full path of
    the file on its maker's disk. A file for others should not tell them that.
    """
    import onnx

    model = program.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
        del part.metadata_props[:]
    model.ir_version = IR_VERSION
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)


def build_smollm2_hf(out: Path) -> None:
    """Write SmolLM2 as a transformers folder (float32 safetensors and tokenizer), from the GGUF."""
    models.smollm2_torch(models.smollm2_gguf()).save_pretrained(out)
    models.smollm2_tokenizer(models.smollm2_gguf()).save_pretrained(out)


def build_smollm2_plain(out: Path, hf: Path) -> None:
    """Write SmolLM2 with its KV cache as optimum does it: standard ONNX operators, one float32 file.

    The graph takes ``input_ids``, ``attention_mask``, ``position_ids`` and the keys and values of
    each layer, and returns ``logits`` and the longer keys and values. ``smollm2_onnx`` loads it.
    """
    with models.quiet():
        from optimum.exporters.onnx import main_export

        main_export(str(hf), output=str(out), task="text-generation-with-past", do_validation=False)


def build_minilm(out: Path) -> None:
    """Write MiniLM as one ONNX file, from tokens to a sentence embedding.

    Inputs ``input_ids`` and ``attention_mask``, int64 [batch, length]; output ``sentence_embedding``,
    float32 [batch, 384]: the mean over the tokens that are not padding, scaled to length 1, as the
    model card of all-MiniLM-L6-v2 computes it.
    """
    import torch

    class Sentence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = models.minilm_torch()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids, attention_mask).last_hidden_state  # [batch, length, 384]
            real = attention_mask.unsqueeze(-1).to(hidden.dtype)  # [batch, length, 1]
            mean = (hidden * real).sum(1) / real.sum(1).clamp(min=1e-9)  # [batch, 384]
            return torch.nn.functional.normalize(mean, dim=1)

    metadata = {"name": "all-MiniLM-L6-v2", "licence": "Apache-2.0", "languages": '["en"]'}
    write_reader(Sentence(), out, "sentence_embedding", metadata)


def write_reader(model: Any, out: Path, output: str, metadata: dict[str, str]) -> None:
    """Write a torch model that reads MiniLM's tokens as one ONNX file.

    Inputs ``input_ids`` and ``attention_mask``, int64 [batch, length]; batch and length are free.

    Args:
        model: the module, called with both inputs by name.
        out: the file.
        output: name of what it returns.
        metadata: what a user of the file should know.
    """
    import torch

    ids = torch.ones((2, 16), dtype=torch.long)
    mask = torch.ones_like(ids)  # a tensor of its own: one tensor given twice is exported as one input
    size = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("length", min=2, max=512)}
    with models.quiet():
        program = torch.onnx.export(
            model.eval(),
            (ids, mask),
            input_names=["input_ids", "attention_mask"],
            output_names=[output],
            dynamic_shapes={"input_ids": size, "attention_mask": size},
            dynamo=True,
            verbose=False,
        )
    _write(program, out, metadata)
