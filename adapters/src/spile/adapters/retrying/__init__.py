"""Records that wait for another attempt: where they stand, in what order they come back."""

from spile.adapters.retrying._lot import Entry, Key, Lot, size_of
from spile.adapters.retrying._topics import RetryTopic, RetryTopics
from spile.adapters.retrying._window import MOST_AT_ONCE, Window

__all__ = [
    "MOST_AT_ONCE",
    "Entry",
    "Key",
    "Lot",
    "RetryTopic",
    "RetryTopics",
    "Window",
    "size_of",
]
