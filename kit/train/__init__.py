"""Chapter 01: how good can a model be that fits in a switch?

``loop`` trains it, ``judge`` compares it with a baseline, ``confidence`` asks whether its confidence
may be trusted, ``study`` repeats short trainings to answer how much data and how large a model.
``sentences`` says what a result means, ``english`` what the Chinese examples mean.
"""

from kit.train.confidence import auroc, calibrate, command_score, probabilities, temperature
from kit.train.english import in_english
from kit.train.judge import baseline, baseline_correct, by_speech, confusions, correct, guesses, lead, mixups
from kit.train.loop import EPOCHS, MIX, chatter, draw, epochs, everything, fit, smoothed, train
from kit.train.sentences import (
    read_calibration,
    read_collapse,
    read_control,
    read_learning,
    read_mixture,
    read_mixups,
    read_rival,
    read_scores,
    read_sizes,
    read_unknown,
    title_mixups,
)
from kit.train.study import with_people

__all__ = [
    "EPOCHS",
    "MIX",
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
    "epochs",
    "everything",
    "fit",
    "guesses",
    "in_english",
    "lead",
    "mixups",
    "probabilities",
    "read_calibration",
    "read_collapse",
    "read_control",
    "read_learning",
    "read_mixture",
    "read_mixups",
    "read_rival",
    "read_scores",
    "read_sizes",
    "read_unknown",
    "smoothed",
    "temperature",
    "title_mixups",
    "train",
    "with_people",
]
