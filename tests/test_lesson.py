"""The lesson layer: what is asked, kept, checked and stored."""

import json
import re
import threading

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from kit import lesson, plots
from kit.lesson import answers, bake, chapters, exercises, render, slides, widgets


@pytest.fixture(autouse=True)
def reader(tmp_path, monkeypatch):
    """A reader of our own: an empty file of answers, and no CI."""
    monkeypatch.setenv("KIT_ANSWERS", str(tmp_path / "answers.json"))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(exercises, "_hints_shown", {})
    return tmp_path / "answers.json"


@pytest.fixture
def shown(monkeypatch):
    """The display bundles of what was shown, in order."""
    bundles = []
    for module in (render, widgets):
        monkeypatch.setattr(module, "display", lambda data, raw=False: bundles.append(data))
    return bundles


@pytest.fixture
def asked(monkeypatch):
    """The widgets that were shown, in order."""
    forms = []
    monkeypatch.setattr(widgets, "_display", lambda form, static: forms.append(form))
    return forms


def box_and_note(form):
    box, _, note = form.children[1].children
    return box, note


# --- answers


def test_answers_survive_a_damaged_file(reader):
    reader.write_text('{"predictions": {"a": 1')
    assert answers.load("predictions") == {}
    answers.save("predictions", "03.size", 135.0)
    assert json.loads(reader.read_text()) == {"predictions": {"03.size": 135.0}, "passed": {}}


def test_answers_of_two_notebooks_at_once_are_all_kept():
    threads = [threading.Thread(target=answers.save, args=("passed", f"00.{i}", True)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers.load("passed")) == 16


# --- predict and predicted


def test_predict_writes_only_what_the_reader_typed(asked, reader):
    lesson.predict("00.rtt", "How long?", unit="ms")
    assert not reader.exists()
    box, note = box_and_note(asked[0])
    box.value = "1 500"
    assert answers.load("predictions") == {"00.rtt": 1500.0}
    assert note.value.startswith("Kept")


def test_predict_explains_what_is_not_a_number(asked, reader):
    lesson.predict("00.rtt", "How long?", unit="ms")
    box, note = box_and_note(asked[0])
    box.value = "0,5"
    assert "dot" in note.value
    assert not reader.exists()


def test_predict_offers_choices_and_remembers(asked):
    lesson.predict("00.who", "Who wins?", choices=["device", "cloud"])
    box_and_note(asked[0])[0].value = "cloud"
    lesson.predict("00.who", "Who wins?", choices=["device", "cloud"])
    assert box_and_note(asked[1])[0].value == "cloud"
    lesson.predict("00.who", "Who wins?", choices=["edge", "none"])  # the chapter was rewritten
    assert box_and_note(asked[2])[0].value is None


def test_predict_does_not_fail_on_a_read_only_folder(asked, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KIT_ANSWERS", str(tmp_path / "file" / "answers.json"))
    lesson.predict("00.rtt", "How long?")
    box, note = box_and_note(asked[0])
    box.value = "3"
    assert note.value.startswith("Not kept")


def test_predict_brings_its_static_form(shown):
    lesson.predict("00.rtt", "Is 3 < 5 & so on?", unit="ms")
    (bundle,) = shown
    assert bake.WIDGET in bundle
    assert "Is 3 &lt; 5 &amp; so on?" in bundle["text/html"]
    assert "Run this cell" in bundle["text/plain"]


@pytest.mark.parametrize(
    ("guess", "actual", "says"),
    [
        (None, 42, "no prediction"),
        (40, 42, "Within 10 percent"),
        (84, 42, "2 times too high"),
        (21, 42, "2 times too low"),
        (0, 42, "Too low"),
        (-5, 42, "Too low"),
        ("cloud", "cloud", "Right"),
        ("cloud", "device", "You said cloud, measured device"),
    ],
)
def test_predicted_compares(shown, guess, actual, says):
    if guess is not None:
        answers.save("predictions", "00.x", guess)
    lesson.predicted("00.x", actual, unit="ms")
    assert says in shown[0]["text/plain"]


def test_predicted_says_how_a_figure_came_about(shown):
    lesson.predicted("00.x", 4, "GB", "calculated")
    assert "Calculated: 4 GB." in shown[0]["text/plain"]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_predicted_never_raises(guess, actual):
    assert isinstance(widgets._distance(guess, actual), str)


# --- check, hint, solution, progress


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_a_check_never_raises(answer):
    for exercise in exercises.exercises("00").values():
        verdict = exercises.grade(exercise, answer)
        assert verdict.state in ("right", "not yet")
        assert (verdict.state == "right") == (verdict.message == "")


def test_a_check_that_breaks_is_not_the_readers_fault():
    broken = exercises.Exercise("99.1", "", lambda a: a.shape, (), "", "")
    assert "could not be checked" in exercises.grade(broken, [1]).message


@given(st.floats(-1e9, 1e9), st.floats(0.001, 0.1))
def test_number_accepts_what_is_near_and_nothing_else(expected, within):
    check = exercises.number(expected, within=within)
    assert check(expected) is None
    assert check(expected * (1 + within / 2)) is None
    step = 2 * within * (abs(expected) or 1) + 1e-300
    assert "too large" in (check(expected + step) or "")
    assert "too small" in (check(expected - step) or "")


def test_number_knows_its_traps():
    check = exercises.number(10, traps={5: "half of it"}, unit="ms")
    assert check(5) == "half of it"
    assert "in ms" in (check("ten") or "")
    assert "nan" in (check(float("nan")) or "")


@pytest.mark.parametrize(
    ("answer", "says"), [(..., "no answer yet"), (2.5, "00.1: not yet"), (2, "00.1: right")]
)
def test_check_shows_its_verdict(shown, answer, says):
    lesson.check("00.1", answer)
    assert says in shown[0]["text/plain"]
    assert ("00.1" in answers.load("passed")) == (answer == 2)
    for form in ("text/plain", "text/html"):
        assert shown[0][form].count("How many fit in a budget of 100 ms?") == 1


def test_check_leaves_nothing_behind_in_ci(shown, monkeypatch, reader):
    monkeypatch.setenv("CI", "true")
    lesson.check("00.1", 2)
    assert "right" in shown[0]["text/plain"]
    assert not reader.exists()


@pytest.mark.parametrize("call", [lambda i: lesson.check(i, 1), lesson.hint, lesson.solution])
@pytest.mark.parametrize("id", ["00.9", "99.1", "nonsense", 0.1])
def test_an_unknown_exercise_is_explained(shown, call, id):
    call(id)
    assert "no exercise" in shown[0]["text/plain"]


def test_hints_come_one_by_one_and_end(shown):
    for _ in range(4):
        lesson.hint("00.1")
    assert [b["text/html"].count("<details>") for b in shown] == [1, 2, 2, 2]
    assert ["for the next" in b["text/plain"] for b in shown] == [True, False, False, False]


def test_solution_is_folded_and_escaped(shown, monkeypatch):
    tricky = exercises.Exercise("00.1", "", lambda a: None, (), "answer = 1 < 2", "")
    monkeypatch.setattr(exercises, "find", lambda id: tricky)
    lesson.solution("00.1")
    assert shown[0]["text/html"].startswith("<details>")
    assert "1 &lt; 2" in shown[0]["text/html"]
    assert "1 < 2" in shown[0]["text/plain"]


def test_progress_counts(monkeypatch, shown, tmp_path):
    monkeypatch.setattr(chapters, "notebooks", lambda: {"00": tmp_path / "00_start_here.ipynb"})
    answers.save("passed", "00.1", True)
    answers.save("passed", "00.gone", True)
    answers.save("predictions", "00.rtt", 3)
    answers.save("predictions", "01.size", 3)
    assert exercises.reached() == [exercises.Progress("00", "start_here", 1, 3, 1)]
    lesson.progress()
    assert "00 start_here" in shown[0]["text/plain"]


# --- whatif


def test_whatif_makes_controls_draws_once_and_again_on_a_move(asked):
    calls = []
    lesson.whatif(
        lambda **now: calls.append(now) or "text",
        rtt_ms=(0, 200, 5, 40),
        loss=(0.0, 1, 0.1, 0.5),
        tier=["edge", "cloud"],
        jitter=True,
    )
    start = {"rtt_ms": 40, "loss": 0.5, "tier": "edge", "jitter": True}
    assert calls == [start]
    slider = asked[0].children[0]
    assert slider.description == "rtt ms"
    slider.value = 45
    assert calls == [start, start | {"rtt_ms": 45}]


@pytest.mark.parametrize("spec", [3, "text", [], (1, 2), (0, 10, 1, 11), (0, 10, 0, 5), (0, "b", 1, 2)])
def test_whatif_explains_a_wrong_control(asked, spec):
    with pytest.raises(ValueError, match="control 'rtt_ms' must be"):
        lesson.whatif(lambda rtt_ms: "text", rtt_ms=spec)


def test_whatif_fails_where_the_function_fails(asked):
    with pytest.raises(ZeroDivisionError):
        lesson.whatif(lambda n: 1 / n, n=(0, 3, 1, 0))
    with pytest.raises(ValueError, match="must return"):
        lesson.whatif(lambda n: None, n=(0, 3, 1, 0))


def figure():
    return plots.bars({"edge": 3.0, "cloud": 41.0}, title="The edge is first", unit="ms")


@pytest.mark.parametrize("result", [figure(), plots.table([{"ms": 3}]), "plain"])
def test_whatif_brings_its_static_form(shown, result):
    lesson.whatif(lambda n: result, n=(0, 3, 1, 0))
    bundle = shown[-1]
    assert bake.WIDGET in bundle
    assert "to get the controls: n." in bundle["text/html"]
    assert bake.PLOTLY in bundle or "<table" in bundle["text/html"] or "<pre>" in bundle["text/html"]


# --- chapters


def test_chapters_are_the_folder_listing(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)
    for name in ("03_quantize.ipynb", "00_start_here.ipynb", "notes.ipynb", "1_x.ipynb"):
        (tmp_path / name).write_text("")
    assert list(chapters.notebooks()) == ["00", "03"]
    assert chapters.word(tmp_path / "03_quantize.ipynb") == "quantize"
    with pytest.raises(ValueError, match="NN_word"):
        chapters.word(tmp_path / "notes.ipynb")


def test_modules_and_packages_are_found():
    assert [p.name for p in chapters.module_files("facts")] == ["facts.py"]
    assert "bake.py" in [p.name for p in chapters.module_files("lesson")]
    assert chapters.module_files("nothing") == []


# --- bake


def executed():
    """A notebook as it comes out of a kernel."""
    plot = new_output("display_data", {bake.PLOTLY: json.loads(figure().to_json())})
    control = new_output(
        "display_data",
        {
            bake.WIDGET: {"model_id": "1"},
            bake.PLOTLY: json.loads(figure().to_json()),
            "text/html": "Run this",
        },
    )
    nb = new_notebook(cells=[new_markdown_cell("# A"), new_code_cell("a = 1"), new_code_cell("b = 2")])
    nb.cells[1].outputs = [new_output("stream", name="stderr", text="bar 100%\n"), plot]
    nb.cells[2].outputs = [control]
    nb.metadata.widgets = {"state": {}}
    nb.metadata.language_info = {"name": "python", "version": "3.11.7"}
    return nb


def test_settle_leaves_a_page_that_needs_no_kernel():
    nb = executed()
    assert bake.settle(nb, lambda figure: b"a picture") == ["cell 1: bar 100%"]
    nbformat.validate(nb)
    assert "widget" not in nbformat.writes(nb)
    assert "3.11.7" not in nbformat.writes(nb)
    first, second = nb.cells[1].outputs, nb.cells[2].outputs
    assert [set(o.data) for o in first] == [{bake.PLOTLY, "image/png"}]
    assert [set(o.data) for o in second] == [{"text/html"}, {bake.PLOTLY, "image/png", "text/plain"}]


def test_settle_refuses_a_bare_widget():
    nb = executed()
    del nb.cells[2].outputs[0].data["text/html"]
    with pytest.raises(ValueError, match="code cell 2 shows a widget without a static form"):
        bake.settle(nb, lambda figure: b"")


def test_the_hash_covers_code_and_module_and_nothing_else(monkeypatch, tmp_path):
    module = tmp_path / "word.py"
    module.write_text("a = 1\n")
    monkeypatch.setattr(chapters, "module_files", lambda word: [module])
    nb = executed()
    before = bake.code_hash(nb, "word")
    nb.cells[0].source = "# Another title"
    nb.cells[1].outputs = []
    module.write_bytes(b"a = 1\r\n")
    assert bake.code_hash(nb, "word") == before
    nb.cells[1].source = "a = 2"
    changed = bake.code_hash(nb, "word")
    module.write_text("a = 2\n")
    assert len({before, changed, bake.code_hash(nb, "word")}) == 3


def test_artifacts_are_found_in_code_but_not_in_a_magic():
    nb = new_notebook(
        cells=[new_code_cell('artifacts.get("intent.int8")'), new_code_cell('%time "intent.pt"')]
    )
    assert bake.artifacts_of(nb, "nothing") == ["intent.int8"]


def test_execute_runs_in_the_notebooks_folder_apart_from_the_reader(tmp_path, reader):
    (tmp_path / "here.txt").write_text("")
    code = 'import os, sys\nassert os.path.exists("here.txt")\nprint(os.environ["KIT_ANSWERS"])'
    path = tmp_path / "99_sample.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), str(path))
    nb, seconds = bake.execute(path)
    assert str(reader) not in nb.cells[0].outputs[0].text
    assert 0 < seconds < 60


def test_saving_without_a_browser_is_explained_and_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    path = tmp_path / "99_sample.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), str(path))
    before = path.read_text()
    with pytest.raises(ValueError, match="Chromium"):
        bake.save(path)
    assert path.read_text() == before


# --- slides


def deck():
    def cell(make, text, kind):
        return make(text, metadata={"slideshow": {"slide_type": kind}})

    nb = executed()
    bake.settle(nb, lambda figure: b"a picture")
    nb.cells[1].metadata.tags = ["hide-input"]
    nb.cells += [
        cell(new_markdown_cell, "## Price\n$E = m$ costs $5 or $6, `$HOME`", "slide"),
        cell(new_markdown_cell, "said aloud", "notes"),
        cell(new_markdown_cell, "later", "fragment"),
    ]
    return nb


def test_a_deck_is_one_page_that_loads_nothing():
    page = slides.to_html(deck(), "A deck")
    markup = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.S)  # plotly.js itself names sites
    assert not re.search(r"<script[^>]+src=|<link|@import|<img[^>]+src=.http|url\(.?http", page)
    assert "//" not in re.sub(r"http://www\.w3\.org/\S+", "", re.sub(r"/\*.*?\*/", "", markup, flags=re.S))
    assert page.count("<section") == 4  # two slides, each in a column of its own
    assert "Plotly.newPlot" in page
    assert "<img" not in markup  # the live figure stands in for its picture


def test_a_deck_has_formulas_prices_notes_and_hidden_code():
    page = slides.to_html(deck(), "A deck")
    assert "<math" in page
    assert "costs $5 or $6" in page
    assert "<code>$HOME</code>" in page
    assert '<aside class="notes">' in page
    assert 'class="fragment"' in page
    assert len(re.findall(r'<div class="highlight', page)) == 1  # two code cells, one of them hidden


def test_a_deck_without_figures_is_small():
    nb = new_notebook(cells=[new_markdown_cell("# A")])
    assert len(slides.to_html(nb, "A")) < 400_000


def test_export_refuses_stale_outputs(tmp_path, monkeypatch):
    nb = deck()
    path = tmp_path / "99_sample.ipynb"
    nb.metadata.kit = {"hash": bake.code_hash(nb, "sample"), "seconds": 1}
    nbformat.write(nb, str(path))
    assert slides.export(path).stat().st_size > 4_000_000
    nb.cells[1].source = "a = 3"
    nbformat.write(nb, str(path))
    with pytest.raises(ValueError, match="kit slides --save"):
        slides.export(path)
