"""What requests of all kinds share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spile.topics._json import JsonObject
from spile.topics._strict import MAX_INTEGER, Milliseconds, Name, Strict
from spile.topics._wire import Id

TimeoutMs = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
"""How long somebody waits, in whole milliseconds."""


class FailedRequest(Strict, frozen=True):
    """
    A request failed.

    Attributes:
        error_code: Short and stable, such as `TIMEOUT`.
        retryable: Whether the same request may succeed later; no by default.
        processing_time_ms: How long the responder tried.
        correlation_id: The request's; the envelope carries the same.
    """

    error_code: Name
    error_message: str
    retryable: bool = False
    error_details: JsonObject | None = None
    processing_time_ms: Milliseconds | None = None
    correlation_id: Id | None = None
