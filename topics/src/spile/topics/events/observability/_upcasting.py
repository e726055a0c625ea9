"""How observability events of older versions become those of the newest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from spile.topics._upcasting import Upcast, Upcasts

SCHEMA_VERSION: Final = "1.1.0"
"""The newest version of the observability events."""

_RESULT_TIMES: Final = "1.1.0"


def _to_1_1_0(event: dict[str, Any]) -> dict[str, Any]:
    """
    Give a result its own execution time.

    In 1.0.0 it stood only under `performance_metrics`; `result_truncated` and `full_result_size`
    came with 1.1.0 too, and are not known of older results.
    """
    given = event.get("metadata")
    metadata: dict[str, Any] = {}
    if isinstance(given, Mapping):
        metadata.update(cast("Mapping[str, Any]", given))
    stated: object = metadata.get("schema_version")
    if stated is not None and not (isinstance(stated, str) and UPCASTS.is_old(stated)):
        return event  # newest already, or unknown: never guessed, validation says so
    if given is None or metadata:
        event["metadata"] = {**metadata, "schema_version": SCHEMA_VERSION}
    metrics = event.get("performance_metrics")
    own = event.get("payload", event)
    if (
        event.get("event_type") == "PostToolUse"
        and isinstance(metrics, Mapping)
        and isinstance(own, dict)
        and cast("dict[str, Any]", own).get("execution_time_ms") is None
    ):
        took = cast("Mapping[str, Any]", metrics).get("execution_time_ms")
        if took is not None:
            own["execution_time_ms"] = took
    return event


UPCASTS: Final = Upcasts(
    (Upcast(source="1.0.0", target=_RESULT_TIMES, change=_to_1_1_0),), SCHEMA_VERSION
)
"""
The steps from every released version of the observability events to the newest.

A step names its target, so that a newer version without a step from the one before fails at import.
"""

KNOWN_SCHEMA_VERSIONS: Final = UPCASTS.known
"""The versions that this release reads."""


def upcast(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event, nested or flat, as the newest version has it, where it states an older."""
    metadata = event.get("metadata")
    if not isinstance(metadata, Mapping):
        return event
    version: object = cast("Mapping[str, Any]", metadata).get("schema_version")
    if not isinstance(version, str) or not UPCASTS.is_old(version):
        return event
    return UPCASTS.apply(event, version)
