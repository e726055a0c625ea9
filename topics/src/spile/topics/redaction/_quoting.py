"""What errors may quote of data that nobody has checked yet."""

from __future__ import annotations

from typing import Final

from spile.topics.redaction._redactor import default_redactor

_LONGEST_NAME: Final = 64
_LONGEST_PATH: Final = 512


def quotable(path: str) -> str:
    """
    Return the path of a field, or a word of the caller's, as an error may quote it.

    A foreign name may be a secret or as long as its writer liked: secrets are replaced, names of
    more than 64 characters are only counted, and paths end after 512.
    """
    names = default_redactor().scrub(path).split(".")
    shown = ".".join(
        name if len(name) <= _LONGEST_NAME else f"<name of {len(name)} characters>"
        for name in names
    )
    return shown if len(shown) <= _LONGEST_PATH else f"{shown[:_LONGEST_PATH]}..."
