"""A circuit breaker: after failures in a row fail fast, then let one probe through at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

import structlog

from spile.spi import CircuitOpenError

_log = structlog.get_logger(__name__)


class BreakerState(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """
    Counts failures in a row; opens at the threshold; after the reset time lets one probe through.

    A call asks `admit` first and then says `succeeded`, `failed` or `abandoned` exactly once. Calls
    admitted before the breaker opened may still end; they change nothing while it is open, except
    that a success of theirs is no proof and does not close it.

    Args:
        threshold: Failures in a row that open it, 5 by default.
        reset_after_s: Seconds from opening to the first probe, 30 by default.
        clock: Monotonic seconds.
        on_change: Called with the old and the new state, from the call that changes it.
    """

    def __init__(
        self,
        *,
        threshold: int = 5,
        reset_after_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[BreakerState, BreakerState], None] | None = None,
    ) -> None:
        if threshold < 1:
            raise ValueError(f"threshold must be at least 1, not {threshold}")
        self._threshold = threshold
        self._reset_after_s = reset_after_s
        self._clock = clock
        self._listeners = [on_change] if on_change is not None else []
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._opened_at = 0.0
        self._generation = 0
        self.opens = 0

    @property
    def state(self) -> BreakerState:
        """Where it stands; `open` until a probe is asked for, however long ago it opened."""
        return self._state

    def listen(self, on_change: Callable[[BreakerState, BreakerState], None]) -> None:
        """Call back with the old and the new state, from the call that changes it."""
        self._listeners.append(on_change)

    def admit(self) -> int:
        """
        Ask to make a call.

        Returns:
            A ticket to hand back with the outcome.

        Raises:
            CircuitOpenError: The breaker is open, or half-open with its probe under way.
        """
        if self._state is BreakerState.CLOSED:
            return self._generation
        waited = self._clock() - self._opened_at
        if self._state is BreakerState.OPEN and waited >= self._reset_after_s:
            self._generation += 1
            self._change(BreakerState.HALF_OPEN)
            return self._generation
        retry_after = max(0.0, self._reset_after_s - waited)
        reason = (
            "its probe is under way"
            if self._state is BreakerState.HALF_OPEN
            else f"after {self._threshold} failures in a row; next probe in {retry_after:.1f} s"
        )
        raise CircuitOpenError(
            f"circuit breaker is {self._state.value.replace('_', '-')}: {reason}; nothing was sent",
            retry_after_s=retry_after,
        )

    def succeeded(self, ticket: int) -> None:
        """Say that the call worked."""
        if ticket != self._generation:
            return
        self._failures = 0
        if self._state is BreakerState.HALF_OPEN:
            self._change(BreakerState.CLOSED)

    def failed(self, ticket: int) -> None:
        """Say that the call failed for a reason that a retry may cure."""
        if ticket != self._generation:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._open()
        elif self._state is BreakerState.CLOSED:
            self._failures += 1
            if self._failures >= self._threshold:
                self._open()

    def abandoned(self, ticket: int) -> None:
        """Say that the call ended without telling anything; a probe's place becomes free."""
        if ticket == self._generation and self._state is BreakerState.HALF_OPEN:
            self._change(BreakerState.OPEN)

    def _open(self) -> None:
        self._failures = 0
        self._opened_at = self._clock()
        self._generation += 1
        self.opens += 1
        self._change(BreakerState.OPEN)

    def _change(self, state: BreakerState) -> None:
        before, self._state = self._state, state
        for listener in self._listeners:
            try:
                listener(before, state)
            except Exception as exc:  # noqa: BLE001 - a listener's bug must not wedge the breaker
                _log.error("breaker listener failed", error=repr(exc))
