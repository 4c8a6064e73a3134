"""Rules that every stored notebook keeps. Running them is another step of the gate, with nbval."""

import ast
import copy
import re
import warnings

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kit.artifacts import ROOT
from kit.lesson import bake, chapters, exercises

NOTEBOOKS = list(chapters.notebooks().values())
DECKS = list(chapters.decks().values())

# The spine: what follows the title, heading by heading.
STEP = r"## (\d+) · \S"
SPINE = (
    r"## Predict",
    STEP,
    r"## What if",
    r"## Check yourself",
    r"## In production",
    r"## Recap",
    r"## Next",
)
NEEDS = r"^\d+ minutes · level [123] of 3 · needs \S"
MACHINE_PATH = re.compile(r"/(?:root|home|Users|tmp)/\w|[A-Z]:\\\\?Users|" + re.escape(str(ROOT)))


# --- the rules: each returns what is wrong, in words


def headings(nb):
    """Lines that begin with one or two ``#`` in text cells, in order, without those in code blocks."""
    text = "\n".join(
        re.sub(r"```.*?```", "", c.source, flags=re.S) for c in nb.cells if c.cell_type == "markdown"
    )
    return re.findall(r"^##? .*$", text, re.M)


def opening_problems(nb, number):
    first = "\n".join(c.source for c in nb.cells[:3] if c.cell_type == "markdown").partition("## ")[0]
    if not re.match(rf"# {number} · .+\?$", first.partition("\n")[0]):
        yield f"the first line must be '# {number} · A question?', not {first.partition(chr(10))[0]!r}"
    promise = re.search(r"\*\*You will\*\*(.*?)(?:\n\s*\n(?![-*] )|\n\d|\Z)", first, re.S)
    parts = re.split(r"·|^\s*[-*] ", promise[1], flags=re.M) if promise else []
    outcomes = [part for part in parts if re.search(r"\w", part)]
    if not 3 <= len(outcomes) <= 5:
        yield f"**You will** must promise 3 to 5 outcomes parted by ·, found {len(outcomes)}"
    if not re.search(NEEDS, first, re.M):
        yield "a line must read '25 minutes · level 2 of 3 · needs …'"


def spine_problems(nb):
    found = headings(nb)[1:]
    steps = [int(m[1]) for h in found if (m := re.match(STEP, h))]
    if steps != list(range(1, len(steps) + 1)) or not steps:
        yield f"steps must be '## 1 · …', '## 2 · …' and so on, found {steps}"
    order = [next((i for i, part in enumerate(SPINE) if re.match(part, h)), None) for h in found]
    for heading, place in zip(found, order, strict=True):
        if place is None:
            yield f"{heading!r} is not part of the spine; use ### inside a step"
    known = [place for place in order if place is not None]
    once = [place for i, place in enumerate(known) if SPINE[place] != STEP or place not in known[:i]]
    if once != list(range(len(SPINE))) or known != sorted(known):
        yield f"the spine must be {', '.join(SPINE)}, in this order, each once; found {found}"


def displays(source):
    """True if the cell shows something: it prints, displays, or ends in an expression without ``;``."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic: what it shows cannot be known
        return False
    calls = [s.value.func for s in tree.body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]
    if any(isinstance(f, ast.Name) and f.id in ("print", "display") for f in calls):
        return True
    return bool(tree.body) and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";")


def cell_problems(nb):
    for number, cell in enumerate(bake.code_cells(nb), 1):
        lines = cell.source.count("\n") + 1
        if lines > 15:
            yield f"code cell {number} has {lines} lines, at most 15 are allowed: move code into kit/"
        if cell.execution_count != number:
            yield f"code cell {number} was not stored by a run from top to bottom"
        if displays(cell.source) and not cell.outputs:
            yield f"code cell {number} should show something and has no stored output (end it with ; if not)"
        if "nbval-skip" in cell.metadata.get("tags", []) or "raises-exception" in cell.metadata.get(
            "tags", []
        ):
            yield f"code cell {number} has a tag that lets errors pass"
        for output in cell.outputs:
            data = output.get("data", {})
            if output.output_type == "error":
                yield f"code cell {number} stored an error: {output.ename}"
            if bake.WIDGET in data:
                yield f"code cell {number} stored a widget, which needs a kernel"
            if bake.PLOTLY in data and "image/png" not in data:
                yield f"code cell {number} has a figure without a picture beside it"


def page_problems(nb, chapter):
    if nb.metadata.get("kit", {}).get("hash") != bake.code_hash(nb, chapter):
        yield "the outputs are older than the code: run `kit run NN --save`, or `kit slides --save`"
    if "widgets" in nb.metadata or "jupytext" in nb.metadata:
        yield "the metadata hold the state of widgets, or of jupytext"
    text = nbformat.writes(nb)
    for match in MACHINE_PATH.finditer(text):
        yield f"a path of one machine: …{text[max(0, match.start() - 20) : match.end() + 30]}…"
    if len(text.encode()) > bake.MAX_BYTES:
        yield f"{len(text.encode()) / 1e6:.1f} MB, at most 1 MB is allowed"


def exercise_problems(nb, number):
    known = exercises.exercises(number)
    if len(known) < 3:
        yield f"kit/lesson/ch{number}.py has {len(known)} exercises, at least 3 are wanted"
    code = "\n".join(c.source for c in bake.code_cells(nb))
    checked = set(re.findall(r"lesson\.check\(\s*[\"']([\d.]+)[\"']", code))
    if checked != set(known):
        yield f"the notebook checks {sorted(checked)}, the exercises are {sorted(known)}"


def deck_problems(nb):
    kinds = [cell.get("metadata", {}).get("slideshow", {}).get("slide_type") for cell in nb.cells]
    starts = [i for i, kind in enumerate(kinds) if kind == "slide"]
    if not 10 <= len(starts) <= 15:
        yield f"a deck has 10 to 15 slides, found {len(starts)}"
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(kinds)], strict=True), 1):
        if not re.match(r"##? \S", nb.cells[start].source):
            yield f"slide {number} must begin with its message, a heading"
        if kinds[start:end].count("notes") != 1:
            yield f"slide {number} needs one cell of speaker notes"


def problems(nb, number, chapter):
    return [
        *opening_problems(nb, number),
        *spine_problems(nb),
        *cell_problems(nb),
        *page_problems(nb, chapter),
        *exercise_problems(nb, number),
    ]


# --- the notebooks


def test_there_are_notebooks():
    if not NOTEBOOKS:
        warnings.warn("there is no notebook yet, so no rule was checked on one", stacklevel=1)
    names = [p.name for p in (ROOT / "notebooks").glob("*.ipynb")]
    assert sorted(names) == [p.name for p in NOTEBOOKS], "a notebook must be called NN_word.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_notebook_keeps_the_rules(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    assert problems(nb, path.name[:2], chapters.word(path)) == []


@pytest.mark.parametrize("path", DECKS, ids=lambda p: p.stem)
def test_the_deck_keeps_the_rules(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    assert [*cell_problems(nb), *page_problems(nb, chapters.word(path)), *deck_problems(nb)] == []


# --- the exercises

EXERCISES = [e for n in range(17) for e in exercises.exercises(f"{n:02}").values()]


def run(exercise, code):
    names = {}
    exec(exercise.setup, names)
    exec(code, names)
    return names["answer"]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
def test_the_stub_is_no_answer(exercise):
    assert exercises.grade(exercise, exercise.stub_answer).state == "no answer yet"
    assert exercises.grade(exercise, ...).state == "no answer yet"


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
def test_the_solution_is_right(exercise):
    verdict = exercises.grade(exercise, run(exercise, exercise.solution))
    assert verdict.state == "right", verdict.message


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
def test_a_wrong_answer_gets_help(exercise):
    verdict = exercises.grade(exercise, run(exercise, exercise.wrong))
    assert verdict.state == "not yet"
    assert len(verdict.message.split()) >= 4, "say what to reconsider, in a sentence"
    assert "could not be checked" not in verdict.message


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.id)
def test_the_exercise_is_complete(exercise):
    assert re.fullmatch(r"\d\d\.\d+", exercise.id)
    assert exercise.task.strip()
    assert exercise.hints


# --- the rules themselves can fail


def sample():
    """A notebook that keeps every rule."""
    titles = ["Predict", "1 · One", "2 · Two", "What if the network is slow?", "Check yourself"]
    titles += ["In production", "Recap", "Next"]
    opening = (
        "# 00 · Edge or cloud?\n**You will** see · do · know\n\n25 minutes · level 1 of 3 · needs nothing"
    )
    picture = new_output("display_data", {bake.PLOTLY: {"data": []}, "image/png": "AAAA"})
    code = [new_code_cell("a = 1"), new_code_cell("a", outputs=[picture])]
    code += [new_code_cell(f'lesson.check("{id}", ...);') for id in exercises.exercises("00")]
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
    nb = new_notebook(
        cells=[new_markdown_cell(opening), *(new_markdown_cell(f"## {t}") for t in titles), *code]
    )
    nb.metadata.kit = {"hash": bake.code_hash(nb, "none")}
    return nb


def cell_of(nb, text):
    return next(c for c in nb.cells if c.source.startswith(text))


def breakages():
    def change(start, **new):
        return lambda nb: cell_of(nb, start).update(new)

    def shown(data):
        return lambda nb: cell_of(nb, "a").outputs.append(new_output("display_data", data))

    yield "first line", change("# 00", source="# 00 · Edge, then cloud.\n**You will** a · b · c")
    yield "parted by ·, found 1", change("# 00", source="# 00 · Eh?\n**You will** see")
    yield "minutes", change("# 00", source="# 00 · Eh?\n**You will** a · b · c\n\nneeds nothing")
    yield "steps must be", change("## 2", source="## 3 · Three")
    yield "not part of the spine", change("## 2", source="## Two")
    yield "in this order", change("## Recap", source="text")
    yield "in this order", lambda nb: nb.cells.insert(1, nb.cells.pop(5))
    yield "in this order", lambda nb: nb.cells.append(new_markdown_cell("## Recap"))
    yield "at most 15", change("a = 1", source="a = 1\n" * 16)
    yield "from top to bottom", change("a = 1", execution_count=7)
    yield "no stored output", lambda nb: cell_of(nb, "a = 1").update(source="print(1)")
    yield "lets errors pass", lambda nb: cell_of(nb, "a").metadata.update(tags=["nbval-skip"])
    yield "stored an error", lambda nb: cell_of(nb, "a").outputs.append(new_output("error", ename="E"))
    yield "stored a widget", shown({bake.WIDGET: {}})
    yield "without a picture", shown({bake.PLOTLY: {}})
    yield "a path of one machine", shown({"text/plain": f"{ROOT}/kit/cli.py"})
    yield "a path of one machine", shown({"text/plain": "/home/" + "someone/kit"})
    yield "at most 1 MB", shown({"text/plain": "x" * bake.MAX_BYTES})
    yield "older than the code", change("a = 1", source="a = 2")
    yield "state of widgets", lambda nb: nb.metadata.update(widgets={})
    yield "the exercises are", lambda nb: nb.cells.remove(cell_of(nb, 'lesson.check("00.1"'))


def test_the_sample_keeps_the_rules():
    assert problems(sample(), "00", "none") == []


def test_headings_in_code_blocks_do_not_count():
    nb = sample()
    nb.cells.append(new_markdown_cell("```\n## not a heading\n```"))
    assert problems(nb, "00", "none") == []


@pytest.mark.parametrize(("says", "harm"), list(breakages()))
def test_a_broken_notebook_is_noticed(says, harm):
    nb = copy.deepcopy(sample())
    harm(nb)
    assert says in "\n".join(problems(nb, "00", "none"))


def test_a_deck_has_slides_with_messages_and_notes():
    def cell(text, kind):
        return new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}})

    good = new_notebook(cells=[cell(*c) for c in [("## A", "slide"), ("aloud", "notes")] * 10])
    assert list(deck_problems(good)) == []
    bad = "\n".join(deck_problems(new_notebook(cells=[cell("## A", "slide"), cell("no message", "slide")])))
    for says in ("found 2", "slide 1 needs one cell", "slide 2 must begin", "slide 2 needs one cell"):
        assert says in bad


def test_a_chapter_needs_three_exercises():
    assert "at least 3" in next(exercise_problems(sample(), "98"))
