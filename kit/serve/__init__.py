"""Chapter 08: a server that speaks the OpenAI API, and a load generator to hold it against.

- ``app``: the paths; ``door``: what every request passes; ``schemas``, ``errors``: its forms
- ``answers``: from a request to its answer; ``writer``: the thread that drives chapter 07's batcher;
  ``speculating``: chapter 06 in its place; ``places``: its queue; ``logprobs``, ``prompts``
- ``shelf``: models by name, swapped while they answer; ``manifest``: files are checked first; ``upstream``:
  other servers behind ours
- ``keys``, ``limits``, ``filters``; ``metrics``, ``telemetry``, ``alerts``; ``settings``, ``run``
- ``load``: the load generator; ``wires``: HTTP/1.1, HTTP/2, gRPC; ``theory``: queues with an end
- ``trials``, ``figures``, ``tables``, ``sentences``: what the chapter tries, and what it shows
"""

from kit.arrivals import gamma, poisson, recorded
from kit.serve.app import create_app
from kit.serve.figures import arrivals, first_tokens, load_lines
from kit.serve.keys import add as add_key
from kit.serve.load import Ask, Report, drive
from kit.serve.run import Started, free_port, launch, run, started
from kit.serve.sentences import (
    busy,
    fastest,
    read_hang_up,
    read_load,
    read_overhead,
    read_swap,
    read_trace,
    read_wires,
)
from kit.serve.settings import ModelSettings, Settings
from kit.serve.settings import load as load_settings
from kit.serve.tables import agreement_table, load_table, outcomes_table, refusals_table, wires_table
from kit.serve.theory import Steady, queue_sizes, steady
from kit.serve.trials import (
    capacity_rps,
    closed_loop_ttft_ms,
    gauges,
    hang_up,
    on_the_wire,
    overhead_ms,
    refusals,
    swap_under_load,
    under_load,
    wait_for,
)
from kit.serve.wires import PROTO, calls_per_s, direct_ms, wires

__all__ = [
    "PROTO",
    "Ask",
    "ModelSettings",
    "Report",
    "Settings",
    "Started",
    "Steady",
    "add_key",
    "agreement_table",
    "arrivals",
    "busy",
    "calls_per_s",
    "capacity_rps",
    "closed_loop_ttft_ms",
    "create_app",
    "direct_ms",
    "drive",
    "fastest",
    "first_tokens",
    "free_port",
    "gamma",
    "gauges",
    "hang_up",
    "launch",
    "load_lines",
    "load_settings",
    "load_table",
    "on_the_wire",
    "outcomes_table",
    "overhead_ms",
    "poisson",
    "queue_sizes",
    "read_hang_up",
    "read_load",
    "read_overhead",
    "read_swap",
    "read_trace",
    "read_wires",
    "recorded",
    "refusals",
    "refusals_table",
    "run",
    "started",
    "steady",
    "swap_under_load",
    "under_load",
    "wait_for",
    "wires",
    "wires_table",
]
