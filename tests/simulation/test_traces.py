"""Same seed, same trace; another seed, another trace; and enough happens to mean something."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from spile.testkit.simulation import SimulationSettings, simulate

NAMES = [
    "simulated_messages",
    "simulated_publisher",
    "simulated_batches",
    "simulated_dead_letters",
    "simulated_tiers",
]
SEEDS = (1000, 1001)

_PROGRAM = """
import json, runpy, sys
from spile.testkit.simulation import simulate
scenarios = [runpy.run_path(path)["scenario"] for path in sys.argv[1:]]
print(json.dumps([simulate(s, seed).digest for s in scenarios for seed in (1000, 1001)]))
"""


def test_the_same_seed_gives_the_same_trace(scenarios):
    """Twice in this process, and in another one whose hashes differ."""
    here = [simulate(scenarios(name), seed).digest for name in NAMES for seed in SEEDS]
    again = [simulate(scenarios(name), seed).digest for name in NAMES for seed in SEEDS]
    assert again == here
    paths = [str(Path(__file__).with_name(f"test_{name}.py")) for name in NAMES]
    other = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *paths],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(other.stdout) == here


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "simulated_messages",
            {"effect", "committed", "expelled", "process", "fault crash", "fault ack lost"},
        ),
        (
            "simulated_publisher",
            {"written", "breaker", "published", "fault ack lost", "fault send failed"},
        ),
        (
            "simulated_batches",
            {"stored", "committed", "expelled", "fault crash", "fault store away"},
        ),
        (
            "simulated_dead_letters",
            {"transaction", "handled", "mended", "run ended", "run done", "fault crash"},
        ),
        (
            "simulated_tiers",
            {"attempt", "effect", "expelled", "committed", "fault crash", "fault send torn"},
        ),
    ],
)
def test_enough_happens(name, wanted, scenarios):
    """Ten seeds are ten runs, in which each kind of step and fault occurs five times at least."""
    scenario = scenarios(name)
    traces = [simulate(scenario, seed) for seed in range(10)]
    assert len({trace.digest for trace in traces}) == 10
    counts = sum((trace.counts for trace in traces), Counter[str]())
    assert {what for what in wanted if counts[what] < 5} == set()


def test_seeds_come_from_the_environment(monkeypatch):
    """500 seeds by default, shared by the scenarios; as many as asked for; or a single one."""
    monkeypatch.delenv("SPILE_SIM_SEED", raising=False)
    monkeypatch.delenv("SPILE_SIM_SEEDS", raising=False)
    shares = [SimulationSettings().share(part, 5) for part in range(5)]
    assert sorted(itertools.chain(*shares)) == list(range(500))
    monkeypatch.setenv("SPILE_SIM_SEEDS", "20000")
    assert len(SimulationSettings().share(4, 5)) == 4000
    monkeypatch.setenv("SPILE_SIM_SEED", "123")
    assert SimulationSettings().share(4, 5) == [123]
