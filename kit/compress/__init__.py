"""Chapter 04: can a big model teach a small one, and what can be cut away?

- ``teacher``, ``chinese``: the teachers; ``unlabelled``, ``labels``: what they say of new sentences
- ``distil``: how the edge model learns from that; ``runs``: recorded trainings over five seeds
- ``prune``, ``lowrank``, ``qat``: cuts; ``study``: cuts of many sizes, trained on; ``search``: other shapes
- ``exam``: what a model answers; ``cost``: what it takes; ``router``: would a router notice?
- ``llm``: the general language model, asked the same
- ``figures``, ``tables``, ``sentences``: what the notebook shows; ``builders``: how the artifacts are made
"""

from kit.compress.cost import (
    candidates,
    operators,
    padding_times,
    sentence_times,
    sparse_product,
    speed_choice,
)
from kit.compress.distil import hard, lessons, soft_loss, soften, teach
from kit.compress.exam import Answers, by_frequency, examine, examine_file, examine_teacher
from kit.compress.figures import (
    bits_curve,
    forgotten,
    noticed,
    one_picture,
    operator_bars,
    seeds,
    shape_front,
    soft_targets,
    sparse_lines,
    teacher_bars,
    zeros_curve,
)
from kit.compress.labels import ask_teacher, labels
from kit.compress.llm import CONTEXT, ask_llm, llm_right, llm_time, prompt
from kit.compress.lowrank import factor
from kit.compress.prune import layers, prune, settled, sizes_mb, slim
from kit.compress.qat import Rounding, rounding
from kit.compress.router import cascade
from kit.compress.runs import closed, runs
from kit.compress.search import CHOSEN, write_edge
from kit.compress.sentences import (
    read_bits,
    read_choice,
    read_cost,
    read_forgotten,
    read_int8,
    read_labels,
    read_noticed,
    read_padding,
    read_qat,
    read_runs,
    read_short,
    read_sparse,
    read_teacher,
    read_zeros,
)
from kit.compress.study import by_bits, by_share, study, tuned
from kit.compress.tables import (
    answers_table,
    budget_table,
    claims_table,
    cost_table,
    cut_card,
    cuts_table,
    opinions,
    rescued,
    runs_table,
    sparse_table,
)
from kit.compress.unlabelled import neighbours, sentences

__all__ = [
    "CHOSEN",
    "CONTEXT",
    "Answers",
    "Rounding",
    "answers_table",
    "ask_llm",
    "ask_teacher",
    "bits_curve",
    "budget_table",
    "by_bits",
    "by_frequency",
    "by_share",
    "candidates",
    "cascade",
    "claims_table",
    "closed",
    "cost_table",
    "cut_card",
    "cuts_table",
    "examine",
    "examine_file",
    "examine_teacher",
    "factor",
    "forgotten",
    "hard",
    "labels",
    "layers",
    "lessons",
    "llm_right",
    "llm_time",
    "neighbours",
    "noticed",
    "one_picture",
    "operator_bars",
    "operators",
    "opinions",
    "padding_times",
    "prompt",
    "prune",
    "read_bits",
    "read_choice",
    "read_cost",
    "read_forgotten",
    "read_int8",
    "read_labels",
    "read_noticed",
    "read_padding",
    "read_qat",
    "read_runs",
    "read_short",
    "read_sparse",
    "read_teacher",
    "read_zeros",
    "rescued",
    "rounding",
    "runs",
    "runs_table",
    "seeds",
    "sentence_times",
    "sentences",
    "settled",
    "shape_front",
    "sizes_mb",
    "slim",
    "soft_loss",
    "soft_targets",
    "soften",
    "sparse_lines",
    "sparse_product",
    "sparse_table",
    "speed_choice",
    "study",
    "teach",
    "teacher_bars",
    "tuned",
    "write_edge",
    "zeros_curve",
]
