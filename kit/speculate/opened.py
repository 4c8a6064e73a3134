"""Targets and drafts, ready to use."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from kit import artifacts
from kit.engine import Engine, shares_threads
from kit.speculate.builders import WORDS_FILE
from kit.speculate.core import Draft
from kit.speculate.drafts import Head, NGram, SmallModel
from kit.speculate.graphs import with_hidden

DRAFTS = ("ngram", "small", "head", "twin")
TWIN = "smollm2.int8"  # nearly always right about the FP32 file, at a third of its time


def _settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Target and draft take turns: threads that wait must not keep a core busy, unless all share them."""
    return settings if shares_threads() else {"spin": False} | settings


def open_target(name: str = "smollm2.fp32", **settings: Any) -> Engine:
    """A language model of the kit that shows its hidden states, so that every draft fits.

    Args:
        name: the artifact: ``smollm2.fp32``, ``.int8``, ``.int4`` or ``.fast``.
        settings: of the ``Engine``.
    """
    model = with_hidden(onnx.load(artifacts.get(name)))
    return Engine(model.SerializeToString(), **_settings(settings))


def open_draft(name: str, **settings: Any) -> Draft:
    """A draft for SmolLM2.

    Args:
        name: ``"ngram"``, ``"small"``, ``"head"``, or ``"twin"``: the target itself, in INT8.
        settings: of the draft's ``Engine``, where it has one; its context must be that of the target.

    Raises:
        ValueError: another name.
    """
    if name not in DRAFTS:
        raise ValueError(f"there are the drafts {', '.join(DRAFTS)}, not {name!r}.")
    if name == "ngram":
        return NGram()
    if name == "twin":
        engine = Engine(artifacts.get(TWIN), **_settings(settings))
        return SmallModel(engine, np.arange(engine.vocab))
    folder = artifacts.get("smollm2.drafts")
    kind = {"small": SmallModel, "head": Head}[name]
    return kind(Engine(folder / f"{name}.onnx", **_settings(settings)), np.load(folder / WORDS_FILE))
