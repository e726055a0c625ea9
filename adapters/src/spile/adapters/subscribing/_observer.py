"""What a subscription tells about itself while it runs."""

from __future__ import annotations

from typing import Protocol


class SubscriptionObserver(Protocol):
    """Hears what happens to records; called from the event loop, so it must be quick."""

    def handled(self, topic: str, records: int, seconds: float) -> None:
        """
        Note that the handler finished these records in one call.

        A batch of several topics is noted once per topic, with its share of the seconds.
        """
        ...

    def retried(self, topic: str, records: int) -> None:
        """Note that these records failed and are about to be tried again."""
        ...

    def dead_lettered(self, topic: str) -> None:
        """Note that one record was acknowledged by the dead letter queue."""
        ...

    def in_hand(self, change: int) -> None:
        """Note that so many records came into hand, or left it when negative."""
        ...


class SilentObserver:
    """Tells nobody; the default."""

    def handled(self, topic: str, records: int, seconds: float) -> None:
        """Ignore it."""

    def retried(self, topic: str, records: int) -> None:
        """Ignore it."""

    def dead_lettered(self, topic: str) -> None:
        """Ignore it."""

    def in_hand(self, change: int) -> None:
        """Ignore it."""
