"""The bus in memory keeps the promises of the contracts."""

from __future__ import annotations

import pytest

from spile.testkit.conformance.memory import MemoryUnderTest
from spile.testkit.conformance.suite import *  # noqa: F403 - the tests


@pytest.fixture(scope="session")
def bus_under_test():
    return MemoryUnderTest()
