"""What a notebook says to its reader: ask for a guess, check an answer, give a hint, offer a control.

A notebook needs one line, ``from kit import lesson``. The files behind it:

- ``answers``: what the reader said, in one JSON file
- ``exercises``: the ``Exercise`` type and the checks; ``ch00``, ``ch01``, … hold the exercises
- ``widgets``: questions and controls, each with a static fallback for a page without a kernel
- ``chapters``: which notebooks and decks there are
- ``bake`` and ``slides``: run and store a notebook, export a deck (for ``kit run`` and ``kit slides``)
"""

from kit.lesson.exercises import check, hint, progress, solution
from kit.lesson.render import say
from kit.lesson.widgets import predict, predicted, whatif

__all__ = ["check", "hint", "predict", "predicted", "progress", "say", "solution", "whatif"]
