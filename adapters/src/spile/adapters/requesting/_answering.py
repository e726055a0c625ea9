"""From one request to its answer on the bus."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeAlias
from uuid import UUID

import structlog
from pydantic import BaseModel

from spile.adapters.delivery import Backoff, OutgoingEvent
from spile.adapters.publishing import EventPublisher, Fate
from spile.adapters.requesting._failures import failure_of, one_line, refused, too_late
from spile.adapters.requesting._in_hand import Patience
from spile.adapters.requesting._trio import Answer, Asked, Form, Trio
from spile.spi import (
    ClosedError,
    RequestFailedError,
    RetriableError,
    SpileError,
)
from spile.topics import Route
from spile.topics.events.requests import FailedRequest

log = structlog.get_logger(__name__)

RequestHandler: TypeAlias = Callable[[Asked], Awaitable[Answer]]
"""Answers a request; must be idempotent, since a request may come twice."""

_ANSWER_IDS: Final = UUID("0b1c7a52-7d5f-5c0e-9a55-2f6a8d1f3c47")
_NAMESPACE: Final = _ANSWER_IDS.bytes
_LEAST_ATTEMPTS: Final = 5


class Answering(Generic[Asked, Answer]):
    """
    Runs the handler and publishes what came of it.

    Args:
        trio: What is asked.
        handler: Answers.
        publisher: Sends the answers.
        routes: Where answers and failures go.
        backoff: Waits between attempts to send one answer.
    """

    def __init__(
        self,
        trio: Trio[Asked, Answer],
        handler: RequestHandler[Asked, Answer],
        *,
        publisher: EventPublisher,
        routes: tuple[Route, Route],
        backoff: Backoff,
    ) -> None:
        self._trio = trio
        self._handler = handler
        self._publisher = publisher
        self._completed, self._failed = routes
        self._forms = (
            Form(routes[0].contract, trio.completed),
            Form(routes[1].contract, trio.failed),
        )
        self._answers = (trio.completed, trio.failed)
        self._backoff = backoff

    async def run(
        self, request: Asked, patience: Patience, *, limit_s: float
    ) -> Answer | FailedRequest:
        """
        Call the handler; what it raises becomes a failure.

        Args:
            request: What is asked.
            patience: Ends the handler.
            limit_s: After how many seconds it does.
        """
        started = time.perf_counter()
        is_ended = False
        try:
            try:
                answer = await self._handler(request)
            finally:
                is_ended = patience.end()
            if isinstance(answer, self._answers):
                return answer
            error: Exception = self._is_no_answer(answer)
        except RequestFailedError as exc:
            error = exc
        except TimeoutError as exc:
            error = too_late(limit_s) if patience.expired else exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if is_ended:
                error = too_late(limit_s)
            elif task is None or task.cancelling():
                raise
            else:
                error = RuntimeError(
                    "the handler raised CancelledError although nobody cancelled it"
                )
                error.__cause__ = exc
        except Exception as exc:  # noqa: BLE001 - the handler boundary: ends in a failed answer
            error = exc
        return self.failure(error, (time.perf_counter() - started) * 1000)

    def failure(self, error: Exception, processing_time_ms: float | None = None) -> FailedRequest:
        """Return the answer that says what went wrong."""
        if not isinstance(error, RequestFailedError):
            log.warning("request failed", trio=self._trio.name, error_type=type(error).__name__)
        return failure_of(self._trio.failed, error, processing_time_ms)

    def _is_no_answer(self, answer: object) -> RequestFailedError:
        wanted = self._trio.completed.__name__
        return RequestFailedError(
            f"the handler returned {type(answer).__name__}, it must return {wanted}",
            code="INVALID_ANSWER",
        )

    async def send(
        self,
        answer: BaseModel,
        *,
        correlation_id: str,
        request_id: str,
        until: float,
        fate: Fate | None = None,
    ) -> BaseModel | None:
        """
        Publish an answer; returns once it is acknowledged, or nobody can want it any more.

        An answer has the same event id whenever it is sent again, also by another process: stores
        know the repeat by it. One that cannot be published becomes a failure that says why.

        Args:
            answer: Completed or failed.
            correlation_id: The request's.
            request_id: Event id of the request.
            until: Loop time at which the caller is gone; five attempts are made at least.
            fate: What became of a first attempt.

        Returns:
            What is acknowledged: the answer, or the failure that it became; None when nobody can
            want it any more.

        Raises:
            ClosedError: The publisher is closed.
            SpileError: The bus refuses even the failure; another attempt cannot help.
        """
        attempt, is_replaced = 0, False
        while True:
            attempt += 1
            if fate is None:
                fate = await self._attempt(answer, correlation_id, request_id)
            if fate is True:
                return answer
            if isinstance(fate, RetriableError):
                log.warning("answer not sent", trio=self._trio.name, error=str(fate))
            elif fate is not False:
                if is_replaced or isinstance(fate, ClosedError):
                    raise fate
                is_replaced = True
                answer = self.failure(
                    RequestFailedError(
                        f"the answer was refused: {one_line(fate)}", code="INVALID_ANSWER"
                    )
                )
                fate = None
                continue
            if attempt >= _LEAST_ATTEMPTS and asyncio.get_running_loop().time() > until:
                return None
            await asyncio.sleep(self._backoff.delay(attempt))
            fate = None

    def send_soon(
        self,
        answer: BaseModel,
        told: Callable[[Fate], None],
        *,
        correlation_id: str,
        request_id: str,
    ) -> None:
        """Publish an answer with all of this turn of the loop; a failure is for `send` to mend."""
        try:
            self._publisher.publish_soon(self.event(answer, correlation_id, request_id), told)
        except SpileError as exc:
            told(exc)
        except Exception as exc:  # noqa: BLE001 - what a payload does when it is read ends in a failed answer
            told(refused(exc))

    async def _attempt(self, answer: BaseModel, correlation_id: str, request_id: str) -> Fate:
        try:
            return await self._publisher.publish_event(
                self.event(answer, correlation_id, request_id)
            )
        except SpileError as exc:
            return exc
        except Exception as exc:  # noqa: BLE001 - as in `send_soon`
            return refused(exc)

    def event(self, answer: BaseModel, correlation_id: str, request_id: str) -> OutgoingEvent:
        """Return an answer as an event."""
        has_failed = isinstance(answer, FailedRequest)
        route = self._failed if has_failed else self._completed
        return OutgoingEvent(
            event_type=route.event_type,
            payload=self._forms[has_failed].filled(answer, {"correlation_id": correlation_id}),
            topic=route.topic,
            correlation_id=correlation_id,
            causation_id=request_id,
            event_id=answer_id(request_id),
        )


def answer_id(request_id: str) -> str:
    """
    Return the event id of the answer to a request: its UUIDv5, in a third of the time of `uuid`.

    Source: RFC 9562, section 5.5.
    """
    name = _NAMESPACE + request_id.encode()
    text = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"
