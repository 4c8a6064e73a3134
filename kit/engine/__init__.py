"""One ONNX Runtime session, run as fast as it can be.

- ``sessions``: how every session of the kit is opened, and threads that sessions share
- ``core``: a decoder with a KV cache that stays in place: prefill, step, several rows
- ``chat``: SmolLM2's tokenizer and chat format
"""

from kit.engine.chat import chat_ids, tokenizer
from kit.engine.core import ContextFull, Engine
from kit.engine.sessions import session, session_options, share_threads, shares_threads

__all__ = [
    "ContextFull",
    "Engine",
    "chat_ids",
    "session",
    "session_options",
    "share_threads",
    "shares_threads",
    "tokenizer",
]
