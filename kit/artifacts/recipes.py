"""Every artifact of the kit, and how it is made. A new chapter adds its lines to ``RECIPES``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How one artifact is made.

    Attributes:
        name: what callers ask for, such as ``"intent.int8"``.
        file: name of the file (or folder) that the builder must leave.
        builder: ``"module:function"``, imported only when it runs. It is called as
            ``function(out, *parents)``: ``out`` is the path to write, ``parents`` the paths
            of ``needs`` in their order.
        needs: names of the artifacts it is made from.
        seconds: what to expect on two cores, for the progress bar.
        mb: size to expect, for the check of free disk space.
        sources: what its fingerprint depends on besides the builder's module: other modules
            (``"kit.data"``), files in ``datasets/`` (``"people.csv"``), and weights stored in the package
            (``"kit/compress/teacher.safetensors"``).
    """

    name: str
    file: str
    builder: str
    needs: tuple[str, ...] = ()
    seconds: float = 10
    mb: float = 10
    sources: tuple[str, ...] = ()


_INTENT = (
    "kit.data",
    "kit.models.intent",
    "kit.train.loop",
    "kit.train.confidence",
    "people.csv",
    "questions.csv",
    "phrases.csv",
)
_GRAPHS = ("kit.quantize.graphs", "kit.quantize.by_hand")

_TAUGHT = (*_INTENT, "kit.compress.distil")

# In the order of the chapters.
# fmt: off
RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe("intent.pt", "intent.safetensors", "kit.train.loop:build_intent", (), 80, 15, _INTENT),
        Recipe("train.study", "study.json", "kit.train.study:build_study", (), 70, 1,
               (*_INTENT, "kit.train.judge")),
        Recipe("intent.onnx", "intent.onnx", "kit.export.builders:build_intent", ("intent.pt",), 10, 15),
        Recipe("minilm.onnx", "minilm.onnx", "kit.export.builders:build_minilm", (), 15, 95),
        Recipe("smollm2.hf", "smollm2-hf", "kit.export.builders:build_smollm2_hf", (), 10, 545),
        Recipe("smollm2.plain", "smollm2-plain", "kit.export.builders:build_smollm2_plain",
               ("smollm2.hf",), 60, 545),
        Recipe("smollm2.fp32", "smollm2.fp32.onnx", "kit.quantize.builders:build_smollm2_fp32",
               ("smollm2.hf",), 10, 545),
        Recipe("intent.int8", "intent.int8.onnx", "kit.quantize.builders:build_intent_int8",
               ("intent.onnx",), 5, 4, _GRAPHS),
        Recipe("minilm.int8", "minilm.int8.onnx", "kit.quantize.builders:build_minilm_int8",
               ("minilm.onnx",), 5, 25, _GRAPHS),
        Recipe("minilm.heads", "minilm.heads.npz", "kit.quantize.heads:build_minilm_heads",
               ("minilm.onnx",), 10, 1, ("kit.data", "kit.quantize.quality", "people.csv", "phrases.csv")),
        Recipe("smollm2.int8", "smollm2.int8.onnx", "kit.quantize.builders:build_smollm2_int8",
               ("smollm2.fp32",), 10, 140, _GRAPHS),
        Recipe("smollm2.int4", "smollm2.int4.onnx", "kit.quantize.builders:build_smollm2_int4",
               ("smollm2.fp32",), 10, 100, _GRAPHS),
        Recipe("teacher.onnx", "teacher.onnx", "kit.compress.teacher:build_teacher", (), 10, 95,
               ("kit.export.builders", "kit/compress/teacher.safetensors")),
        Recipe("teacher.zh", "teacher.zh", "kit.compress.chinese:build_teacher_zh", (), 120, 55, _INTENT),
        Recipe("teacher.labels", "labels.npz", "kit.compress.labels:build_labels",
               ("teacher.onnx", "teacher.zh"), 120, 5, (*_INTENT, "kit.compress.unlabelled")),
        Recipe("intent.taught", "taught.safetensors", "kit.compress.builders:build_taught",
               ("teacher.labels",), 120, 15, _TAUGHT),
        Recipe("intent.small", "small.safetensors", "kit.compress.builders:build_small",
               ("teacher.labels",), 80, 5, _TAUGHT),
        Recipe("intent.qat", "qat.safetensors", "kit.compress.builders:build_qat",
               ("intent.taught", "teacher.labels"), 15, 15,
               (*_TAUGHT, *(f"kit.compress.{m}" for m in ("prune", "qat", "study")))),
        Recipe("compress.study", "study.json", "kit.compress.study:build_study",
               ("intent.taught", "teacher.labels"), 160, 1,
               (*_TAUGHT, *(f"kit.compress.{m}" for m in ("exam", "lowrank", "prune", "qat")))),
        Recipe("compress.search", "search", "kit.compress.search:build_search", ("teacher.labels",), 160, 90,
               (*_TAUGHT, "kit.export.builders")),
        Recipe("compress.llm", "llm.json", "kit.compress.llm:build_llm", ("smollm2.int8",), 70, 1,
               ("kit.data", "people.csv")),
        Recipe("smollm2.fast", "smollm2.fast.onnx", "kit.decode.builders:build_fast",
               ("smollm2.int4", "smollm2.fp32"), 25, 110,
               ("kit.decode.sampling", "kit.quantize.by_hand", "prompts.txt")),
        Recipe("smollm2.drafts", "smollm2.drafts", "kit.speculate.builders:build_drafts", ("smollm2.hf",),
               15, 75, (*_GRAPHS, "kit.speculate.graphs", "kit.speculate.stored",
                        "kit/speculate/drafts.safetensors")),
    )
}
# fmt: on
