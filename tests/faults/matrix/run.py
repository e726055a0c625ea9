"""
The fault matrix: every fault with every seed, on three real brokers, judged by the ledger.

A cell is one fault with one seed, in a process of its own, two at a time unless JOBS says other.
Its result is kept as a checkpoint, so that a run which was killed goes on where it stood; those of
other sources do not count, unless KEEP=1. When all cells are there the table in docs/ is written.

    SEEDS=1 ONLY=F5,F6 JOBS=1 make test-faults
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.faults.matrix import (  # noqa: F401 - enter their cells
    archives,
    attacks,
    brokers,
    buckets,
    mutants,
    publishing,
    records,
    retries,
    stores,
    workers,
)
from tests.faults.matrix.stage import CELLS, Cell, Stage, open_stage
from tests.faults.matrix.table import write_table

ROOT = Path(__file__).parents[3]
KEPT = ROOT / ".spile" / "faults"
TABLE = ROOT / "docs" / "faults.md"
SOURCES = ("spi/src", "topics/src", "adapters/src", "services/src", "testkit/src", "tests/faults")
LIMIT_S = 240.0
"""After this a cell is killed, or after LIMIT; a quarter should do on an idle machine."""
WANTED_S = 60.0


def main() -> int:
    """Run the cells that are not there yet, and write the table. 1 when a cell failed."""
    chosen = _arguments()
    if chosen.cell:
        asyncio.run(_play(CELLS[chosen.cell], chosen.seed, chosen.folder))
        return 0
    cells = _chosen(os.environ.get("ONLY", ""))
    seeds = range(1, int(os.environ.get("SEEDS") or 5) + 1)
    source = source_hash()
    every = [(cell, seed) for seed in seeds for cell in cells]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends its cells too
    failed = _run_all(every, source)
    if not failed:
        _write(seeds, source)
    _say(f"{len(every) - failed} of {len(every)} cells valid")
    return 1 if failed else 0


def _run_all(every: list[tuple[Cell, int]], source: str) -> int:
    """Run what is not there yet, some at a time, and tell of each; return how many failed."""
    started, failed = time.monotonic(), 0
    with ThreadPoolExecutor(int(os.environ.get("JOBS") or 2)) as pool:
        try:
            waiting = [pool.submit(_result_of, cell, seed, source) for cell, seed in every]
            for number, done in enumerate(as_completed(waiting), start=1):
                cell, seed, result = done.result()
                failed += not result["valid"]
                spent_s = time.monotonic() - started
                _say(f"[{number}/{len(every)} {spent_s:5.0f} s] {_line(cell, seed, result)}")
        except BaseException:
            _STOPPING.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_RUNNING):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return failed


_RUNNING: set[subprocess.Popen[str]] = set()
_STOPPING = threading.Event()


def _result_of(cell: Cell, seed: int, source: str) -> tuple[Cell, int, dict[str, Any]]:
    """Return the checkpoint of a cell, or play it."""
    found = kept(cell, seed, source)
    return cell, seed, found or _run_cell(cell, seed, source)


def source_hash() -> str:
    """Return a digest of all that a cell runs."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name == "table.py" or path.name.startswith("test_"):
                continue  # how it is told changes no result
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _commit() -> str:
    """Return the commit that is checked out; the empty text outside of a repository."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout[:-1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=CELLS, help="play one cell here and print its result")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for histories and logs")
    return parser.parse_args()


def _chosen(only: str) -> list[Cell]:
    """Return the cells that `ONLY` names, by whole name or by number."""
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    found = [
        cell for name, cell in CELLS.items() if not wanted or {name, name.split()[0]} & {*wanted}
    ]
    if not found:
        raise SystemExit(f"ONLY={only}: there is no such cell; there are {', '.join(CELLS)}")
    return found


def _path(cell: Cell, seed: int) -> Path:
    return KEPT / f"{cell.name.replace(' ', '-')}.{seed}.json"


def kept(cell: Cell, seed: int, source: str) -> dict[str, Any] | None:
    """Return the checkpoint of a cell, if it is valid and of these sources."""
    try:
        result = json.loads(_path(cell, seed).read_text())
    except (OSError, ValueError):
        return None
    fresh = result["source"] == source or os.environ.get("KEEP")
    return result if fresh and result["valid"] else None


def _run_cell(cell: Cell, seed: int, source: str) -> dict[str, Any]:
    """Play a cell in a process group of its own, and keep its result."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spile-faults-") as folder:
        arguments = ["--cell", cell.name, "--seed", str(seed), "--folder", folder]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.matrix", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        _RUNNING.add(process)
        limit_s = float(os.environ.get("LIMIT") or LIMIT_S)
        try:
            printed, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed = process.communicate()[0] + f"\nkilled after {limit_s:.0f} s"
        finally:
            _RUNNING.discard(process)
        result = _result(Path(folder) / "result.json", printed)
    result |= {"source": source, "cell": cell.name, "seed": seed, "commit": _commit()}
    result["took_s"] = round(time.monotonic() - began, 1)
    if not _STOPPING.is_set():  # what was cut off says nothing
        store(cell, seed, result)
    return result


def store(cell: Cell, seed: int, result: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    path = _path(cell, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".tmp").write_text(json.dumps(result, indent=1))
    path.with_suffix(".tmp").replace(path)


def _result(path: Path, printed: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {"valid": False, "why": [printed[-4000:]]}


async def _play(cell: Cell, seed: int, folder: Path | None) -> None:
    """Play one cell here; the result goes to `result.json` of the folder."""
    folder = folder or Path(tempfile.mkdtemp(prefix="spile-faults-"))
    async with open_stage(cell, seed, folder) as stage:
        why: list[str] = []
        try:
            await cell.play(stage)
        except Exception:  # noqa: BLE001 - whatever went wrong, it is the result
            why = [traceback.format_exc(limit=-6)]
        result = _facts(cell, stage, why)
    (folder / "result.json").write_text(json.dumps(result))
    _say(json.dumps(result, indent=1))


def _facts(cell: Cell, stage: Stage, why: list[str]) -> dict[str, Any]:
    """Return what a cell leaves behind."""
    why += stage.broken
    verdict = stage.verdict
    if verdict is None:
        return {"valid": False, "why": [*why, "the ledger was not asked"]}
    found = dict(verdict.anomalies)
    if cell.mutant:
        caught = {name: count for name, count in found.items() if name != "vacuous"}
        if set(caught) != {cell.mutant}:
            why.append(f"expected {cell.mutant} to be found, and nothing else: {verdict}")
    elif not verdict.valid:
        why.append(str(verdict))

    def counted(*kinds: str) -> int:
        return sum(count for name, count in found.items() if name.partition(":")[0] in kinds)

    return {
        "valid": not why,
        "why": why,
        "faults": stage.faults,
        "acknowledged": verdict.acknowledged,
        "lost": counted("lost", "unseen"),
        "doubled": counted("duplicate"),
        "reordered": counted("reordered"),
        "gap_s": verdict.longest_ack_gap_s,
        "recovery_s": stage.recovery_s,
        "figures": stage.figures,
    }


def _line(cell: Cell, seed: int, result: dict[str, Any]) -> str:
    took = f"seed {seed}, {result['took_s']:.0f} s"
    if result["took_s"] > WANTED_S:
        took += f", more than {WANTED_S:.0f}"
    if not result["valid"]:
        return f"{cell.name} FAILED, {took}: " + "\n    ".join(result["why"])
    figures = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in result["figures"].items())
    return (
        f"{cell.name} ok, {took}: {result['faults']} faults, {result['acknowledged']} acknowledged,"
        f" lost {result['lost']}, doubled {result['doubled']}, reordered {result['reordered']},"
        f" gap {result['gap_s']:.1f} s, {figures}"
    )


def _write(seeds: range, source: str) -> None:
    """Write the table when every cell has a result for each of these seeds."""
    rows = []
    for cell in CELLS.values():
        results = [kept(cell, seed, source) for seed in seeds]
        if None in results:
            _say(f"{TABLE.name} is not written: {cell.name} is missing")
            return
        rows.append((cell, results))
    write_table(TABLE, rows, source)
    _say(f"{TABLE.relative_to(ROOT)} written")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the progress of a program
