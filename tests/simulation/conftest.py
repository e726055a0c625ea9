"""Seeds as parameters: `SPILE_SIM_SEED=123` runs one, `SPILE_SIM_SEEDS=20000` a night of them."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from spile.testkit.simulation import Scenario, SimulationSettings, simulate

PARTS = 5


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each scenario its share of the seeds; a module says which by `PART`."""
    if "seed" in metafunc.fixturenames:
        seeds = SimulationSettings().share(metafunc.module.PART, PARTS)
        metafunc.parametrize("seed", seeds)


@pytest.fixture
def violated() -> Callable[[Scenario, int], str]:
    """Run seeds until one finds that something is wrong, and return what; fail if none does."""

    def search(scenario: Scenario, seeds: int) -> str:
        for seed in range(seeds):
            try:
                simulate(scenario, seed)
            except AssertionError as exc:
                return str(exc)
        pytest.fail(f"no seed of {seeds} noticed the mutant")

    return search


@pytest.fixture
def scenarios() -> Callable[[str], Scenario]:
    """Return the `scenario` of a module of this folder, by its file name without `test_`."""
    folder = Path(__file__).parent

    def load(name: str) -> Scenario:
        return runpy.run_path(str(folder / f"test_{name}.py"))["scenario"]

    return load
