"""As much of the OpenAI API's forms as the replaying server needs to answer in them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any


def said(asked: Mapping[str, Any]) -> str:
    """What is asked: the last message, the prompt, or the first text."""
    if asked.get("messages"):
        content = asked["messages"][-1].get("content", "")
        return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)
    found = asked.get("prompt", asked.get("input", ""))
    return found if isinstance(found, str) else str(found[0]) if found else ""


def usage(asked: Mapping[str, Any], tokens: int) -> dict[str, int]:
    prompt = -(-len(said(asked)) // 4)
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def envelope(path: str, answer: Mapping[str, Any], stream: bool = True) -> dict[str, Any]:
    kind = ("chat.completion.chunk" if stream else "chat.completion") if "chat" in path else "text_completion"
    return {"id": "replay", "object": kind, "created": int(time.time()), "model": answer["model"]}


def event(path: str, answer: Mapping[str, Any], word: str, last: bool) -> dict[str, Any]:
    what = {"delta": {"role": "assistant", "content": word}} if "chat" in path else {"text": word}
    choice = {"index": 0, **what, "finish_reason": "stop" if last else None}
    return envelope(path, answer) | {"choices": [choice]}


def whole(path: str, asked: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    text = str(answer.get("text", "An answer."))
    if path.endswith("classify"):
        sure = float(answer.get("confidence") or 1.0)
        found = {
            "index": 0,
            "label": answer.get("label", "TurnOn"),
            "probs": [sure, 1 - sure],
            "num_classes": 2,
        }
        count = {"prompt_tokens": len(said(asked)), "total_tokens": len(said(asked))}
        return {"id": "replay", "object": "list", "model": answer["model"], "data": [found], "usage": count}
    what = {"message": {"role": "assistant", "content": text}} if "chat" in path else {"text": text}
    choice = {"index": 0, **what, "finish_reason": "stop"}
    return envelope(path, answer, False) | {"choices": [choice], "usage": usage(asked, len(text.split()))}
