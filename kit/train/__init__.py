"""Chapter 01: how good can a model be that fits in a switch?

``loop`` trains it, ``judge`` compares it with a baseline, ``confidence`` asks whether its confidence
may be trusted, ``study`` repeats short trainings to answer how much data and how large a model.
"""

from kit.measure import accuracy, ece
from kit.train.confidence import auroc, calibrate, command_score, probabilities, temperature
from kit.train.judge import baseline, baseline_correct, by_speech, confusions, correct, mixups
from kit.train.loop import EPOCHS, MIX, chatter, draw, epochs, everything, train
from kit.train.study import with_people

__all__ = [
    "EPOCHS",
    "MIX",
    "accuracy",
    "auroc",
    "baseline",
    "baseline_correct",
    "by_speech",
    "calibrate",
    "chatter",
    "command_score",
    "confusions",
    "correct",
    "draw",
    "ece",
    "epochs",
    "everything",
    "mixups",
    "probabilities",
    "temperature",
    "train",
    "with_people",
]
