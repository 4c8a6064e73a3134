"""Cutting away: single weights (zeros), whole columns and units (smaller matrices), and rank.

Zeros alone make nothing smaller or faster: a dense matrix multiplies by them like by any number. What does
is a smaller matrix. Both forget something, so a few epochs of training follow.
"""

from __future__ import annotations

import copy
import zlib
from operator import attrgetter
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize

from kit.models.intent import IntentNet


class Mask(nn.Module):
    """Keeps pruned weights at zero, also while the model trains on."""

    mask: torch.Tensor

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


def layers(model: IntentNet) -> dict[str, nn.Embedding | nn.Linear]:
    """The tables and matrices that can be cut, by name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Embedding | nn.Linear) and name != "weights"
    }


def prune(model: IntentNet, share: float) -> IntentNet:
    """A copy in which the smallest weights of each table and matrix are zero, and stay so in training.

    Magnitude pruning: Han et al. 2015, "Learning both Weights and Connections".

    Args:
        share: part of the weights to cut, 0 to 1.

    Raises:
        ValueError: a share outside 0 to 1.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is the part of the weights to cut, from 0 to below 1, got {share}.")
    model = copy.deepcopy(model)
    for layer in layers(model).values():
        size = layer.weight.detach().abs()
        cut = size.flatten().kthvalue(max(1, round(share * size.numel()))).values if share else -1.0
        parametrize.register_parametrization(layer, "weight", Mask((size > cut).float()))
    return model


def settled(model: IntentNet) -> IntentNet:
    """A model without masks or roundings: their effect is in its weights for good."""
    plain = IntentNet(**model.config)
    plain.load_state_dict({name: attrgetter(name)(model).detach() for name in plain.state_dict()})
    return plain.train(model.training)


def sizes_mb(model: IntentNet, file: Path) -> dict[str, float]:
    """What zeros save, in MB: the file as it is, with its tables and matrices in CSR form, and zipped.

    CSR keeps for each number that is not zero the number and its column, and a start for each row.
    """
    from scipy.sparse import csr_array

    raw = file.read_bytes()
    dense = sparse = 0
    model = settled(model)
    for layer in layers(model).values():
        w = layer.weight.detach().numpy()
        found = csr_array(w)
        dense += w.nbytes
        sparse += found.data.nbytes + found.indices.nbytes + found.indptr.nbytes
    return {
        "dense": len(raw) / 1e6,
        "sparse": (len(raw) - dense + sparse) / 1e6,
        "zipped": len(zlib.compress(raw, 9)) / 1e6,
    }


def _lengths(*weights: torch.Tensor) -> torch.Tensor:
    """Length of each column in every matrix, multiplied: [columns]."""
    return torch.stack([w.detach().norm(dim=0) for w in weights]).prod(0)


def slim(model: IntentNet, dim: int, hidden: int) -> IntentNet:
    """A smaller model of the same kind: with the columns and the units of the head that matter most.

    Structured pruning (Li et al. 2017, "Pruning Filters for Efficient ConvNets"): a column counts as much
    as the product of its length in the table and the lengths of the head's weights that read it.

    Args:
        dim: columns of the vectors to keep.
        hidden: units of the head to keep.

    Raises:
        ValueError: more than there are, or none.
    """
    old = model.config
    if not (0 < dim <= old["dim"] and 0 < hidden <= old["hidden"]):
        raise ValueError(
            f"can keep 1 to {old['dim']} columns and 1 to {old['hidden']} units, got {dim} and {hidden}."
        )
    weights = model.state_dict()
    first, last = weights["head.2.weight"], weights["head.5.weight"]  # [hidden, 2 dim], [classes, hidden]
    mean, peak = (first * weights["head.0.weight"]).split(old["dim"], dim=1)
    columns = _lengths(weights["vectors.weight"], torch.cat([mean, peak])).topk(dim).indices.sort().values
    units = _lengths(first.T, last).topk(hidden).indices.sort().values
    both = torch.cat([columns, columns + old["dim"]])
    kept = {
        "vectors.weight": weights["vectors.weight"][:, columns],
        "head.0.weight": weights["head.0.weight"][both],
        "head.0.bias": weights["head.0.bias"][both],
        "head.2.weight": first[units][:, both],
        "head.2.bias": weights["head.2.bias"][units],
        "head.5.weight": last[:, units],
    }
    small = IntentNet(**{**old, "dim": dim, "hidden": hidden}).eval()
    small.load_state_dict({**weights, **kept})
    return small
