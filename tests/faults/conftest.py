"""What the fault tests share: a rig with its brokers for each test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.faults.rig import OVERRIDES, Rig

from spile.testkit.broker import EmbeddedBroker


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.faults)


@pytest.fixture
async def make_rig(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start brokers with the topics of the load; everything ends with the test."""
    numbers = itertools.count(1)
    async with contextlib.AsyncExitStack() as stack:

        async def make(brokers: int = 1, **times: int) -> Rig:
            broker = await asyncio.to_thread(
                lambda: EmbeddedBroker(brokers=brokers, overrides=OVERRIDES)
            )
            stack.push_async_callback(asyncio.to_thread, broker.close)
            folder = tmp_path / f"rig-{next(numbers)}"
            folder.mkdir()
            rig = Rig(broker, folder, times)
            stack.push_async_callback(rig.close)
            await rig.make_topics()
            return rig

        yield make
