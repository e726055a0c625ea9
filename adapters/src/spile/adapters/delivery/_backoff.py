"""Exponential backoff with jitter, as a value."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """
    How long to wait before the next attempt.

    Attributes:
        initial_s: Seconds before the first retry, 1 by default.
        factor: What each further wait is multiplied by, 2 by default.
        max_s: Longest wait in seconds, 30 by default.
        jitter: Share by which a wait is shortened at random, 0.2 by default, so that clients that
            failed together do not come back together.
    """

    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.2

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after failed attempt number `attempt`, counted from 1."""
        exponent = min(attempt - 1, 64)
        full = min(self.initial_s * self.factor**exponent, self.max_s)
        return full * (1.0 - self.jitter * random.random())  # noqa: S311 - spreads load, no secret
