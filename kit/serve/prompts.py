"""From messages and texts to tokens."""

from __future__ import annotations

from collections.abc import Sequence

from kit.engine import tokenizer
from kit.serve.errors import ApiError
from kit.serve.schemas import ChatRequest, CompletionRequest, Message

ROLES = {"developer": "system"}  # OpenAI's new word for it
CHARACTERS_A_TOKEN = 4


def chat_tokens(messages: Sequence[Message]) -> list[int]:
    """Tokens of a conversation in SmolLM2's chat format, ready for its answer."""
    told = [{"role": ROLES.get(m.role, m.role), "content": m.text()} for m in messages]
    text = tokenizer().apply_chat_template(told, add_generation_prompt=True, tokenize=False)
    return tokenizer()(text, add_special_tokens=False).input_ids  # the template wrote the first token


def prompt_tokens(body: ChatRequest | CompletionRequest) -> list[list[int]]:
    """Tokens of each prompt of a request.

    Raises:
        ApiError: a prompt without tokens.
    """
    if isinstance(body, ChatRequest):
        return [chat_tokens(body.messages)]
    found = [
        p if isinstance(p, list) else tokenizer()(p, add_special_tokens=False).input_ids
        for p in body.prompts()
    ]
    if not all(found):
        raise ApiError(
            400, "A prompt is empty: the model needs at least one token.", "empty_prompt", "prompt"
        )
    return found


def count(body: ChatRequest | CompletionRequest) -> int:
    """About how many tokens a request has, where the tokenizer is somebody else's."""
    if isinstance(body, ChatRequest):
        return sum(len(m.text()) for m in body.messages) // CHARACTERS_A_TOKEN + 1
    return sum(len(p) if isinstance(p, list) else len(p) // CHARACTERS_A_TOKEN + 1 for p in body.prompts())
