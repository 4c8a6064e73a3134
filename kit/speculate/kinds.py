"""Requests by how easy their answers are to guess."""

from __future__ import annotations

from kit.decode import requests
from kit.quantize import passages

SENTENCES = 4  # of a text to be quoted
TASKS = (
    "Repeat this text word for word: {}",
    "Copy this text and change nothing: {}",
    "Write this text again, each sentence on a line of its own: {}",
)


def kinds() -> dict[str, list[str]]:
    """Name of the kind -> requests. ``questions`` are the 40 of ``prompts.txt`` that hold no text to work on;
    none of them was seen when the drafts were trained. ``quotes`` ask for a text of ``passages.txt`` back."""
    texts = passages()
    starts = range(0, len(texts) - SENTENCES + 1, SENTENCES // 2)
    quotes = [
        TASKS[i % len(TASKS)].format(" ".join(texts[start : start + SENTENCES]))
        for i, start in enumerate(starts)
    ]
    return {"questions": requests()[:40], "quotes": quotes}
