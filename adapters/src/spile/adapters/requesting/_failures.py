"""What a failed answer says."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ValidationError

from spile.spi import ConfigurationError, PermanentError, RequestFailedError, RetriableError
from spile.topics.events.requests import FailedRequest

_TEXT_LIMIT: Final = 1000
_FIELDS_SHOWN: Final = 5
_CODES: Final = ("TIMEOUT", "INTERNAL_ERROR", "INVALID_ANSWER", "INVALID_REQUEST")


def check_failed_model(trio: str, model: type[BaseModel]) -> None:
    """
    Check that a model can hold whatever a responder may have to send.

    Raises:
        ConfigurationError: It cannot; says which fields.
    """
    what = f"the failed model {model.__name__} of the trio {trio}"
    if not issubclass(model, FailedRequest):
        lacking = [name for name in FailedRequest.model_fields if name not in model.model_fields]
        lacks = f", and lacks {', '.join(lacking)}" if lacking else ""
        raise ConfigurationError(
            f"{what} is no FailedRequest{lacks}: derive it from "
            "spile.topics.events.requests.FailedRequest"
        )
    for code in _CODES:
        text = f"{code} ".ljust(_TEXT_LIMIT, "x")
        try:
            _made(model, RequestFailedError("", code=code), None)
            _made(model, RequestFailedError(text, code=code, retriable=True), 0.5)
        except (ValidationError, ValueError, TypeError) as exc:
            raise ConfigurationError(
                f"{what} cannot hold the failure {code}, which a responder may have to send: "
                f"{one_line(exc)}; fields of its own need defaults, and those of FailedRequest "
                "must take the same values as there"
            ) from exc


def failure_of(
    model: type[FailedRequest], error: Exception, processing_time_ms: float | None
) -> FailedRequest:
    """Return the answer that tells an error; of one that it cannot hold, that it cannot."""
    if not isinstance(error, RequestFailedError):
        error = RequestFailedError(
            f"{type(error).__name__}: {one_line(error)}",
            code="TIMEOUT" if isinstance(error, TimeoutError) else "INTERNAL_ERROR",
            retriable=isinstance(error, RetriableError),
        )
    try:
        return _made(model, error, processing_time_ms)
    except (ValidationError, ValueError, TypeError) as exc:
        told = f"the failure {str(error.code)[:80]!r} cannot be told: {one_line(exc)}"
        return _made(model, RequestFailedError(told, code="INVALID_ANSWER"), processing_time_ms)


def one_line(error: BaseException) -> str:
    """Return what an error says in one line; of a model's, the fields, without their values."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(str(step) for step in one['loc']) or '*'}: {one['msg']}" for one in found]
    if len(told) > _FIELDS_SHOWN:
        told[_FIELDS_SHOWN:] = [f"and {len(told) - _FIELDS_SHOWN} more"]
    return " ".join(f"{error.title}: {'; '.join(told)}".split())


def refused(error: Exception) -> PermanentError:
    """Return the error that stands for what a payload raised when it was written."""
    return PermanentError(f"{type(error).__name__}: {one_line(error)}")


def too_late(limit_s: float) -> RequestFailedError:
    """Return the failure of a handler whose time is up."""
    return RequestFailedError(f"not done within {limit_s:.3f} s", code="TIMEOUT", retriable=True)


def _made(
    model: type[FailedRequest], error: RequestFailedError, processing_time_ms: float | None
) -> FailedRequest:
    return model(
        error_code=error.code,
        error_message=str(error)[:_TEXT_LIMIT],
        retryable=error.retriable,
        error_details=None if error.details is None else dict(error.details),
        processing_time_ms=processing_time_ms,
    )
