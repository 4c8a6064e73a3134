"""Chapter 02: from a torch model to a file that other programs can run, and the proof of parity."""

from __future__ import annotations

from pathlib import Path

from kit import models


def build_smollm2_hf(out: Path) -> None:
    """Write SmolLM2 as a transformers folder (float32 safetensors and tokenizer), from the GGUF."""
    models.smollm2_torch(models.smollm2_gguf()).save_pretrained(out)
    models.smollm2_tokenizer(models.smollm2_gguf()).save_pretrained(out)


def build_minilm(out: Path) -> None:
    """Write MiniLM as one ONNX file, from tokens to a sentence embedding.

    Inputs ``input_ids`` and ``attention_mask``, int64 [batch, length]; output ``sentence_embedding``,
    float32 [batch, 384]: the mean over the tokens that are not padding, scaled to length 1, as the
    model card of all-MiniLM-L6-v2 computes it.
    """
    import torch
    from transformers import AutoModel

    class Sentence(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with models.quiet():
                self.bert = AutoModel.from_pretrained(str(models.minilm_folder()), add_pooling_layer=False)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids, attention_mask).last_hidden_state  # [batch, length, 384]
            real = attention_mask.unsqueeze(-1).to(hidden.dtype)  # [batch, length, 1]
            mean = (hidden * real).sum(1) / real.sum(1).clamp(min=1e-9)  # [batch, 384]
            return torch.nn.functional.normalize(mean, dim=1)

    ids = torch.ones((2, 16), dtype=torch.long)
    mask = torch.ones_like(ids)  # a tensor of its own: one tensor given twice is exported as one input
    size = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("length", min=2, max=512)}
    with models.quiet():
        torch.onnx.export(
            Sentence().eval(),
            (ids, mask),
            str(out),
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence_embedding"],
            dynamic_shapes={"input_ids": size, "attention_mask": size},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
