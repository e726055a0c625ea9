"""Secrets are taken out of an event before a byte of it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from spile.spi import ContextValue, InvalidEventError, RedactionError
from spile.topics import EventContract, Prepared
from spile.topics.events import EventMetadata, ObservabilityEvent, TelemetryEvent
from spile.topics.redaction import (
    REDACTED,
    Redacted,
    Redactor,
    default_redactor,
    sensitive_paths,
)

FIELDS: Final = "redacted_fields"
"""Name of the list of replaced fields: in the envelope's metadata, in a telemetry payload."""

_OWN: Final = b'"payload":'
_OWN_LENGTH: Final = len(_OWN)
_BRACE: Final = ord("{")
_BARE_METADATA: Final = b'"metadata":%b}' % EventMetadata().model_dump_json().encode()
_BARE_END: Final = -len(_BARE_METADATA)
_KEYS_KNOWN: Final = 10_000

Metadata = dict[str, ContextValue]


def chosen_redactor(choice: Redactor | bool) -> Redactor | None:
    """Return the redactor that a caller chose: True is the default one, False none."""
    if isinstance(choice, bool):
        return default_redactor() if choice else None
    return choice


class EventRedaction:
    """
    Takes secrets out of the parts of events.

    Args:
        redactor: Finds and replaces them.

    Attributes:
        clean_keys: Some record keys that are known to hold no secret.
        may_hold_secret: Says quickly whether JSON may hold one.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self.clean_keys: set[str] = set()
        self.may_hold_secret = redactor.may_hold_secret

    @staticmethod
    def room(contract: EventContract) -> Callable[[bytes], bytes]:
        """Return what cuts from a payload's JSON the part in which a secret can stand."""
        model = contract.model
        is_event = model is not None and issubclass(model, ObservabilityEvent)
        return _own_part if is_event else _whole

    def suspects(self, rooms: Iterable[bytes]) -> bool:
        """
        Say quickly whether a secret may stand in some parts of payloads.

        One look at many takes half the time of many looks.
        """
        return self._redactor.may_hold_secret(b"".join(rooms))

    def payload(
        self, contract: EventContract, marks: Sequence[str], prepared: Prepared
    ) -> tuple[Prepared, list[str]]:
        """
        Return a payload without secrets, and where in the envelope they were.

        The record's key stays the one of the payload as it was given. A telemetry payload lists
        its own fields itself.

        Raises:
            RedactionError: The payload cannot be inspected, or its contract allows no replacement.
        """
        try:
            found = self._redactor.redact_json(prepared.payload_json, marks=marks)
        except RedactionError as exc:
            if self._redactor.rules.fail_closed or contract.model is not None:
                raise _named(exc, contract) from None
            found = Redacted(value={"redacted": REDACTED}, fields=("",))
        if found is None:
            return prepared, []
        fields = list(found.fields)
        if contract.model is not None and issubclass(contract.model, TelemetryEvent):
            fields = _listed(found.value, fields)
        clean, left = self._prepare(contract, prepared, found)
        fields = [field for field in fields if field not in left]
        places = [f"payload.{field}" if field else "payload" for field in fields]
        return msgspec.structs.replace(clean, key=prepared.key), places

    @staticmethod
    def _prepare(
        contract: EventContract, prepared: Prepared, found: Redacted
    ) -> tuple[Prepared, set[str]]:
        """Validate what was made, and return it with the fields that were left after all."""
        try:
            return contract.prepare(found.value), set()
        except InvalidEventError as exc:
            problem = exc
        if found.numbers:
            # A number that must stay one, and only looks like a card's, is left as it is.
            original = msgspec.json.decode(prepared.payload_json)
            for path in found.numbers:
                _put(found.value, path, _at(original, path))
            left = {".".join(map(str, path)) for path in found.numbers}
            try:
                return contract.prepare(found.value), left
            except InvalidEventError as exc:
                problem = exc
        raise RedactionError(
            f"{contract.event_type}: {problem.field or 'payload'} holds a secret, and its contract "
            "allows no replacement there; nothing was sent",
            event_type=contract.event_type,
            field=problem.field,
        )

    def metadata(self, metadata: Metadata, event_type: str) -> tuple[Metadata, list[str]]:
        """
        Return metadata without secrets, and where in the envelope they were.

        Raises:
            RedactionError: It cannot be inspected.
        """
        try:
            found = self._redactor.redact(metadata, root="metadata")
        except RedactionError as exc:
            if self._redactor.rules.fail_closed:
                message = f"metadata of {event_type}: {exc}"
                raise RedactionError(message, event_type=event_type, field="metadata") from None
            return {}, ["metadata"]
        return found.value, [f"metadata.{field}" for field in found.fields]

    def key(self, key: str, redacted: list[str]) -> tuple[str, list[str]]:
        """
        Return a record's key, hashed when it holds a secret, and the replaced fields with it.

        Raises:
            RedactionError: It holds one, and there is no key to hash it with.
        """
        clean = self._redactor.record_key(key)
        if clean != key:
            return clean, [*redacted, "key"]
        if len(self.clean_keys) >= _KEYS_KNOWN:
            self.clean_keys.clear()
        self.clean_keys.add(key)
        return key, redacted

    @staticmethod
    def marks(contract: EventContract) -> tuple[str, ...]:
        """Return the paths that the contract's model marks as sensitive."""
        return sensitive_paths(contract.model)


def _own_part(data: bytes) -> bytes:
    """
    Cut out an observability event's own fields, where they are easily found.

    The common fields hold ids, times, numbers and fixed words, and more than half of the bytes;
    only `metadata` has texts, and usually stands at the end with nothing but a version. Where
    `payload` is the first object in the event, all before it are such fields.
    """
    own = data.find(_BRACE, 1) - _OWN_LENGTH
    if data.endswith(_BARE_METADATA) and data.startswith(_OWN, own):
        return data[own:_BARE_END]
    return data


def _whole(data: bytes) -> bytes:
    return data


def noted(metadata: Metadata | None, fields: Sequence[str]) -> Metadata:
    """Return metadata that lists the fields that were replaced."""
    return {**(metadata or {}), FIELDS: list(fields)}


def _listed(value: Any, fields: Sequence[str]) -> list[str]:
    """List a telemetry event's replaced fields in its payload; return those outside of it."""
    payload = cast("dict[str, Any]", value["payload"])
    own = [field.removeprefix("payload.") for field in fields if field.startswith("payload.")]
    if own:
        earlier = cast("list[str]", payload.get(FIELDS) or [])
        payload[FIELDS] = [*earlier, *(field for field in own if field not in earlier)]
    return [field for field in fields if not field.startswith("payload.")]


def _named(error: RedactionError, contract: EventContract) -> RedactionError:
    return RedactionError(
        f"payload of {contract.event_type}: {error}; nothing was sent",
        event_type=contract.event_type,
        field="payload",
    )


def _at(value: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        value = value[part]
    return value


def _put(value: Any, path: Sequence[str | int], item: Any) -> None:
    _at(value, path[:-1])[path[-1]] = item
