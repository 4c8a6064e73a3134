"""The edge model: from raw UTF-8 bytes to an intent, with no tokenizer outside the graph.

It does not read word order beyond its longest n-gram, and it does not know what a word means:
what it never saw in training, it can only guess from the bytes around it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit import data

BASE = 257  # of the rolling hash


def _byte_table() -> Tensor:
    """What each byte becomes: capitals lower case, ASCII punctuation and control bytes a space."""
    table = torch.arange(256)
    for byte in range(128):
        c = chr(byte)
        table[byte] = ord(c.lower()) if c.isalnum() or c in "'%" else ord(" ")
    table[0] = 0  # padding stays padding
    return table.to(torch.int32)


class IntentNet(nn.Module):
    """Hashed byte n-grams, weighted and pooled, then a small head.

    1. Every n-gram of bytes becomes a bucket number by integer arithmetic on shifted bytes, inside
       the graph: a runtime needs to feed bytes and nothing else.
    2. A bucket has a weight, a vector and one vote per intent, all learned.
    3. The votes of a sentence add up, as in a linear model.
    4. Beside them, a small head reads the weighted mean of the vectors and the largest value that any
       position reaches in each dimension. A logit is vote plus head.

    The hashing trick: Weinberger et al. 2009; n-gram vectors pooled for classification: Joulin et
    al. 2016 (fastText); a linear model and a deep one added up: Cheng et al. 2016 (wide and deep).

    Args:
        classes: number of intents.
        sizes: n-grams of 1 to this many bytes.
        buckets: rows of the table; a prime spreads the hash well.
        dim: width of a vector.
        hidden: width of the head.
        rank: numbers that a bucket votes with; one small matrix makes them votes for the intents after they
            were added up. 0: one vote per intent, and no such matrix.
        dropout: share of the head's inputs, and of n-grams, dropped in training.
    """

    table: Tensor
    temperature: Tensor

    def __init__(
        self,
        classes: int = len(data.INTENTS),
        sizes: int = 6,
        buckets: int = 32749,
        dim: int = 64,
        hidden: int = 128,
        dropout: float = 0.4,
        rank: int = 0,
    ) -> None:
        super().__init__()
        self.config = {
            "classes": classes, "sizes": sizes, "buckets": buckets,
            "dim": dim, "hidden": hidden, "dropout": dropout, "rank": rank,
        }  # fmt: skip
        self.sizes, self.buckets, self.dropout = sizes, buckets, dropout
        self.vectors = nn.Embedding(buckets, dim)
        self.votes = nn.Embedding(buckets, rank or classes)
        self.spread = nn.Linear(rank, classes, bias=False) if rank else nn.Identity()
        self.weights = nn.Embedding(buckets, 1)
        self.head = nn.Sequential(
            nn.LayerNorm(2 * dim),
            nn.Dropout(dropout),
            nn.Linear(2 * dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )
        self.register_buffer("table", _byte_table(), persistent=False)
        self.register_buffer("temperature", torch.ones(()))  # set after training, see train.calibrate
        nn.init.normal_(self.vectors.weight, std=0.1)
        nn.init.zeros_(self.votes.weight)
        nn.init.zeros_(self.weights.weight)

    def ngrams(self, text: Tensor) -> Tensor:
        """Bucket of every n-gram by its last byte: int32 [batch, length] -> int32 [batch, length, sizes]."""
        text = self.table[text.long()]
        hashed, found = torch.zeros_like(text), []
        for n in range(self.sizes):  # the n-gram one byte longer: add the byte n places back
            shifted = F.pad(text, (n, 0))[:, : text.shape[1]]
            hashed = (hashed + shifted * (BASE**n % self.buckets)) % self.buckets
            found.append((hashed + 4099 * n) % self.buckets)
        return torch.stack(found, dim=-1)

    def forward(self, text: Tensor) -> Tensor:
        """UTF-8 bytes, int32 [batch, length], zero padded -> logits, float32 [batch, classes]."""
        real = (text > 0).unsqueeze(-1)  # [batch, length, 1]
        buckets = self.ngrams(text)  # [batch, length, sizes]
        vectors = self.vectors(buckets)  # [batch, length, sizes, dim]
        weights = self.weights(buckets).squeeze(-1).exp() * real  # [batch, length, sizes]
        if self.training:  # a sentence must not hang on one n-gram
            weights = weights * (torch.rand_like(weights) > self.dropout)
        scale = (weights * weights).sum((1, 2)).clamp(min=1e-6).rsqrt().unsqueeze(-1)  # [batch, 1]
        votes = (
            self.spread((self.votes(buckets) * weights.unsqueeze(-1)).sum((1, 2))) * scale
        )  # [batch, classes]
        mean = (vectors * weights.unsqueeze(-1)).sum((1, 2)) * scale  # [batch, dim]
        peak = F.gelu(vectors.sum(2)).masked_fill(~real, -1.0).amax(1)  # [batch, dim]
        return (votes + self.head(torch.cat([mean, peak], dim=-1))) / self.temperature


def save_intent(model: IntentNet, path: Path) -> None:
    """Write weights and configuration as safetensors: no code, so safe to load from strangers."""
    from safetensors.torch import save_file

    metadata = {"config": json.dumps(model.config), "labels": json.dumps(data.INTENTS)}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path, metadata)


def load_intent(path: Path) -> IntentNet:
    """Load what ``save_intent`` wrote, ready for inference."""
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        model = IntentNet(**json.loads(f.metadata()["config"]))
        model.load_state_dict({k: f.get_tensor(k) for k in f.keys()})  # noqa: SIM118
    return model.eval()


@torch.inference_mode()
def logits(model: nn.Module, texts: Sequence[str], batch: int = 256) -> np.ndarray:
    """Logits of each text: float32 [len(texts), classes]."""
    model.eval()
    encoded = torch.from_numpy(data.encode(texts))
    return torch.cat([model(part) for part in encoded.split(batch)]).numpy()
