"""API keys: made at random, stored as hashes, compared in constant time.

A key is 32 random bytes, so nobody can try them all, and a fast hash is enough (a password, which people
choose, would need a slow one). Whoever steals the file cannot call the server with what stands in it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kit.serve.limits import KINDS

PREFIX = "kit-"


class KeyFileError(ValueError):
    """A file of keys that cannot be read; the message says where and what was expected."""


@dataclass(frozen=True)
class Key:
    """Who may call, and how much.

    Attributes:
        name: for logs and usage, unique.
        sha256: of the key's text, as hexadecimal digits.
        admin: may change models.
        limits: kind -> how much in a window; see ``limits.KINDS``.
        budget_usd: spend from which an alert fires; None: none.
    """

    name: str
    sha256: str
    admin: bool = False
    limits: dict[str, int] = field(default_factory=dict)
    budget_usd: float | None = None


def make() -> str:
    """A new key. Show it once: only its hash is kept."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """SHA-256 of a key, as hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def find(keys: Sequence[Key], presented: str) -> Key | None:
    """Whose key it is; None: nobody's.

    What is compared are hashes, so a key that begins like a real one is as far off as any other; and all are
    compared, each in constant time, so the time says nothing about where the match stood.
    """
    wanted, found = digest(presented), None
    for key in keys:
        if hmac.compare_digest(key.sha256, wanted):
            found = key
    return found


def load(path: Path) -> tuple[Key, ...]:
    """Read a file of keys.

    Raises:
        KeyFileError: not TOML, an unknown field, a hash that is none, or two keys of one name.
    """
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("key", [])
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise KeyFileError(f"{path}: {e}. Make a key with: kit keys new NAME --file {path}") from None
    keys = [_key(path, i, entry) for i, entry in enumerate(entries, 1)]
    names = [k.name for k in keys]
    if twice := {n for n in names if names.count(n) > 1}:
        raise KeyFileError(f"{path}: more than one key is called {', '.join(sorted(twice))}.")
    return tuple(keys)


def _key(path: Path, place: int, entry: dict) -> Key:
    where = f"{path}, key {place}"
    if unknown := set(entry) - {"name", "sha256", "admin", "limits", "budget_usd"}:
        raise KeyFileError(f"{where}: unknown field {', '.join(sorted(unknown))}.")
    name, hashed = entry.get("name"), entry.get("sha256", "")
    if not isinstance(name, str) or not name:
        raise KeyFileError(f"{where}: a key needs a name.")
    if not isinstance(hashed, str) or len(hashed) != 64 or set(hashed) - set("0123456789abcdef"):
        raise KeyFileError(f"{where} ({name}): sha256 must be 64 hexadecimal digits, not the key itself.")
    limits = entry.get("limits", {})
    wrong = [k for k, v in limits.items() if k not in KINDS or not isinstance(v, int) or v < 1]
    if wrong:
        raise KeyFileError(
            f"{where} ({name}): limits are whole numbers above 0 of {', '.join(KINDS)}; wrong: "
            f"{', '.join(wrong)}."
        )
    budget = entry.get("budget_usd")
    if budget is not None and (
        isinstance(budget, bool) or not isinstance(budget, int | float) or budget <= 0
    ):
        raise KeyFileError(f"{where} ({name}): budget_usd must be a number above 0, got {budget!r}.")
    return Key(name, hashed, bool(entry.get("admin", False)), limits, budget)


def add(path: Path, name: str, admin: bool = False, limits: Mapping[str, int] | None = None) -> str:
    """Make a key, write its hash at the end of the file, and return the key.

    Args:
        path: the file; made if it is not there, readable for its owner only.
        name, admin, limits: as of ``Key``.

    Raises:
        KeyFileError: the name is taken, or cannot stand in the file.
    """
    if not name.isidentifier():
        raise KeyFileError(f"a name has letters, digits and _ only, got {name!r}.")
    if path.exists() and any(k.name == name for k in load(path)):
        raise KeyFileError(f"{path}: there is a key called {name} already.")
    key = make()
    lines = ["", "[[key]]", f'name = "{name}"', f'sha256 = "{digest(key)}"']
    lines += ["admin = true"] if admin else []
    if limits:
        lines.append("limits = {" + ", ".join(f"{kind} = {n}" for kind, n in limits.items()) + "}")
    path.touch(mode=0o600)
    with path.open("a", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    load(path)  # complain now about a limit that cannot be
    return key
