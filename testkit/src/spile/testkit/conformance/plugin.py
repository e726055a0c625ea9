"""
The pytest plugin of the suite: its option and its fixtures.

It is loaded into every pytest run of an environment that has spile-testkit, so it imports nothing
but the contracts before a test asks for more.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from spile.testkit.conformance import BusUnderTest
    from spile.testkit.conformance._stage import Stage

_OPTION = "--spile-bus"
_MARK = "spile_needs"

pytest.register_assert_rewrite(
    *(
        f"spile.testkit.conformance.test_{part}"
        for part in ("batches", "breaker", "handling", "messages", "publisher", "shape")
    )
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the bus under test."""
    parser.getgroup("spile").addoption(
        _OPTION,
        metavar="MODULE:ATTRIBUTE",
        help="bus for the conformance suite: something that returns a BusUnderTest when called, "
        "such as spile.testkit.conformance.memory:MemoryUnderTest",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of the suite."""
    config.addinivalue_line(
        "markers", f"{_MARK}(*features): conformance test of features that a bus may not have"
    )


@pytest.fixture(scope="session")
def bus_under_test(request: pytest.FixtureRequest) -> Iterator[BusUnderTest]:
    """Return the bus that the option names; override this fixture to name another."""
    place = cast("str | None", request.config.getoption(_OPTION))
    if place is None:
        raise pytest.UsageError(
            f"which bus? give {_OPTION} MODULE:ATTRIBUTE or override the fixture bus_under_test"
        )
    made = _factory(place)()
    yield made
    made.close()


def _factory(place: str) -> Callable[[], BusUnderTest]:
    module, colon, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if colon else None
    except (ImportError, AttributeError) as exc:
        raise pytest.UsageError(f"{_OPTION} {place}: {exc}") from exc
    if not callable(found):
        raise pytest.UsageError(
            f"{_OPTION} {place}: expected MODULE:ATTRIBUTE of something callable"
        )
    return cast("Callable[[], BusUnderTest]", found)


def _skip_what_is_not_claimed(request: pytest.FixtureRequest, under_test: BusUnderTest) -> None:
    needed = {
        feature
        for mark in request.node.iter_markers(_MARK)
        for feature in cast("tuple[str]", mark.args)
    }
    if missing := needed - under_test.features:
        pytest.skip(f"{type(under_test).__name__} does not claim {', '.join(sorted(missing))}")


try:
    import pytest_asyncio
except ImportError:  # the extra `conformance` is not installed, so the suite cannot run here
    pass
else:

    @pytest_asyncio.fixture
    async def stage(
        request: pytest.FixtureRequest, bus_under_test: BusUnderTest
    ) -> AsyncIterator[Stage]:
        """What the tests of the suite play on; closes what they opened."""
        from spile.testkit.conformance._stage import Stage  # noqa: PLC0415 - see above

        _skip_what_is_not_claimed(request, bus_under_test)
        await bus_under_test.begin()
        async with Stage(bus_under_test) as made:
            yield made
