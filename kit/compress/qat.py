"""Rounding in the loop: quantization-aware training.

The forward pass sees rounded weights, the backward pass pretends that they were not: the straight-through
estimator (Bengio et al. 2013). What is trained so has already met the rounding it will get.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from kit.compress.prune import layers
from kit.models.intent import IntentNet


class Rounding(nn.Module):
    """Rounds each row of a weight to ``bits``, one scale a row; gradients pass as if it did not."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.most = 2 ** (bits - 1) - 1  # 127 for 8 bits, on both sides of 0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        scale = weight.detach().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / self.most
        return weight + (torch.round(weight / scale) * scale - weight).detach()


def rounding(model: IntentNet, bits: int) -> IntentNet:
    """A copy whose tables and matrices are rounded whenever they are used, also in training.

    Not trained further, it is what rounding after training gives; ``settled`` makes the rounding final.

    Args:
        bits: 2 to 8.

    Raises:
        ValueError: other numbers of bits.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"need 2 to 8 bits, got {bits}: one bit leaves no step on both sides of 0.")
    model = copy.deepcopy(model)
    for layer in layers(model).values():
        parametrize.register_parametrization(layer, "weight", Rounding(bits))
    return model
