"""From tokens to text, as they come: never half a character, never the start of a stop sequence.

A token of SmolLM2 stands for bytes, and a character beyond ASCII takes two to four of them: it can be spread
over tokens. A screen must not show half of it.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import cache

from kit.engine import tokenizer


@cache
def token_bytes() -> tuple[bytes, ...]:
    """The bytes of each token, in the order of the vocabulary; of a special token none.

    The vocabulary writes every byte as a printable character (GPT-2's table); this turns them back.
    """
    from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

    back = {character: byte for byte, character in bytes_to_unicode().items()}
    special = {i for i, token in tokenizer().added_tokens_decoder.items() if token.special}
    words = tokenizer().convert_ids_to_tokens(list(range(len(tokenizer()))))
    return tuple(
        b"" if i in special else bytes(back[character] for character in word) for i, word in enumerate(words)
    )


def stop_sequences(stop: str | Sequence[str]) -> tuple[str, ...]:
    """One text or several as a tuple.

    Raises:
        TypeError: not a text, nor a sequence of texts.
        ValueError: an empty text, which would end every answer at once.
    """
    found = (stop,) if isinstance(stop, str) else stop
    if not isinstance(found, Sequence) or not all(isinstance(s, str) for s in found):
        raise TypeError(f"stop must be a text or a list of texts, got {stop!r}.")
    if "" in found:
        raise ValueError("stop must not hold an empty text: every answer contains it. Leave it out.")
    return tuple(found)


class TextStream:
    """Turns the tokens of one answer into text that can be shown at once.

    What may turn out to be the start of a stop sequence is held back until the next tokens decide.

    Args:
        stop: texts that end the answer; they are not part of it.

    Attributes:
        stopped: True once a stop sequence was found; what comes later is ignored.
    """

    def __init__(self, stop: str | Sequence[str] = ()) -> None:
        self._stops, self.stopped = stop_sequences(stop), False
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now, which can be empty."""
        return self._add(self._characters.decode(token_bytes()[token]), last=False)

    def finish(self) -> str:
        """The answer has ended: returns what was held back. Half a character becomes U+FFFD."""
        return self._add(self._characters.decode(b"", final=True), last=True)

    def _add(self, text: str, last: bool) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [at for at in map(self._held.find, self._stops) if at >= 0]
        if found:
            self.stopped, certain = True, self._held[: min(found)]
            self._held = ""
            return certain
        keep = 0 if last else max((_overlap(self._held, stop) for stop in self._stops), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` are the start of ``stop``, but not the whole of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
