"""Names of files and documents, in either form of Unicode.

Hangul and accents have a composed form (NFC), which keyboards type, and a decomposed one (NFD), in which
macOS writes file names. They look alike, but are different strings.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


def nfc(name: str) -> str:
    """Return a name in its composed form, to compare it with other names."""
    return unicodedata.normalize("NFC", name)


def existing_path(path: Path | str) -> Path:
    """Return a path with `~` expanded, each part in the Unicode form in which it exists on the disk.

    A part that does not exist is left as it is, and so is `~` of an unknown user.
    """
    path = Path(os.path.expanduser(path))  # Path.expanduser raises for an unknown user
    if os.path.lexists(path) or not path.name:
        return path
    parent = existing_path(path.parent)
    try:
        same = [name for name in sorted(os.listdir(parent)) if nfc(name) == nfc(path.name)]
    except OSError:  # no such folder, or no permission to list it
        return path
    return parent / (same or [path.name])[0]
