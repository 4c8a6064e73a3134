"""What the reader said and what they solved: one small JSON file, and nothing else leaves the notebook.

The file is ``$KIT_ANSWERS``, or ``answers.json`` in the artifacts' folder. It looks like this:
``{"predictions": {"03.size": 135.0}, "passed": {"03.2": true}}``. Delete it to start afresh.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from kit import artifacts

SECTIONS = ("predictions", "passed")


def path() -> Path:
    """Where the answers are kept."""
    return Path(os.environ.get("KIT_ANSWERS") or artifacts.home() / "answers.json")


def load(section: str) -> dict[str, object]:
    """Everything kept in ``section`` (``"predictions"`` or ``"passed"``); empty if there is nothing."""
    try:
        kept = json.loads(path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    entries = kept.get(section) if isinstance(kept, dict) else None
    return entries if isinstance(entries, dict) else {}


def save(section: str, key: str, value: object) -> None:
    """Keep ``value`` under ``key``; written in one step, so that no reader ever sees half a file.

    Raises:
        OSError: the folder cannot be written.
    """
    from filelock import FileLock

    file = path()
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):  # two notebooks may be open at once
        kept = {name: load(name) for name in SECTIONS}
        kept[section][key] = value
        scratch = file.with_suffix(".part")
        scratch.write_text(json.dumps(kept, indent=1, ensure_ascii=False), "utf-8")
        os.replace(scratch, file)


def unattended() -> bool:
    """True in continuous integration, where no reader is there whose progress could be kept."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
