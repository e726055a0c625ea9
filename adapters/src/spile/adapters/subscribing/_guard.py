"""A stop for broken deploys: too many failures in a window end the subscription."""

from __future__ import annotations

from collections import deque

from spile.spi import ConfigurationError, TooManyFailuresError

_RUNS = 20
"""Into how many runs a window of single records is summed up."""


class FailureGuard:
    """
    Stops a subscriber whose records fail beyond a share, before they flood a dead letter queue.

    Counts the records that were settled last. What is counted as failed is about to be parked or
    buried; the error comes before that is written, so the record's offset is kept, and all that
    failed is handled again once the cause is mended.

    Args:
        share: Share of the last records above which to stop, 0.5 by default; 1 never stops.
        after: Records that must have been settled before the share counts, 100 by default.
        window: How many of the last records count at least, 1,000 by default; a batch is
            forgotten as a whole.

    Raises:
        ConfigurationError: A number is out of range.
    """

    def __init__(self, *, share: float = 0.5, after: int = 100, window: int = 1000) -> None:
        if not 0 < share <= 1 or not 1 <= after <= window:
            raise ConfigurationError(
                f"a failure guard with share {share}, after {after}, window {window}: expected "
                "0 < share <= 1 and 1 <= after <= window"
            )
        self._share = share
        self._after = after
        self._window = window
        self._runs: deque[tuple[int, int]] = deque()
        self._settled = 0
        self._failed = 0

    def handled(self, records: int = 1) -> None:
        """Note records that did not fail."""
        self._note(records, 0)

    def failed(self, error: BaseException, records: int = 1, *, handled: int = 0) -> None:
        """
        Note records that are about to be parked or buried.

        Args:
            error: What went wrong with the last of them.
            records: How many.
            handled: How many of the same batch did not fail.

        Raises:
            TooManyFailuresError: Stop; write nothing and keep the offsets.
        """
        self._note(records + handled, records)
        if self._settled >= self._after and self._failed > self._settled * self._share:
            raise TooManyFailuresError(
                f"{self._failed} of the last {self._settled} records failed, more than "
                f"{self._share:.0%}, the last with {type(error).__name__}: that is a broken "
                "deploy rather than broken records; offsets are kept",
                failed=self._failed,
                settled=self._settled,
            ) from error

    def _note(self, settled: int, failed: int) -> None:
        """Add to the newest run; forget the oldest once the younger ones fill the window."""
        if self._runs and self._runs[-1][0] + settled <= self._window // _RUNS:
            before, failed_before = self._runs.pop()
            self._runs.append((before + settled, failed_before + failed))
        else:
            self._runs.append((settled, failed))
        self._settled += settled
        self._failed += failed
        while len(self._runs) > 1 and self._settled - self._runs[0][0] >= self._window:
            gone, gone_failed = self._runs.popleft()
            self._settled -= gone
            self._failed -= gone_failed
