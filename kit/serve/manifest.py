"""Model files are checked before they are opened: against hashes, and the hashes against a signature.

A hash says that a file is the one that was meant; a signature (Ed25519, RFC 8032) says who meant it. Whoever
can change the file beside the hash could change both, but cannot sign.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key


class ManifestError(ValueError):
    """A file is not the one that the manifest names, or the manifest is not signed by the right person."""


def sha256(path: Path) -> str:
    """Hash of a file, as hexadecimal digits."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@dataclass(frozen=True)
class Manifest:
    """File names and their hashes."""

    files: dict[str, str]

    def check(self, path: Path) -> None:
        """Raises ManifestError unless the file is the one that the manifest names."""
        expected = self.files.get(path.name)
        if expected is None:
            raise ManifestError(f"{path.name} is not in the manifest, which names: {', '.join(self.files)}.")
        if (found := sha256(path)) != expected:
            raise ManifestError(
                f"{path.name} is not the file of the manifest: its SHA-256 begins {found[:12]}, "
                f"{expected[:12]} "
                "was expected. Get it again."
            )


def _signature(path: Path) -> Path:
    return path.with_name(path.name + ".sig")


def write(path: Path, files: Sequence[Path], private_key: Path | None = None) -> None:
    """Write the hashes of ``files``, and with a key (PEM, Ed25519) a signature beside them."""
    text = json.dumps({f.name: sha256(f) for f in files}, indent=1)
    path.write_text(text, "utf-8")
    if private_key is not None:
        key = load_pem_private_key(private_key.read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ManifestError(f"{private_key}: an Ed25519 key is needed.")
        _signature(path).write_bytes(key.sign(text.encode()))


def read(path: Path, public_key: Path | None = None) -> Manifest:
    """Read a manifest.

    Args:
        path: written by ``write``.
        public_key: PEM, Ed25519, of whoever must have signed it; None: the signature does not matter.

    Raises:
        ManifestError: it cannot be read, or is not signed with the other half of this key.
    """
    try:
        text = path.read_bytes()
        if public_key is not None:
            key = load_pem_public_key(public_key.read_bytes())
            if not isinstance(key, Ed25519PublicKey):
                raise ManifestError(f"{public_key}: an Ed25519 key is needed.")
            key.verify(_signature(path).read_bytes(), text)
        return Manifest(json.loads(text))
    except InvalidSignature:
        raise ManifestError(f"{path} was not signed with the other half of {public_key}.") from None
    except (OSError, ValueError) as e:
        raise ManifestError(f"{path}: {e}") from None
