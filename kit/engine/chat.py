"""SmolLM2's tokenizer, and the form in which it reads a question."""

from __future__ import annotations

from functools import cache
from typing import Any

from kit import models


@cache
def tokenizer() -> Any:
    """SmolLM2's tokenizer, loaded once."""
    return models.smollm2_tokenizer()


def chat_ids(question: str) -> list[int]:
    """Tokens of a question in SmolLM2's chat format, ready for ``Engine.prefill``."""
    message = [{"role": "user", "content": question}]
    text = tokenizer().apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    return tokenizer()(text, add_special_tokens=False).input_ids  # the template wrote the first token
