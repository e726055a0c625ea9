"""Limits and times of a subscription."""

from __future__ import annotations

from dataclasses import dataclass, field

from spile.adapters.delivery._backoff import Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionOptions:
    """
    Limits and times of a subscription; times in seconds.

    Attributes:
        max_batch_records: Most records per call of a batch handler.
        lane_capacity: Records that a lane buffers before its partitions are paused; by default two
            batches, or 500 per partition in message mode.
        poll_timeout_s: Longest wait in one poll; how fast a close is noticed.
        commit_interval_s: Offsets are committed this long after the first one that is done.
        drain_limit_s: How long a revocation waits for what is in hand; keep it below half of the
            group's rebalance timeout.
        close_limit_s: How long a close waits for what is in hand.
        stall_after_s: Age of a handler call at which the subscription ends.
        keepalive_s: While buffers are full, time between polls that fetch nothing.
        backoff: Waits after failed polls, 5 s at the most, and between attempts of a batch.
        reopen_after: Failed polls in a row after which the source is opened anew; when that fails
            it is tried again after every further one.
    """

    max_batch_records: int = 5000
    lane_capacity: int | None = None
    poll_timeout_s: float = 0.2
    commit_interval_s: float = 0.5
    drain_limit_s: float = 15.0
    close_limit_s: float = 20.0
    stall_after_s: float = 300.0
    keepalive_s: float = 1.0
    backoff: Backoff = field(default_factory=Backoff)
    reopen_after: int = 3
