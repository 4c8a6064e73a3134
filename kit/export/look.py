"""What is in a model file: its header, its metadata, and its tensors by type. Nothing is executed."""

from __future__ import annotations

import json
import math
import pickletools
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file; ``bytes`` is the room that it takes there."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Contents:
    """A model file, read as far as its tables of contents.

    Attributes:
        header: what the format says about the file.
        metadata: what its author wrote into it.
        tensors: what the weights are called, their types, shapes and sizes.
    """

    header: dict[str, str]
    metadata: dict[str, Any] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)


def read(path: str | Path) -> Contents:
    """Read the contents of a ``.safetensors``, ``.onnx``, ``.gguf`` or ``.pt`` file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, or a file that is not what its name says.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    if path.suffix not in _READERS:
        raise ValueError(f"{path.name}: the formats read here are {', '.join(_READERS)}.")
    return _READERS[path.suffix](path)


def inside(path: str | Path) -> list[dict[str, str]]:
    """The contents of a model file as rows for a table: ``part``, ``name``, ``value``. Raises as ``read``."""
    contents = read(path)
    rows = [{"part": "header", "name": name, "value": value} for name, value in contents.header.items()]
    rows += [
        {"part": "metadata", "name": name, "value": _short(value)}
        for name, value in contents.metadata.items()
    ]
    for dtype in sorted({t.dtype for t in contents.tensors}):
        group = [t for t in contents.tensors if t.dtype == dtype]
        values, size = sum(math.prod(t.shape) for t in group), sum(t.bytes for t in group)
        text = f"{len(group)} tensor{'s' * (len(group) > 1)}, {values:,} values, {size / 1e6:,.3g} MB"
        rows.append({"part": "tensors", "name": dtype, "value": text})
    return rows


def _short(value: Any, width: int = 90) -> str:
    if isinstance(value, list):
        return f"{len(value):,} values, first {_short(value[:3], 60)}" if len(value) > 3 else str(value)
    text = " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _safetensors(path: Path) -> Contents:
    """Eight bytes hold the length of a JSON text; the JSON says where each tensor lies; then the tensors."""
    size = path.stat().st_size
    with path.open("rb") as f:
        (length,) = struct.unpack("<Q", f.read(8).ljust(8, b"\0"))
        if not 2 <= length <= size - 8:
            raise ValueError(
                f"{path.name} is not a safetensors file: its header would be {length} bytes long."
            )
        table = json.loads(f.read(length))
    metadata = table.pop("__metadata__", {})
    tensors = [
        Tensor(name, t["dtype"], tuple(t["shape"]), t["data_offsets"][1] - t["data_offsets"][0])
        for name, t in table.items()
    ]
    return Contents({"format": "safetensors", "JSON header": f"{length:,} bytes"}, metadata, tensors)


def _onnx(path: Path) -> Contents:
    """A protobuf message: a graph of operators, its inputs and outputs, and the weights."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    operators = Counter(node.op_type for node in model.graph.node)
    header = {
        "format": f"ONNX, IR version {model.ir_version}",
        "operator sets": ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import),
        "written by": f"{model.producer_name} {model.producer_version}".strip(),
        "inputs": _values(model.graph.input),
        "outputs": _values(model.graph.output),
        "operators": _counted(operators),
    }
    tensors = []
    for t in model.graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t.data_type)
        name = onnx.TensorProto.DataType.Name(t.data_type)
        tensors.append(Tensor(t.name, name, tuple(t.dims), math.prod(t.dims) * dtype.itemsize))
    return Contents(header, {p.key: p.value for p in model.metadata_props}, tensors)


def _counted(operators: Counter[str], most: int = 8) -> str:
    """``94: Mul 15, Add 14, and 65 more``."""
    common = operators.most_common(most)
    more = operators.total() - sum(n for _, n in common)
    texts = [f"{op} {n}" for op, n in common] + ([f"and {more} more"] if more else [])
    return f"{operators.total()}: {', '.join(texts)}"


def _values(infos: Any) -> str:
    """``bytes int32 [batch, length]``; of many, the first three."""
    import onnx

    texts = []
    for info in list(infos)[:3]:
        tensor = info.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        texts.append(
            f"{info.name} {dtype} [{', '.join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)}]"
        )
    more = len(infos) - len(texts)
    return ", ".join(texts) + (f", and {more} more" if more else "")


# GGUF's types of metadata, by number: how struct reads them. 8 is a string, 9 an array.
_GGUF = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}


def _number(f: BinaryIO, code: str) -> Any:
    raw = f.read(struct.calcsize("<" + code))
    return struct.unpack("<" + code, raw)[0]


def _gguf_value(f: BinaryIO, kind: int) -> Any:
    if kind == 8:
        return f.read(_number(f, "Q")).decode("utf-8", "replace")
    if kind == 9:
        of, count = _number(f, "I"), _number(f, "Q")
        return [_gguf_value(f, of) for _ in range(count)]
    return _number(f, _GGUF[kind])


def _gguf(path: Path) -> Contents:
    """Magic, version, counts; metadata as key, type, value; then name, shape, type, place of each tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    with path.open("rb") as f:
        if f.read(4) != b"GGUF":
            raise ValueError(f"{path.name} is not a GGUF file: it does not begin with the letters GGUF.")
        version, n_tensors, n_metadata = _number(f, "I"), _number(f, "Q"), _number(f, "Q")
        metadata = {_gguf_value(f, 8): _gguf_value(f, _number(f, "I")) for _ in range(n_metadata)}
        tensors = []
        for _ in range(n_tensors):
            name = _gguf_value(f, 8)
            shape = tuple(_number(f, "Q") for _ in range(_number(f, "I")))  # fastest dimension first
            dtype, _offset = GGMLQuantizationType(_number(f, "I")), _number(f, "Q")
            block, block_bytes = GGML_QUANT_SIZES[dtype]  # Q4_1: 32 values in 20 bytes
            tensors.append(Tensor(name, dtype.name, shape, math.prod(shape) // block * block_bytes))
    header = {"format": f"GGUF, version {version}", "tensors": str(n_tensors), "metadata": str(n_metadata)}
    return Contents(header, metadata, tensors)


def _pt(path: Path) -> Contents:
    """A zip with a pickle: a small program that unpickling would run. It is listed here, and never run."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path.name} is no zip, so it is one bare pickle, or damaged. It is not opened here."
        )
    header = {"format": "torch.save: a zip with a pickle"}
    calls: set[str] = set()
    with zipfile.ZipFile(path) as z:
        for member in z.infolist():
            header[member.filename] = f"{member.file_size:,} bytes"
            if member.filename.endswith(".pkl"):
                calls |= _imports(z.read(member))
    header["loading it would import"] = ", ".join(sorted(calls))
    header["why it is not loaded"] = (
        "a pickle may import and call anything, os.system included: load files of strangers "
        "from safetensors, ONNX or GGUF, which hold data only"
    )
    return Contents(header)


def _imports(pickle: bytes) -> set[str]:
    """Names that unpickling would import, found by reading the pickle's instructions."""
    names, strings = set(), []
    for op, arg, _ in pickletools.genops(pickle):
        if op.name == "GLOBAL":
            names.add(str(arg).replace(" ", "."))
        elif op.name == "STACK_GLOBAL":  # takes the two strings before it
            names.add(".".join(strings[-2:]))
        elif isinstance(arg, str):
            strings.append(arg)
    return names


_READERS: dict[str, Callable[[Path], Contents]] = {
    ".safetensors": _safetensors,
    ".onnx": _onnx,
    ".gguf": _gguf,
    ".pt": _pt,
}
