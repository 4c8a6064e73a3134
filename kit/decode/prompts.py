"""The requests that the chapters on the language model run."""

from __future__ import annotations

from kit import artifacts


def requests() -> list[str]:
    """50 requests to an assistant, in English (``datasets/prompts.txt``)."""
    return (artifacts.DATASETS / "prompts.txt").read_text("utf-8").splitlines()
