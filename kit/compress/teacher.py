"""The teacher: MiniLM, fine-tuned on the English sentences that the edge model learns from.

It was pretrained on a billion pairs of sentences, so it knows before the first lesson that a *glare* is
light. It is trained twice. Two readers learn from the labelled sentences; then a fresh one learns from these,
and from what the two (and the edge model) say of 40,000 sentences that nobody labelled: self-training, after
Xie et al. 2020, "Self-training with Noisy Student". That takes a quarter of an hour, so the result is stored
beside this file, in 8 bits; ``python -m kit.compress.teacher`` makes it again.

It reads English only. Chinese has a teacher of its own, see ``committee``.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit import artifacts, data, models
from kit.compress.distil import hard
from kit.compress.unlabelled import sentences
from kit.data import Example
from kit.export import write_reader
from kit.models.intent import load_intent, logits
from kit.quantize import minilm_inputs
from kit.train import chatter, draw

STORED = Path(__file__).with_name("teacher.safetensors")
EPOCHS, BATCH, RATE = 6, 32, 3e-4
MIX = {"templates": 1500, "people": 1864, "not_a_command": 650}  # labelled sentences in an epoch
AROUND = 0.15  # share of the labelled sentences that get chatter around them
NEW, EACH = 40_000, 4_000  # sentences without labels, and how many of them in an epoch
VOTE = 0.3  # of the edge model, where the two readers together have 1
WORDS = "body.embeddings.word_embeddings.weight"  # never trained, so never stored

Taught = tuple[str, Tensor]
"""A sentence, and the probabilities [classes] that it should get."""


class Reader(nn.Module):
    """MiniLM, the mean of what it says at each token, and one linear layer.

    Its table of words is never trained: most words of a home do not occur in training.

    Args:
        classes: number of intents.
    """

    def __init__(self, classes: int = len(data.INTENTS)) -> None:
        super().__init__()
        self.body = models.minilm_torch()
        self.head = nn.Linear(384, classes)
        self.body.embeddings.word_embeddings.requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, int64 [batch, tokens] -> logits, float32 [batch, classes]."""
        said = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        real = attention_mask.unsqueeze(-1)  # [batch, tokens, 1]
        mean = (said * real).sum(1) / real.sum(1)  # [batch, 384]
        return self.head(F.dropout(mean, 0.1, self.training)).float()

    def read(self, texts: Sequence[str]) -> Tensor:
        """Logits of English texts, float32 [len(texts), classes]."""
        return self(**{name: torch.from_numpy(ids) for name, ids in minilm_inputs(texts).items()})


def batches(shown: Sequence[Taught], size: int, rng: random.Random) -> Iterator[Sequence[Taught]]:
    """Everything once, in batches of sentences of like length (little padding), in random order."""
    shuffled = rng.sample(list(shown), len(shown))
    found = []
    for start in range(0, len(shuffled), 16 * size):
        part = sorted(shuffled[start : start + 16 * size], key=lambda pair: len(pair[0]))
        found += [part[i : i + size] for i in range(0, len(part), size)]
    rng.shuffle(found)
    yield from found


def _groups(reader: Reader) -> list[dict]:
    """Parameters by layer: layers near the words change less (Howard and Ruder 2018, ULMFiT)."""
    layers = [reader.body.embeddings, *reader.body.encoder.layer]
    groups = [
        {"params": [p for p in layer.parameters() if p.requires_grad], "lr": RATE * 0.9 ** (len(layers) - i)}
        for i, layer in enumerate(layers)
    ]
    return [*groups, {"params": list(reader.head.parameters()), "lr": 10 * RATE}]


def train_reader(
    examples: Sequence[Example],
    *,
    more: Sequence[Taught] = (),
    n: int = EPOCHS,
    mix: Mapping[str, int] = MIX,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Reader:
    """Fine-tune MiniLM.

    Args:
        examples: English sentences with labels, of every kind in ``mix``.
        more: sentences with the probabilities that other models give them; ``EACH`` of them in an epoch.
        n: epochs.
        mix: labelled sentences per epoch by kind.
        seed: of the head, the draw and dropout.
        report: called after each epoch with its number and its mean loss.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    kinds = {kind: [e for e in examples if e.kind == kind] for kind in mix}
    talk = [e.text for e in kinds["not_a_command"]]
    reader, each = Reader(), min(EACH, len(more))
    steps = n * -(-(sum(mix.values()) + each) // BATCH)
    groups = _groups(reader)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, fused=True)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.1)
    for epoch in range(n):
        reader.train()
        known = [e for kind, size in mix.items() for e in draw(kinds[kind], size, rng)]
        texts = [chatter(e.text, talk, "en", rng) if rng.random() < AROUND else e.text for e in known]
        targets = hard(torch.from_numpy(data.labels(known)))
        shown = [*zip(texts, targets, strict=True), *rng.sample(list(more), each)]
        losses = []
        for batch in batches(shown, BATCH, rng):
            with torch.autocast("cpu", torch.bfloat16):
                said = reader.read([text for text, _ in batch])
            loss = F.cross_entropy(said.float(), torch.stack([target for _, target in batch]))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if report:
            report(epoch, float(np.mean(losses)))
    return reader.eval()


@torch.inference_mode()
def opinion(reader: Reader, texts: Sequence[str], batch: int = 64) -> Tensor:
    """What a reader in training says of many texts: probabilities, float32 [len(texts), classes]."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = torch.empty(len(texts), len(data.INTENTS))
    for start in range(0, len(texts), batch):
        rows = order[start : start + batch]
        with torch.autocast("cpu", torch.bfloat16):
            out[rows] = reader.read([texts[i] for i in rows]).float().softmax(-1)
    return out


def make_teacher(report: Callable[[str], None] = print) -> Reader:
    """Train the teacher from nothing but the labelled sentences and the edge model."""
    known = [e for kind in MIX for e in data.load(kind, "train", "en")]
    began = time.perf_counter()

    def told(what: str) -> Callable[[int, float], None]:
        return lambda n, loss: report(f"{what}, epoch {n}: {loss:.3f}, {time.perf_counter() - began:.0f} s")

    readers = [train_reader(known, seed=seed, report=told(f"reader {seed}")) for seed in (0, 1)]
    texts = sentences(NEW, seed=1)
    edge = torch.from_numpy(logits(load_intent(artifacts.get("intent.pt")), texts)).softmax(-1)
    said = (sum(opinion(reader, texts) for reader in readers) / 2 + VOTE * edge) / (1 + VOTE)
    report(f"{len(texts)} sentences labelled, {time.perf_counter() - began:.0f} s")
    return train_reader(known, more=list(zip(texts, said, strict=True)), seed=2, report=told("teacher"))


def save_reader(reader: Reader, path: Path) -> None:
    """Write a reader as safetensors: matrices in 8 bits with a scale for each row, the rest in 16 bits.

    MiniLM's table of words is left out: it is in the package with MiniLM's weights, and never changes.
    """
    from safetensors.torch import save_file

    stored = {}
    for name, w in reader.state_dict().items():
        if name == WORDS:
            continue
        if w.ndim == 2:
            scale = (w.abs().amax(1, keepdim=True) / 127).half().clamp(min=1e-7)
            stored[name] = (w / scale.float()).round().clamp(-127, 127).to(torch.int8)
            stored[f"{name}.scale"] = scale
        elif w.is_floating_point():
            stored[name] = w.half()
    about = {"base": "sentence-transformers/all-MiniLM-L6-v2", "licence": "Apache-2.0"}
    save_file({name: w.contiguous() for name, w in stored.items()}, path, about)


def load_reader(path: Path = STORED) -> Reader:
    """Read what ``save_reader`` wrote, as float32, ready for inference.

    Raises:
        FileNotFoundError: no such file.
    """
    from safetensors.torch import load_file

    if not path.exists():
        raise FileNotFoundError(f"no teacher at {path}: make it with python -m kit.compress.teacher.")
    stored, reader = load_file(path), Reader()
    for name, w in reader.state_dict().items():
        if f"{name}.scale" in stored:
            w.copy_(stored[name].float() * stored[f"{name}.scale"].float())
        elif name in stored:
            w.copy_(stored[name])
    return reader.eval()


def build_teacher(out: Path) -> None:
    """The artifact ``teacher.onnx``: the stored teacher as one file, from MiniLM's tokens to logits.

    Inputs ``input_ids`` and ``attention_mask``, int64 [batch, length]; output ``logits``, float32
    [batch, classes].
    """
    metadata = {
        "name": "teacher",
        "licence": "Apache-2.0",
        "languages": '["en"]',
        "labels": json.dumps(data.INTENTS),
    }
    write_reader(load_reader(), out, "logits", metadata)


if __name__ == "__main__":
    save_reader(make_teacher(lambda line: print(line, flush=True)), STORED)
    print(f"{STORED.name}: {STORED.stat().st_size / 1e6:.1f} MB")
