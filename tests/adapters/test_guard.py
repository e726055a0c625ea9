"""The guard that tells a broken deploy from broken records."""

from __future__ import annotations

import pytest

from spile.adapters.subscribing import FailureGuard
from spile.spi import ConfigurationError, TooManyFailuresError

BROKEN = KeyError("price")


def fail_often(guard, times):
    """Report failures of single records."""
    for _ in range(times):
        guard.failed(BROKEN)


def test_past_the_share_it_stops_and_says_why():
    """With more than half of the last records failed the next one raises, with the figures."""
    guard = FailureGuard(share=0.5, after=10, window=20)
    guard.handled(5)
    for _ in range(5):
        guard.failed(BROKEN)
    with pytest.raises(TooManyFailuresError, match=r"6 of the last 11 .* KeyError") as caught:
        guard.failed(BROKEN)
    assert (caught.value.failed, caught.value.settled) == (6, 11)
    assert caught.value.__cause__ is BROKEN


def test_few_records_prove_nothing():
    """Until `after` records were settled nothing stops."""
    guard = FailureGuard(share=0.5, after=10, window=20)
    for _ in range(9):
        guard.failed(BROKEN)
    with pytest.raises(TooManyFailuresError):
        guard.failed(BROKEN)


def test_one_in_ten_goes_on_for_ever():
    """A share below the limit never stops, however the failures lie."""
    guard = FailureGuard(share=0.2, after=100, window=1000)
    for _ in range(1000):
        guard.handled(9)
        guard.failed(BROKEN)


def test_good_past_does_not_hide_a_broken_deploy():
    """Only the window counts: a million good records do not pay for a flood."""
    guard = FailureGuard(share=0.5, after=100, window=1000)
    for _ in range(1000):
        guard.handled(1000)
    with pytest.raises(TooManyFailuresError):
        fail_often(guard, 1100)


@pytest.mark.parametrize("poison", [1000, 2000])
def test_batch_larger_than_the_window_counts_as_a_whole(poison):
    """What failed in a batch is held against the whole batch, not against its end."""
    guard = FailureGuard(share=0.5, after=100, window=1000)
    guard.failed(BROKEN, poison, handled=5000 - poison)
    with pytest.raises(TooManyFailuresError):
        guard.failed(BROKEN, 5000)


def test_share_of_one_never_stops():
    """A guard with the share 1 lets everything through."""
    guard = FailureGuard(share=1, after=1, window=1)
    for _ in range(100):
        guard.failed(BROKEN)


@pytest.mark.parametrize(
    "wrong", [{"share": 0}, {"share": 1.1}, {"after": 0}, {"after": 20, "window": 10}]
)
def test_senseless_numbers_are_refused(wrong):
    """The error says what is expected."""
    with pytest.raises(ConfigurationError, match="expected 0 < share <= 1"):
        FailureGuard(**wrong)
