"""What cannot be handled: kept byte for byte in `<topic>.dlq`, and handled again on request."""

from spile.adapters.dead_letters._browser import DeadLetterBrowser, QueueState
from spile.adapters.dead_letters._facts import (
    DLQ_SUFFIX,
    REPLAY_COUNT,
    has_failed_records,
    replay_count,
)
from spile.adapters.dead_letters._letter import DeadLetter, LetterFilter
from spile.adapters.dead_letters._marks import Mark, done_topic, is_settled, mark_in
from spile.adapters.dead_letters._moving import Reprocessed, ReprocessWish, RetryTopicOf
from spile.adapters.dead_letters._purge import FreeStorage, KeepLetters, Purged, Purger
from spile.adapters.dead_letters._queue import DeadLetterQueue
from spile.adapters.dead_letters._reprocessor import Reprocessor
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
    "DeadLetter",
    "DeadLetterBrowser",
    "DeadLetterQueue",
    "FreeStorage",
    "KeepLetters",
    "LetterFilter",
    "Mark",
    "Purged",
    "Purger",
    "QueueState",
    "ReplaysSpentError",
    "ReprocessWish",
    "Reprocessed",
    "Reprocessor",
    "RetryFacts",
    "RetryRole",
    "RetryTopicOf",
    "done_topic",
    "has_failed_records",
    "is_settled",
    "mark_in",
    "original_record",
    "read_retry",
    "replay_count",
    "retry_headers",
]
