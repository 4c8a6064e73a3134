"""Run a notebook in a fresh kernel, and store its outputs so that the page reads well without a kernel.

Stored pages differ from live ones in four ways: beside each interactive figure stands a PNG, each widget is
replaced by its static form, what changes from run to run for no reason is left out, and the metadata hold a
hash of the code, so that a test can tell when the outputs are older than the code.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

from kit import artifacts
from kit.lesson import chapters

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
MAX_BYTES = 1_000_000
CELL_SECONDS = 600


def code_cells(nb: Any) -> list[Any]:
    """The notebook's code cells."""
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def code_hash(nb: Any, chapter: str) -> str:
    """Sixteen hex digits over the code cells and the source of ``kit.<chapter>``."""
    digest = hashlib.sha256(json.dumps([cell.source for cell in code_cells(nb)]).encode())
    for file in chapters.module_files(chapter):
        digest.update(file.read_text("utf-8").encode())  # read as text: line ends do not count
    return digest.hexdigest()[:16]


def artifacts_of(nb: Any, chapter: str) -> list[str]:
    """Names of the artifacts that the notebook or its module mentions, in the order of the recipes."""
    sources = [cell.source for cell in code_cells(nb)]
    sources += [file.read_text("utf-8") for file in chapters.module_files(chapter)]
    strings = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:  # a cell with a shell line or a magic
            continue
        strings |= {
            n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
        }
    return [name for name in artifacts.RECIPES if name in strings]


def execute(notebook: Path) -> tuple[Any, float]:
    """Run all cells in a fresh kernel, in the notebook's folder. What was stored before is not used.

    The artifacts it needs are built first. The reader's own answers are neither read nor changed.

    Returns:
        The notebook with its new outputs, and the seconds that it took.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message holds its traceback.
    """
    from nbclient import NotebookClient

    nb = nbformat.read(notebook, as_version=4)
    for name in artifacts_of(nb, chapters.word(notebook)):
        artifacts.get(name)
    client = NotebookClient(
        nb,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        client.execute(env=os.environ | {"KIT_ANSWERS": str(Path(folder, "answers.json"))})
        return nb, time.monotonic() - start


def size(figure: dict) -> tuple[int, int]:
    """Width and height of a plotly figure in points: its own, its template's, or 700 x 400."""
    own = figure["layout"]
    default = own.get("template", {}).get("layout", {})
    return own.get("width") or default.get("width") or 700, own.get("height") or default.get("height") or 400


@contextmanager
def png_writer() -> Iterator[Callable[[dict], bytes]]:
    """Yield a function from a plotly figure (as a dict) to a PNG. One browser start serves them all.

    Raises:
        ValueError: no Chromium is installed, or no kaleido; the message says what to install.
    """
    try:
        import kaleido
        from choreographer.browsers.chromium import Chromium
    except ImportError as e:
        raise ValueError("static images need kaleido. Run: pip install -e '.[dev]'") from e
    browser = Chromium.find_browser(skip_local=False)
    if not browser or not Path(browser).exists():
        raise ValueError(
            "static images need Chromium or Chrome, and none was found. Install one (Debian: apt-get install "
            "chromium), or set BROWSER_PATH to the program. Without --save no browser is needed."
        )
    # MathJax would come from the network; the kit's figures hold no formulas.
    pages = kaleido.PageGenerator(mathjax=False)
    kaleido.start_sync_server(n=1, silence_warnings=True, page_generator=pages)
    try:

        def to_png(figure: dict) -> bytes:
            width, height = size(figure)
            return kaleido.calc_fig_sync(figure, opts={"format": "png", "width": width, "height": height})

        yield to_png
    finally:
        kaleido.stop_sync_server(silence_warnings=True)


def settle(nb: Any, to_png: Callable[[dict], bytes]) -> list[str]:
    """Make the outputs of an executed notebook static, in place.

    Returns:
        What was written to stderr and is not stored, for the author to read.

    Raises:
        ValueError: a cell shows a widget that brings no static form.
    """
    left_out = []
    nb.metadata.pop("widgets", None)
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb.metadata.language_info = {"name": "python"}
    for number, cell in enumerate(code_cells(nb), 1):
        cell.metadata.pop("execution", None)
        kept = []
        for output in cell.outputs:
            if output.get("name") == "stderr":
                left_out.append(f"cell {number}: {output.text.strip()}")
            elif WIDGET in output.get("data", {}):
                kept += _without_widget(output, number)
            else:
                kept.append(output)
        for output in kept:
            figure = output.get("data", {}).get(PLOTLY)
            if figure:
                picture = to_png({"data": figure["data"], "layout": figure["layout"]})
                output.data["image/png"] = base64.b64encode(picture).decode()
        cell.outputs = kept
    return left_out


def _without_widget(output: Any, number: int) -> list[Any]:
    """The static forms beside a widget: its text, and after it its figure, as outputs of their own."""
    data = {kind: value for kind, value in output.data.items() if kind != WIDGET}
    if "text/html" not in data:
        raise ValueError(
            f"code cell {number} shows a widget without a static form. Use lesson.predict or lesson.whatif, "
            "or display the widget in one bundle with text/html."
        )
    figure = data.pop(PLOTLY, None)
    outputs = [nbformat.v4.new_output("display_data", data)]
    if figure:
        outputs.append(nbformat.v4.new_output("display_data", {PLOTLY: figure, "text/plain": "a figure"}))
    return outputs


def save(notebook: Path) -> tuple[float, list[str]]:
    """Run ``notebook`` and store its outputs in it; on any error the file stays as it was.

    Returns:
        Seconds of the run, and what was left out (see ``settle``).

    Raises:
        ValueError: no browser for the images, a bare widget, or a file above 1 MB.
    """
    with png_writer() as to_png:
        nb, seconds = execute(notebook)
        left_out = settle(nb, to_png)
    nb.metadata.kit = {"hash": code_hash(nb, chapters.word(notebook)), "seconds": round(seconds)}
    nbformat.validate(nb)
    text = nbformat.writes(nb) + "\n"
    if len(text.encode()) > MAX_BYTES:
        raise ValueError(
            f"{notebook.name} would be {len(text.encode()) / 1e6:.1f} MB with its outputs, and the limit is "
            "1 MB. Draw fewer points, or print less."
        )
    scratch = notebook.with_suffix(".part")
    scratch.write_text(text, "utf-8")
    os.replace(scratch, notebook)
    return seconds, left_out
