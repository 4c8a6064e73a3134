"""The teacher of Chinese: four edge models that learned Chinese alone, and their mean.

MiniLM does not read Chinese, so this teacher is of our own making. It knows no more words than the edge model
does, but the mistakes of several models differ in part (Hansen and Salamon 1990, "Neural Network Ensembles").
"""

from __future__ import annotations

from pathlib import Path

from kit.models.intent import save_intent
from kit.train import everything, train

NETS, EPOCHS = 4, 8
MIX = {"templates": 4000, "people": 4000, "not_a_command": 2500}  # sentences in an epoch


def build_teacher_zh(out: Path) -> None:
    """The artifact ``teacher.zh``: a folder of edge models."""
    out.mkdir()
    examples = [e for e in everything("train") if e.lang == "zh"]
    for seed in range(NETS):
        save_intent(train(examples, n=EPOCHS, mix=MIX, seed=seed), out / f"{seed}.safetensors")
