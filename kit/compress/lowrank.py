"""A table as the product of two thinner ones: its rank."""

from __future__ import annotations

import torch

from kit.models.intent import IntentNet


def factor(model: IntentNet, rank: int) -> IntentNet:
    """The same model with its table of votes as a product, as close as ``rank`` numbers a bucket can be.

    The votes of a sentence are added up before the small matrix makes intents of them, so a bucket that is
    looked up has ``rank`` numbers to read and not one for each intent. No other product of this rank is
    closer to the old table (singular values: Eckart and Young 1936).

    Args:
        rank: numbers of a bucket, from 1 to below the number of intents.

    Raises:
        ValueError: the votes are a product already, or ``rank`` saves nothing.
    """
    classes = model.config["classes"]
    if model.config["rank"]:
        raise ValueError(f"the votes are a product of rank {model.config['rank']} already.")
    if not 0 < rank < classes:
        raise ValueError(
            f"rank must be from 1 to {classes - 1}, got {rank}: {classes} is what the table has."
        )
    thin = IntentNet(**{**model.config, "rank": rank}).eval()
    left, size, right = torch.linalg.svd(model.votes.weight.detach(), full_matrices=False)
    weights = {name: w for name, w in model.state_dict().items() if name != "votes.weight"}
    weights["votes.weight"] = left[:, :rank] * size[:rank]  # [buckets, rank]
    weights["spread.weight"] = right[:rank].T  # [classes, rank]
    thin.load_state_dict(weights)
    return thin
