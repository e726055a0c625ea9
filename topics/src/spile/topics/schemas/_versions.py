"""Versions of schemas."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from spile.spi import SchemaError

_VERSION: Final = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(?:\.(0|[1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Version:
    """
    `major.minor` or `major.minor.patch`; `str()` gives the text back.

    Attributes:
        major: Rises with a breaking change; a new major is a new topic.
        minor: Rises with a compatible change.
        patch: Rises with a change that nobody sees in the data; 0 when not written.
        text: The version as it was written.
    """

    major: int
    minor: int
    patch: int
    text: str = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> Version:
        """
        Read a version.

        Raises:
            SchemaError: It is none.
        """
        found = _VERSION.fullmatch(text)
        if found is None:
            raise SchemaError(f"{text[:40]!r} is no version, expected major.minor.patch")
        major, minor, patch = (int(number or 0) for number in found.groups())
        return cls(major=major, minor=minor, patch=patch, text=text)

    def __str__(self) -> str:
        return self.text
