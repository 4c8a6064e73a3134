"""Exercises with instant answers: the ``Exercise`` type, and ``check``, ``hint``, ``solution``, ``progress``.

Each chapter's exercises stand in ``kit/lesson/chNN.py`` as ``EXERCISES``. No function here raises on a
wrong answer: an error would stop *Run All*.
"""

from __future__ import annotations

import html
import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from kit.lesson import answers, chapters, render


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        id: chapter and number, ``"03.2"``.
        task: what to do, in one or two sentences, with every value that is needed.
        check: called with the reader's answer; ``None`` means right, a sentence says what to reconsider.
        hints: from gentle to nearly the answer.
        solution: code that assigns ``answer``. It may use what ``setup`` brings.
        wrong: code that assigns a plausible wrong ``answer``; ``check`` must help with it.
        stub_answer: what ``answer`` is before the reader has written anything.
        setup: code that makes the names that ``solution`` takes from the notebook.
    """

    id: str
    task: str
    check: Callable[[object], str | None]
    hints: tuple[str, ...]
    solution: str
    wrong: str
    stub_answer: object = ...
    setup: str = ""


@dataclass(frozen=True)
class Verdict:
    """The result of a check: ``state`` and one sentence for the reader."""

    state: Literal["right", "not yet", "no answer yet"]
    message: str


def exercises(chapter: str) -> dict[str, Exercise]:
    """The exercises of chapter ``"03"`` by id; empty if the chapter has none."""
    name = f"kit.lesson.ch{chapter}"
    if not chapter.isdecimal() or importlib.util.find_spec(name) is None:
        return {}
    return {e.id: e for e in importlib.import_module(name).EXERCISES}


def find(id: str) -> Exercise:
    """The exercise called ``id``.

    Raises:
        ValueError: there is none; the message lists the chapter's exercises.
    """
    chapter = str(id).partition(".")[0]
    known = exercises(chapter)
    if id not in known:
        raise ValueError(f"there is no exercise {id!r}. Chapter {chapter} has: {', '.join(known) or 'none'}.")
    return known[id]


def grade(exercise: Exercise, answer: object) -> Verdict:
    """Check ``answer`` without showing or keeping anything."""
    if answer is ... or answer is exercise.stub_answer:
        return Verdict("no answer yet", exercise.task)
    try:
        problem = exercise.check(answer)
    except Exception as e:  # whatever the reader wrote, Run All goes on
        problem = f"This answer ({type(answer).__name__}) could not be checked: {type(e).__name__}: {e}"
    return Verdict("right", "") if problem is None else Verdict("not yet", problem)


def number(
    expected: float, *, within: float = 0.01, unit: str = "", traps: Mapping[float, str] | None = None
) -> Callable[[object], str | None]:
    """A check for an answer that is a number.

    Args:
        expected: the right value.
        within: relative error that is still right (absolute where ``expected`` is 0).
        unit: named when the answer is of the wrong type.
        traps: typical wrong values, each with the sentence that helps.
    """

    def close(a: float, b: float) -> bool:
        return math.isclose(a, b, rel_tol=within, abs_tol=within if b == 0 else 0)

    def check(answer: object) -> str | None:
        try:
            value = float(answer)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return f"The answer must be one number{f' in {unit}' if unit else ''}, got {answer!r}."
        if not math.isfinite(value):
            return f"{value} is not a number that can be right."
        if close(value, expected):
            return None
        for wrong, sentence in (traps or {}).items():
            if close(value, wrong):
                return sentence
        return f"{value:g} is too {'large' if value > expected else 'small'}."

    return check


def check(id: str, answer: object) -> None:
    """Show whether ``answer`` is right, and if not, what to think about; the task stays in sight.

    Keeps what was solved.
    """
    try:
        exercise = find(id)
    except ValueError as e:
        return render.show("missing", "No such exercise.", str(e))
    verdict, task = grade(exercise, answer), f"Task: {exercise.task}"
    if verdict.state == "right":
        render.show("right", f"{id}: right.", "", task)
        if not answers.unattended() and id not in answers.load("passed"):
            try:
                answers.save("passed", id, True)
            except OSError:
                render.show("missing", "Not kept.", f"Cannot write to {answers.path().parent}.")
    elif verdict.state == "not yet":
        render.show("not yet", f"{id}: not yet.", verdict.message, task)
    else:
        render.show("open", f"{id}: no answer yet.", f"{verdict.message} Replace the dots after `answer =`.")


_hints_shown: dict[str, int] = {}


def hint(id: str) -> None:
    """Show the next hint, folded. Run the cell again for one more."""
    try:
        exercise = find(id)
    except ValueError as e:
        return render.show("missing", "No such exercise.", str(e))
    total = len(exercise.hints)
    shown = _hints_shown[id] = min(_hints_shown.get(id, 0) + 1, total)
    labels = [f"{id}: hint {i} of {total}" for i in range(1, shown + 1)]
    if shown < total:
        labels[-1] += " (run the cell again for the next)"
    render.fold(*((label, html.escape(text)) for label, text in zip(labels, exercise.hints, strict=False)))


def solution(id: str) -> None:
    """Show one way to solve it, folded, so that a stored page does not give it away."""
    try:
        exercise = find(id)
    except ValueError as e:
        return render.show("missing", "No such exercise.", str(e))
    render.fold((f"{id}: one solution", f"<pre>{html.escape(exercise.solution.strip())}</pre>"))


@dataclass(frozen=True)
class Progress:
    """How far the reader is in one chapter."""

    chapter: str
    word: str
    passed: int
    exercises: int
    predictions: int


def reached() -> list[Progress]:
    """One line per chapter that has a notebook."""
    passed, predictions = answers.load("passed"), answers.load("predictions")
    lines = []
    for chapter, path in chapters.notebooks().items():
        known = exercises(chapter)
        made = sum(key.startswith(f"{chapter}.") for key in predictions)
        lines.append(
            Progress(chapter, chapters.word(path), sum(i in passed for i in known), len(known), made)
        )
    return lines


def progress() -> None:
    """Show a table of the chapters: exercises solved, predictions made."""
    render.table(
        ("chapter", "exercises solved", "predictions made"),
        [(f"{p.chapter} {p.word}", f"{p.passed} of {p.exercises}", str(p.predictions)) for p in reached()],
    )
