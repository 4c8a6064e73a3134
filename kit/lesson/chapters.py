"""Which chapters and decks there are: the folder listing is the table of contents."""

from __future__ import annotations

import re
from pathlib import Path

from kit.artifacts import ROOT

NOTEBOOKS = ROOT / "notebooks"
SLIDES = ROOT / "slides"

_NAME = re.compile(r"(\d\d)_([a-z_]+)\.ipynb")


def notebooks() -> dict[str, Path]:
    """The chapters' notebooks by number, in order: ``notebooks/03_quantize.ipynb`` is ``"03"``."""
    return _listing(NOTEBOOKS)


def decks() -> dict[str, Path]:
    """The decks by number, in order. Number and name are a deck's own: it may be made of several chapters."""
    return _listing(SLIDES)


def _listing(folder: Path) -> dict[str, Path]:
    return {m[1]: path for path in sorted(folder.glob("*.ipynb")) if (m := _NAME.fullmatch(path.name))}


def word(notebook: Path) -> str:
    """The one word of a chapter, which its module and its test share, or of a deck.

    ``03_quantize.ipynb`` -> ``quantize``.
    """
    match = _NAME.fullmatch(notebook.name)
    if match is None:
        raise ValueError(f"{notebook.name} must be called NN_word.ipynb, such as 03_quantize.ipynb.")
    return match[2]


def notebook(number: str) -> Path:
    """The notebook of chapter ``number`` (``"03"``, or ``"3"``).

    Raises:
        ValueError: no such chapter; the message lists those that exist.
    """
    found = notebooks()
    if number.zfill(2) not in found:
        raise ValueError(f"there is no chapter {number!r}. Chapters: {', '.join(found) or 'none yet'}.")
    return found[number.zfill(2)]


def module_files(chapter: str) -> list[Path]:
    """Source files of ``kit.<chapter>``, a module or a package. Empty if there is none."""
    module = ROOT / "kit" / f"{chapter}.py"
    return [module] if module.exists() else sorted((ROOT / "kit" / chapter).rglob("*.py"))
