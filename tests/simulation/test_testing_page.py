"""The example of docs/testing.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spile.adapters.memory import MemorySource
from spile.testkit.simulation import simulate

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.fixture
def example():
    """The scenario on the page, of which the second block makes a test."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    names: dict = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    assert callable(names["test_orders"])
    return names["scenario"]


def test_the_example_runs(example):
    """It holds for ten seeds, and members die in them."""
    assert sum(simulate(example, seed).counts["process"] for seed in range(10)) > 50


def test_the_example_finds_a_mistake(example, monkeypatch, violated):
    """With a reader that commits too early it fails."""
    poll = MemorySource.poll

    async def eager(self, **limits):
        polled = await poll(self, **limits)
        self._group.committed.update(self.held)
        return polled

    monkeypatch.setattr(MemorySource, "poll", eager)
    assert violated(example, 50)
