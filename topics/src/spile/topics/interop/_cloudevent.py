"""A CloudEvent as a value: attributes as text, data as bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from spile.spi import InvalidEventError
from spile.topics.redaction import quotable

SPEC_VERSION: Final = "1.0"
JSON_TYPE: Final = "application/json"

_NAME: Final = re.compile(r"[a-z0-9]+")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_PLANE_END: Final = 0xFFFE
_BEYOND_BMP: Final = 0x10000
_CORE: Final = ("id", "source", "type", "time", "subject", "datacontenttype", "dataschema")
_REQUIRED: Final = ("id", "source", "type")
_RESERVED: Final = frozenset((*_CORE, "specversion", "data"))


def is_text(value: str) -> bool:
    """
    Say whether an attribute may hold a text.

    Source: CloudEvents 1.0.2, section Type System: no control characters, no noncharacters, no
    lone surrogates.
    """
    if value.isascii() and value.isprintable():
        return True
    if _CONTROL.search(value):
        return False
    return not any(
        ord(char) >= _BEYOND_BMP and (ord(char) & 0xFFFF) >= _PLANE_END for char in value
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """
    An event in the form of CloudEvents 1.0.

    All attributes are texts in the canonical encoding of their type, so that what came in goes out
    unchanged.

    Attributes:
        id: Unique within its source.
        source: URI reference of what it comes from.
        type: Kind of event.
        time: RFC 3339; None when the producer does not say.
        subject: What it is about, within the source.
        datacontenttype: Media type of the data.
        dataschema: URI of the data's schema.
        extensions: Further attributes; names of lower-case letters and digits.
        data: The data, encoded; None when there is none, which differs from empty data.

    Raises:
        InvalidEventError: An attribute breaks the specification; the error names it.
    """

    id: str
    source: str
    type: str
    time: str | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    data: bytes | None = None

    def __post_init__(self) -> None:
        for name in _CORE:
            value: object = getattr(self, name)
            if value is not None or name in _REQUIRED:
                _check(name, value, least=1)
        for name, value in self.extensions.items():
            if not _NAME.fullmatch(name) or name in _RESERVED:
                raise InvalidEventError(
                    f"CloudEvent: {quotable(name)!r} is no name of an extension attribute: only "
                    f"lower-case letters and digits, and none of {', '.join(sorted(_RESERVED))}",
                    field=quotable(name),
                )
            _check(name, value, least=0)

    @property
    def attributes(self) -> dict[str, str]:
        """All attributes that are set but `specversion`, by their names."""
        core = {name: value for name in _CORE if (value := getattr(self, name)) is not None}
        return core | dict(self.extensions)

    @classmethod
    def of(cls, attributes: Mapping[str, str], data: bytes | None) -> CloudEvent:
        """
        Make an event of attributes by their names.

        Raises:
            InvalidEventError: An attribute is missing or breaks the specification.
        """
        for name in _REQUIRED:
            if name not in attributes:
                raise InvalidEventError(
                    f"CloudEvent: required attribute {name} is missing", field=name
                )
        return cls(
            **{name: attributes[name] for name in _CORE if name in attributes},
            extensions={
                name: value
                for name, value in attributes.items()
                if name not in _CORE and name != "specversion"
            },
            data=data,
        )


def _check(name: str, value: object, *, least: int) -> None:
    if isinstance(value, str) and len(value) >= least and is_text(value):
        return
    raise InvalidEventError(
        f"CloudEvent: attribute {name} must be a text{' that is not empty' if least else ''}, "
        "without control characters",
        field=name,
    )
