"""How sure is the model, may we believe it, and does it know what it does not know?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from kit import data
from kit.data import Example
from kit.models.intent import IntentNet, logits


def probabilities(model: IntentNet, examples: Sequence[Example]) -> np.ndarray:
    """Probability of each class: float64 [len(examples), classes]."""
    z = logits(model, [e.text for e in examples]).astype(np.float64)
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


def temperature(z: np.ndarray, classes: np.ndarray) -> float:
    """The number to divide logits by so that confidence fits accuracy (Guo et al. 2017).

    Args:
        z: logits [n, classes].
        classes: true classes [n].

    Returns:
        The temperature between 0.05 and 20 with the smallest negative log-likelihood.
    """
    from scipy.optimize import minimize_scalar

    logit, target = torch.from_numpy(z).double(), torch.from_numpy(classes)
    found = minimize_scalar(
        lambda log_t: F.cross_entropy(logit / np.exp(log_t), target).item(), bounds=(-3, 3), method="bounded"
    )
    return float(np.exp(found.x))


def calibrate(model: IntentNet, examples: Sequence[Example]) -> float:
    """Set the model's temperature from examples it did not train on, and return it."""
    model.temperature.fill_(1.0)
    t = temperature(logits(model, [e.text for e in examples]), data.labels(examples))
    model.temperature.fill_(t)
    return t


def command_score(p: np.ndarray) -> np.ndarray:
    """How sure the model is that this is a command at all, 0 to 1: one minus the last class's probability."""
    return 1 - p[:, data.INTENTS.index(data.NOT_A_COMMAND)]


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Chance that a sentence that belongs scores above one that does not; 0.5 is guessing."""
    from sklearn.metrics import roc_auc_score

    belongs = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    return float(roc_auc_score(belongs, np.r_[inside, outside]))
