"""Questions and controls. Each is displayed together with what a page without a kernel shows instead.

A display bundle may hold several forms of one thing: JupyterLab takes the widget, a stored page (see
``bake``) the static form beside it. Nothing here writes a file unless the reader typed or clicked.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as W
from IPython.display import display

from kit.lesson import answers, render
from kit.plots import number

_PLOTLY = "application/vnd.plotly.v1+json"


def _number(text: str) -> float:
    """Read a number as people type it: ``1500``, ``1 500``, ``1e3``, ``0.5``.

    Raises:
        ValueError: anything else, a comma included, since it means different things in different places.
    """
    try:
        value = float(text.replace(" ", "").replace("_", ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a number. Type digits, with a dot for decimals, such as 12.5.")
    return value


def predict(key: str, question: str, unit: str = "", choices: Sequence[str] | None = None) -> None:
    """Ask for a guess before the measurement: a number, or one of ``choices``.

    Args:
        key: chapter and a word, ``"03.size"``; ``predicted`` finds the guess under it.
        question: one sentence.
        unit: of the number, shown beside the box.
        choices: offered instead of a box for a number.
    """
    kept = answers.load("predictions").get(key)
    note = W.Label("Kept." if kept is not None else "")
    if choices is None:
        box = W.Text(
            value=f"{kept:g}" if isinstance(kept, int | float) else "",
            placeholder="your guess",
            continuous_update=False,
            layout=W.Layout(width="10em"),
        )
    else:
        box = W.ToggleButtons(options=list(choices), value=kept if kept in choices else None)

    def keep(change: dict) -> None:
        try:
            value = change["new"] if choices else _number(change["new"])
            answers.save("predictions", key, value)
            note.value = "Kept. Run the cells below to compare."
        except ValueError as e:
            note.value = str(e)
        except OSError as e:
            note.value = f"Not kept: cannot write to {answers.path().parent} ({e.strerror})."

    box.observe(keep, "value")
    form = W.VBox([W.Label(question), W.HBox([box, W.Label(unit), note])])
    asked = f"{question} ({' / '.join(choices) if choices else unit or 'a number'})"
    _display(form, render.card("question", "Predict.", f"{asked} Run this cell to type your guess."))


def predicted(key: str, actual: float | str, unit: str = "", how: str = "measured") -> None:
    """Show the reader's guess beside the measured value.

    Args:
        key: as given to ``predict``.
        actual: the measured number, or the choice that turned out right.
        unit: of the number.
        how: it came about: "measured", or "calculated".
    """

    def text(value: object) -> str:
        return value if isinstance(value, str) else f"{number(float(value))} {unit}".strip()  # type: ignore

    guess = answers.load("predictions").get(key)
    if guess is None:
        render.show("open", f"{how.capitalize()}: {text(actual)}.", "You made no prediction for this one.")
    else:
        title = f"You said {text(guess)}, {how} {text(actual)}."
        render.show("result", title, _distance(guess, actual))


def _distance(guess: object, actual: object) -> str:
    """One sentence on how far the guess was off."""
    if isinstance(guess, str) or isinstance(actual, str):
        return "Right." if guess == actual else ""
    g, a = float(guess), float(actual)  # type: ignore[arg-type]
    if math.isclose(g, a, rel_tol=0.1):
        return "Within 10 percent."
    way = "high" if g > a else "low"
    factor = max(g / a, a / g) if g > 0 and a > 0 else math.inf
    return f"{number(factor)} times too {way}." if factor < 1000 else f"Too {way}."


def whatif(fn: Callable[..., Any], **controls: object) -> None:
    """Show ``fn``'s figure with a control for each of its arguments, and draw again when one moves.

    ``fn`` runs once at the defaults before anything is shown, so that an error in it is an error of the
    cell. The figure of that run is also the static form.

    Args:
        fn: called with one keyword argument per control; returns a plotly figure or anything displayable.
        controls: ``(min, max, step, default)`` makes a slider (of whole numbers if all four are),
            a list a drop-down that starts at its first entry, ``True`` or ``False`` a checkbox.

    Raises:
        ValueError: a control of another form, or an ``fn`` that returns nothing.
    """
    widgets = {name: _control(name, spec) for name, spec in controls.items()}
    ready = [fn(**{name: w.value for name, w in widgets.items()})]
    names = ", ".join(controls).replace("_", " ")
    card = render.card("question", "What if?", f"Run this cell to get the controls: {names}.")
    static = _static(ready[0])
    card["text/html"] += static.pop("text/html", "")

    def draw(**values: object) -> None:
        display(ready.pop() if ready else fn(**values))

    form = W.VBox([*widgets.values(), W.interactive_output(draw, widgets)])
    _display(form, static | card)


def _control(name: str, spec: object) -> W.ValueWidget:
    label = {"description": name.replace("_", " "), "style": {"description_width": "12em"}}
    wide = {"layout": W.Layout(width="36em"), "continuous_update": False}
    if isinstance(spec, bool):
        return W.Checkbox(value=spec, indent=True, **label)
    if isinstance(spec, list) and spec:
        return W.Dropdown(options=spec, value=spec[0], **label)
    if isinstance(spec, tuple) and len(spec) == 4 and all(isinstance(v, int | float) for v in spec):
        low, high, step, default = spec
        if low <= default <= high and step > 0:
            slider = W.IntSlider if all(isinstance(v, int) for v in spec) else W.FloatSlider
            return slider(value=default, min=low, max=high, step=step, **label, **wide)
    raise ValueError(
        f"control {name!r} must be (min, max, step, default) with min ≤ default ≤ max, a list of choices, "
        f"or True or False, got {spec!r}."
    )


def _static(shown: object) -> dict[str, Any]:
    """The display bundle of a plotly figure, or of anything that IPython can show."""
    import plotly.graph_objects as go
    import plotly.io as pio
    from IPython.core.formatters import DisplayFormatter

    if isinstance(shown, go.Figure):
        return {_PLOTLY: pio.renderers["plotly_mimetype"].to_mimebundle(shown.to_dict())[_PLOTLY]}  # type: ignore
    if shown is None:
        raise ValueError("a what-if function must return its figure (or table), and this one returned None.")
    data, _ = DisplayFormatter().format(shown)
    plain = data.pop("text/plain")
    return data or {"text/html": f"<pre>{html.escape(plain)}</pre>"}


def _display(form: W.Widget, static: dict[str, Any]) -> None:
    """Display ``form`` and, in the same bundle, the static forms that stand in for it."""
    bundle: Any = form._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    display({**data, **static}, raw=True)
