"""Chapter 05: why is the language model slow, and what makes it fast?

- ``sampling``: from logits to the next token
- ``text``: from tokens to text that can be shown at once
- ``decoder``: the loop: prompt, prefill, tokens; streamed, stopped, cancelled
- ``memory``: the KV cache, and the same in INT8
- ``roofline``: bytes and operations of a token against this machine, and against the boxes in the facts
- ``speeds``: what the chapter times; ``engines``: other engines, recorded
- ``pages`` and ``builders``: large pages; the file that decodes fastest
- ``figures``, ``tables`` and ``sentences``: what a result looks like, and what it says
"""

from kit.decode.decoder import EOS, GREEDY, Answer, Decoder, Piece, common, generate_without_cache, prompt_ids
from kit.decode.engines import Speed, engines
from kit.decode.figures import (
    chances,
    conversation_mb,
    engine_bars,
    growth,
    llm_on_device,
    operators,
    roof,
    shown_while_waiting,
    tricks,
    word_bars,
)
from kit.decode.memory import int8_cache, kv_bytes, scales
from kit.decode.pages import large_pages
from kit.decode.prompts import requests
from kit.decode.roofline import (
    Near,
    OnDevice,
    Work,
    bound_by_memory,
    kernel_gops,
    near_the_roof,
    on_device,
    weights,
    work_of,
)
from kit.decode.sampling import Picker, Sampling, draw, nucleus, penalise, probabilities
from kit.decode.sentences import (
    cache_gain,
    read_engines,
    read_growth,
    read_int8_kv,
    read_prefix,
    read_roof,
    read_stream,
)
from kit.decode.speeds import by_operator, reading, steps
from kit.decode.tables import boxes_table, claims_table, device_table, int8_kv_table, near_table
from kit.decode.text import TextStream, stop_sequences, token_bytes

__all__ = [
    "EOS",
    "GREEDY",
    "Answer",
    "Decoder",
    "Near",
    "OnDevice",
    "Picker",
    "Piece",
    "Sampling",
    "Speed",
    "TextStream",
    "Work",
    "bound_by_memory",
    "boxes_table",
    "by_operator",
    "cache_gain",
    "chances",
    "claims_table",
    "common",
    "conversation_mb",
    "device_table",
    "draw",
    "engine_bars",
    "engines",
    "generate_without_cache",
    "growth",
    "int8_cache",
    "int8_kv_table",
    "kernel_gops",
    "kv_bytes",
    "large_pages",
    "llm_on_device",
    "near_table",
    "near_the_roof",
    "nucleus",
    "on_device",
    "operators",
    "penalise",
    "probabilities",
    "prompt_ids",
    "read_engines",
    "read_growth",
    "read_int8_kv",
    "read_prefix",
    "read_roof",
    "read_stream",
    "reading",
    "requests",
    "roof",
    "scales",
    "shown_while_waiting",
    "steps",
    "stop_sequences",
    "token_bytes",
    "tricks",
    "weights",
    "word_bars",
    "work_of",
]
