"""How a failed record is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.retrying import RetryTopics
from spile.spi import ConfigurationError

DEFAULT_TIERS_S = (5.0, 60.0, 600.0)
"""Delays of the retry topics that the catalogue gives a group by default, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """
    How often a failed record is tried again before it goes to the dead letter queue.

    In place the records behind it wait too. In tiers only the events of its key wait, in order, and
    a restart or a rebalance changes nothing about that; the group needs its retry topics in the
    catalogue for it (`TopicSpec.groups`).

    Attributes:
        limit: Retries in place after the first attempt, 3 by default; 0 means none.
        backoff: Waits before them, 1, 2 and 4 s by default.
        tiers: Delays in seconds, one per retry topic `<topic>.<group>.retry.<n>`; none by default.

    Raises:
        ConfigurationError: A delay is negative.
    """

    limit: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    tiers: tuple[float, ...] = ()

    @property
    def patience(self) -> Backoff:
        """Waits where only time can help, such as for a registry that is away: up to 30 s."""
        return replace(self.backoff, max_s=max(self.backoff.max_s, Backoff().max_s))

    def __post_init__(self) -> None:
        if any(delay_s < 0 for delay_s in self.tiers):
            raise ConfigurationError(f"retry tiers {self.tiers}: a delay is a number of seconds")

    @classmethod
    def tiered(
        cls,
        tiers: tuple[float, ...] = DEFAULT_TIERS_S,
        *,
        limit: int = 2,
        backoff: Backoff | None = None,
    ) -> Retries:
        """
        Return retries with delay tiers, whose waits in place are short.

        Args:
            tiers: Delays in seconds; 5 s, 1 min and 10 min by default.
            limit: Retries in place, 2 by default.
            backoff: Waits before them, 0.05 and 0.1 s by default; together they should stay below
                0.25 s, since the other keys of the partition wait too.
        """
        return cls(limit=limit, backoff=backoff or Backoff(initial_s=0.05, max_s=0.2), tiers=tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parking:
    """
    Where the failed records of a subscription wait.

    Attributes:
        sender: Writes to the retry topics.
        topics: The retry topics; the source must read all of `topics.names`, together.
        wall_clock: Seconds since 1970.
    """

    sender: RecordSender
    topics: RetryTopics
    wall_clock: Callable[[], float] = time.time


def require_parking(retries: Retries, parking: Parking | None) -> Parking:
    """
    Hold tiers and retry topics to one number.

    Raises:
        ConfigurationError: There are none, or not as many as tiers.
    """
    if parking is None:
        raise ConfigurationError("retries with tiers need retry topics: give `parking`")
    if parking.topics.tiers != len(retries.tiers):
        raise ConfigurationError(
            f"{len(retries.tiers)} retry tiers, but {parking.topics.tiers} retry topics"
        )
    return parking
