"""The matrix keeps what it has done, and tells it in a table."""

import pytest
from tests.faults.matrix import run
from tests.faults.matrix.stage import CELLS, Cell
from tests.faults.matrix.table import write_table

RESULT = {
    "valid": True,
    "why": [],
    "faults": 5,
    "acknowledged": 2100,
    "lost": 0,
    "doubled": 0,
    "reordered": 0,
    "gap_s": 1.25,
    "recovery_s": 0.5,
    "figures": {"peak_MiB": 3.0, "dead": 2},
}


async def nothing(stage):
    """Play nothing."""


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A cell whose checkpoints are in a folder of the test."""
    monkeypatch.setattr(run, "KEPT", tmp_path)
    monkeypatch.delenv("KEEP", raising=False)
    return Cell(name="F0 none", title="nothing", play=nothing)


def keep(cell, **facts):
    run.store(cell, 1, {**RESULT, "source": "a", **facts})


def test_checkpoint_counts_for_its_sources_only(one, monkeypatch):
    """A result of other sources is played again, unless KEEP says otherwise."""
    assert run.kept(one, 1, "a") is None
    keep(one)
    assert run.kept(one, 1, "a")["acknowledged"] == 2100
    assert run.kept(one, 1, "b") is None
    assert run.kept(one, 2, "a") is None
    monkeypatch.setenv("KEEP", "1")
    assert run.kept(one, 1, "b")["source"] == "a"


def test_failure_is_no_checkpoint(one, monkeypatch):
    """A cell that failed is played again, even with KEEP."""
    monkeypatch.setenv("KEEP", "1")
    keep(one, valid=False)
    assert run.kept(one, 1, "a") is None


def test_table_has_sums_and_worst_figures(one, tmp_path):
    """Events are summed over the seeds; of times and figures the worst is told."""
    worse = {**RESULT, "gap_s": 9.0, "figures": {"peak_MiB": 12.4, "dead": 1}}
    mutant = Cell(name="M0", title="broken", play=nothing, mutant="lost:store")
    write_table(
        tmp_path / "faults.md",
        [(one, [RESULT, worse]), (mutant, [{**RESULT, "lost": 7}] * 2)],
    )
    lines = (tmp_path / "faults.md").read_text().splitlines()
    assert (
        "| F0 none | nothing | 2 | 10 | 4,200 | 0 | 0 | 0 | 9.0 s | 0.5 s | peak 12 MiB; dead 2 |"
    ) in lines
    assert "| M0 | broken | 2 | 4,200 | 14 lost |" in lines
    assert not any("KEEP" in line for line in lines)


def test_table_names_what_is_of_other_sources(one, tmp_path):
    """A kept result of earlier sources is not passed off as one of these."""
    write_table(tmp_path / "faults.md", [(one, [{**RESULT, "source": "a"}])], "b")
    assert (
        "Kept from runs of earlier sources (KEEP=1): F0 none."
        in (tmp_path / "faults.md").read_text()
    )


def test_every_fault_of_the_list_is_a_cell():
    """F1 to F28 and F32 to F36 are there, and four mutants."""
    numbers = {name.split()[0] for name in CELLS}
    wanted = {f"F{number}" for number in (*range(1, 29), *range(32, 37))}
    assert wanted <= numbers, wanted - numbers
    assert sum(bool(cell.mutant) for cell in CELLS.values()) == 4
