"""The general language model, asked in a prompt: which of these intents is it?

It gets all help that needs no training. One example of each intent stands in the prompt; it may answer
with nothing but an intent, and each of them is scored as a whole; and what it prefers whatever it is asked
is taken off (contextual calibration: Zhao et al. 2021, "Calibrate Before Use").
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from kit import artifacts, data, measure
from kit.engine import Engine, tokenizer
from kit.measure import Timing

CONTEXT = 1536  # tokens
SENTENCES = 100  # of people, in the artifact
NOTHING = ("n/a", "hello", "please do something")  # what it says to these is prejudice
END = 2  # the token that ends an answer


def in_words(intent: str) -> str:
    """An intent as a language model reads it best: ``"TurnOn"`` -> ``"turn on"``."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", intent).lower()


@cache
def prompt(seed: int = 0) -> list[int]:
    """Tokens of the prompt up to the sentence: the task, and one training sentence of each intent."""
    messages = [{"role": "system", "content": "You sort what people say to a smart home."}]
    known = [e for kind in ("people", "templates", "not_a_command") for e in data.load(kind, "train", "en")]
    for intent in random.Random(seed).sample(data.INTENTS, len(data.INTENTS)):
        example = next(e.text for e in known if e.label == intent)
        messages += [{"role": "user", "content": example}, {"role": "assistant", "content": in_words(intent)}]
    text = tokenizer().apply_chat_template(messages, tokenize=False)
    return tokenizer()(text, add_special_tokens=False).input_ids


@cache
def _answers() -> list[list[int]]:
    """Tokens of each intent, and of the end of the answer."""
    return [[*tokenizer()(in_words(intent)).input_ids, END] for intent in data.INTENTS]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    z = logits.astype(np.float64)
    z -= z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def _turn(text: str) -> list[int]:
    """Tokens of one more question in the chat, up to where the answer starts."""
    turn = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer()(turn, add_special_tokens=False).input_ids


def _scores(engine: Engine, text: str) -> np.ndarray:
    """Log-probability of each intent as the answer to ``text``, float64 [classes]."""
    engine.past = len(prompt())  # forget the sentence before
    first = _log_softmax(engine.prefill(_turn(text)))
    asked, found = engine.past, []
    for answer in _answers():
        engine.past = asked
        rest = _log_softmax(engine.forward(answer[:-1]))
        found.append(first[answer[0]] + sum(rest[i, token] for i, token in enumerate(answer[1:])))
    return np.array(found)


def ask_llm(engine: Engine, texts: Sequence[str]) -> np.ndarray:
    """The intent that the language model finds likeliest for each sentence: class, int64 [len(texts)].

    The prompt is read once; its keys and values stay in the cache for all sentences.

    Args:
        engine: SmolLM2, opened with ``context=CONTEXT``.
        texts: English sentences.
    """
    engine.reset()
    engine.prefill(prompt())
    prejudice = np.mean([_scores(engine, text) for text in NOTHING], axis=0)
    return np.array([(_scores(engine, text) - prejudice).argmax() for text in texts], np.int64)


def build_llm(out: Path, smollm2: Path) -> None:
    """The artifact ``compress.llm``: what SmolLM2 says of ``SENTENCES`` test sentences of people, and of each
    the true class; JSON."""
    asked = random.Random(0).sample(data.load("people", "test", "en"), SENTENCES)
    said = ask_llm(Engine(smollm2, context=CONTEXT), [e.text for e in asked])
    out.write_text(json.dumps({"said": said.tolist(), "true": data.labels(asked).tolist()}))


def plain_answer(engine: Engine, text: str, tokens: int = 5) -> int:
    """Ask as an application would: read the sentence after the prompt in the cache, and write a few tokens.

    Args:
        engine: SmolLM2, with the prompt read: ``ask_llm`` did that.
        text: an English sentence.
        tokens: written.

    Returns:
        The last token; what counts here is the time.
    """
    engine.past = len(prompt())
    return list(engine.generate(_turn(text), tokens, eos=None))[-1]


def llm_time(engine: Engine, text: str) -> Timing:
    """Time of a plain answer after the prompt was read, in ms."""
    engine.reset()
    engine.prefill(prompt())
    return measure.timeit(lambda: plain_answer(engine, text), repeats=8, warmup=1)


def llm_right() -> tuple[float, float, float]:
    """The artifact ``compress.llm``: accuracy on people's English in percent, with its interval."""
    found = json.loads(artifacts.get("compress.llm").read_text())
    return measure.accuracy(np.array(found["said"]) == np.array(found["true"]))
