"""What breaks an export, as small as it can be: each module that fails stands beside the one that works."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kit import models


class DataDependent(nn.Module):
    """Turns a signal upright. The exporter has no numbers: which way should ``if`` go?"""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


class DataDependentMended(nn.Module):
    """The same answer with the choice inside the graph: both branches are computed, ``where`` takes one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x.sum() > 0, x, -x)


class MedianOverTime(nn.Module):
    """The median of each row, [batch, time] -> [batch]. ONNX has no such operator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.median(dim=1).values


class MedianOverTimeMended(nn.Module):
    """The same from operators that ONNX has: sort, and take the middle (of two, the lower, as torch does)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(dim=1).values[:, (x.shape[1] - 1) // 2]


class LookUp(nn.Module):
    """A table read at 32-bit places, int32 [n] -> float32 [n]. It exports, and breaks ONNX's rules."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(10.0))

    def forward(self, place: torch.Tensor) -> torch.Tensor:
        return self.table[place]


class LookUpMended(LookUp):
    """The same with 64-bit places, the only ones that ONNX's GatherND allows."""

    def forward(self, place: torch.Tensor) -> torch.Tensor:
        return self.table[place.long()]


def try_export(module: nn.Module, args: tuple[Any, ...]) -> str:
    """Try to export ``module`` and say how it went.

    Args:
        module: any torch module.
        args: example inputs.

    Returns:
        ``"exported"``, or the line of the error that names the cause. The exporter's full report is
        many pages long; the cause is in the innermost exception. What was exported is also checked
        against ONNX's rules; only ``full_check`` sees that a type is not allowed.
    """
    import onnx

    try:
        with models.quiet():
            program: Any = torch.onnx.export(module.eval(), args, dynamo=True, verbose=False)
        onnx.checker.check_model(program.model_proto, full_check=True)
    except torch.onnx.OnnxExporterError as e:
        cause: BaseException = e
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return str(cause).strip().splitlines()[0]
    except onnx.shape_inference.InferenceError as e:
        return f"exported, but the file breaks ONNX's rules: {str(e).strip().splitlines()[0]}"
    return "exported"
