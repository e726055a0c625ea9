"""What cannot be handled: kept byte for byte in `<topic>.dlq`, and handled again on request."""

from spile.adapters.dead_letters._facts import (
    DLQ_SUFFIX,
    REPLAY_COUNT,
    has_failed_records,
    replay_count,
)
from spile.adapters.dead_letters._queue import DeadLetterQueue
from spile.adapters.dead_letters._retry_facts import (
    MAX_REPLAYS,
    ReplaysSpentError,
    RetryFacts,
    RetryRole,
    original_record,
    read_retry,
    retry_headers,
)

__all__ = [
    "DLQ_SUFFIX",
    "MAX_REPLAYS",
    "REPLAY_COUNT",
    "DeadLetterQueue",
    "ReplaysSpentError",
    "RetryFacts",
    "RetryRole",
    "has_failed_records",
    "original_record",
    "read_retry",
    "replay_count",
    "retry_headers",
]
