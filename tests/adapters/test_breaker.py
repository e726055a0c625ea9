"""The circuit breaker on a clock of its own."""

import pytest

from spile.adapters.publishing import BreakerState, CircuitBreaker
from spile.spi import CircuitOpenError


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def changes():
    return []


@pytest.fixture
def breaker(clock, changes):
    return CircuitBreaker(
        threshold=5, reset_after_s=30, clock=clock, on_change=lambda *pair: changes.append(pair)
    )


def fail(breaker, times):
    for _ in range(times):
        breaker.failed(breaker.admit())


def test_it_opens_at_the_threshold_and_not_before(breaker):
    """Four failures in a row leave it closed, the fifth opens it."""
    fail(breaker, 4)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 1)
    assert breaker.state is BreakerState.OPEN
    assert breaker.opens == 1


def test_a_success_between_starts_the_count_anew(breaker):
    """Only failures in a row count."""
    fail(breaker, 4)
    breaker.succeeded(breaker.admit())
    fail(breaker, 4)
    assert breaker.state is BreakerState.CLOSED


def test_an_open_breaker_refuses_with_the_time_left(breaker, clock):
    """The error is a RuntimeError and says when the next probe may go."""
    fail(breaker, 5)
    clock.now += 12
    with pytest.raises(RuntimeError, match=r"next probe in 18\.0 s") as caught:
        breaker.admit()
    assert isinstance(caught.value, CircuitOpenError)
    assert caught.value.retry_after_s == pytest.approx(18)


def test_exactly_one_probe_goes_through_when_half_open(breaker, clock):
    """While a probe is under way nobody else gets through."""
    fail(breaker, 5)
    clock.now += 30
    breaker.admit()
    assert breaker.state is BreakerState.HALF_OPEN
    for _ in range(3):
        with pytest.raises(CircuitOpenError, match="probe is under way"):
            breaker.admit()


def test_a_good_probe_closes_it(breaker, clock, changes):
    """One success is enough, and the change is told."""
    fail(breaker, 5)
    clock.now += 30
    breaker.succeeded(breaker.admit())
    assert breaker.state is BreakerState.CLOSED
    assert changes == [
        (BreakerState.CLOSED, BreakerState.OPEN),
        (BreakerState.OPEN, BreakerState.HALF_OPEN),
        (BreakerState.HALF_OPEN, BreakerState.CLOSED),
    ]


def test_a_bad_probe_opens_it_for_the_full_time(breaker, clock):
    """The reset time starts anew."""
    fail(breaker, 5)
    clock.now += 30
    breaker.failed(breaker.admit())
    clock.now += 29
    with pytest.raises(CircuitOpenError):
        breaker.admit()
    assert breaker.opens == 2


def test_an_abandoned_probe_frees_its_place(breaker, clock):
    """A cancelled probe does not block the breaker for ever."""
    fail(breaker, 5)
    clock.now += 30
    breaker.abandoned(breaker.admit())
    breaker.succeeded(breaker.admit())
    assert breaker.state is BreakerState.CLOSED


def test_calls_from_before_it_opened_prove_nothing(breaker, clock):
    """A late success of an old call does not close it, a late failure does not end a probe."""
    old = breaker.admit()
    fail(breaker, 5)
    breaker.succeeded(old)
    assert breaker.state is BreakerState.OPEN
    clock.now += 30
    breaker.admit()
    breaker.failed(old)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_threshold_below_one_is_refused():
    """A breaker that is always open is a mistake."""
    with pytest.raises(ValueError, match="at least 1"):
        CircuitBreaker(threshold=0)


def test_a_listener_that_fails_does_not_wedge_it(clock):
    """The probe gets its ticket back although the listener raised."""

    def broken(_before, _after):
        raise RuntimeError("listener")

    breaker = CircuitBreaker(threshold=1, reset_after_s=30, clock=clock, on_change=broken)
    fail(breaker, 1)
    clock.now += 30
    breaker.succeeded(breaker.admit())
    assert breaker.state is BreakerState.CLOSED
