"""One command, answered on the device and by clouds near and far: who is first, and by how much?

- ``ask``: the device, a cloud, a language model; the delay is drawn, the waiting is real
- ``compare``: who is first and who keeps the budget, in closed form
- ``figures`` and ``sentences``: what a result looks like, and what it says
"""

from kit.start_here.ask import (
    CLOUDS,
    Answer,
    Spoken,
    answer_on_device,
    answer_via_cloud,
    ask_llm,
    race,
    round_trips_ms,
    total_ms,
    typical,
    within,
)
from kit.start_here.compare import BUDGET_MS, WhatIf, cloud_by, what_if
from kit.start_here.figures import (
    break_even,
    clouds_table,
    response_times,
    tokens_over_time,
    two_models,
    where_the_time_goes,
)
from kit.start_here.sentences import read_hundred, read_race

__all__ = [
    "BUDGET_MS",
    "CLOUDS",
    "Answer",
    "Spoken",
    "WhatIf",
    "answer_on_device",
    "answer_via_cloud",
    "ask_llm",
    "break_even",
    "cloud_by",
    "clouds_table",
    "race",
    "read_hundred",
    "read_race",
    "response_times",
    "round_trips_ms",
    "tokens_over_time",
    "total_ms",
    "two_models",
    "typical",
    "what_if",
    "where_the_time_goes",
    "within",
]
