"""From a request in hand to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from spile.adapters.delivery import Tasks
from spile.adapters.publishing import Fate
from spile.adapters.requesting._answered import Answered
from spile.adapters.requesting._answering import Answering
from spile.adapters.requesting._in_hand import InHand
from spile.adapters.requesting._refusing import Refusing
from spile.spi import ClosedError, SpileError

_REMEMBERED: Final = 10_000


class Settling:
    """
    Has requests handled and their answers sent.

    Args:
        answering: Handles and sends.
        refusing: Keeps what no answer can be sent to.
        tasks: Owns the tasks.
        completed: Model of an answer.
        most: Most requests in hand.
        on_end: Called once for each request that was begun, with what became of it; None when it is
            let go and comes again.
    """

    def __init__(
        self,
        answering: Answering[Any, Any],
        refusing: Refusing,
        tasks: Tasks,
        *,
        completed: type[BaseModel],
        most: int,
        on_end: Callable[[InHand, str | None], None],
    ) -> None:
        self._answering = answering
        self._refusing = refusing
        self._tasks = tasks
        self._completed = completed
        self._on_end = on_end
        self._answered = Answered(_REMEMBERED + most)
        self._is_closed = False

    def knows(self, request_id: str) -> bool:
        """Say whether a request was begun before."""
        return request_id in self._answered

    def begin(self, taken: InHand) -> None:
        """Begin with a request that is not known."""
        self._answered.begin(taken.request_id)
        taken.patience.task = self._tasks.start(self._handle(taken), "request")

    async def settle(self, taken: InHand) -> str:
        """
        Bring a request to its end that may be known; `on_end` does not hear of it.

        Returns:
            What became of it.

        Raises:
            ClosedError: The publisher is closed.
        """
        if await self._answered.was_answered(taken.request_id):
            return "repeated"
        self._answered.begin(taken.request_id)
        try:
            taken.patience.task = asyncio.current_task()
            taken.patience.set_timer(taken.limit_s)
            answer = await self._answering.run(taken.request, taken.patience, limit_s=taken.limit_s)
        except BaseException:
            self._answered.settle(taken.request_id, acknowledged=False)
            raise
        return await self._send(taken, answer)

    def close(self) -> None:
        """Send nothing again from now on."""
        self._is_closed = True

    async def _handle(self, taken: InHand) -> None:
        """Call the handler and hand its answer to the publisher, which sends those that meet."""
        try:
            answer = await self._answering.run(taken.request, taken.patience, limit_s=taken.limit_s)
        except BaseException:
            self._drop(taken)
            raise
        taken.is_handled = True
        self._answering.send_soon(
            answer,
            lambda fate: self._sent(taken, answer, fate),
            correlation_id=taken.correlation_id,
            request_id=taken.request_id,
        )

    def _sent(self, taken: InHand, answer: BaseModel, fate: Fate) -> None:
        if fate is True:
            self._answered.settle(taken.request_id, acknowledged=True)
            self._on_end(taken, self._outcome(answer))
        elif self._is_closed:
            self._drop(taken)
        else:
            self._tasks.start(self._send_again(taken, answer, fate), "answer")

    async def _send_again(self, taken: InHand, answer: BaseModel, fate: Fate) -> None:
        try:
            outcome = await self._send(taken, answer, fate)
        except BaseException:
            self._drop(taken)
            raise
        self._on_end(taken, outcome)

    async def _send(self, taken: InHand, answer: BaseModel, fate: Fate | None = None) -> str:
        """Bring an answer to the bus, or its request to the dead letters; say what came of it."""
        sent: BaseModel | None = None
        try:
            sent = await self._answering.send(
                answer,
                correlation_id=taken.correlation_id,
                request_id=taken.request_id,
                until=taken.until,
                fate=fate,
            )
        except ClosedError:
            raise
        except SpileError as exc:
            await self._refusing.give_up(taken.record, exc)
        finally:
            self._answered.settle(taken.request_id, acknowledged=sent is not None)
        return "unanswered" if sent is None else self._outcome(sent)

    def _outcome(self, answer: BaseModel) -> str:
        return "completed" if isinstance(answer, self._completed) else "failed"

    def _drop(self, taken: InHand) -> None:
        """Let go of a request that comes again."""
        taken.is_handled = True
        self._answered.settle(taken.request_id, acknowledged=False)
        self._on_end(taken, None)
