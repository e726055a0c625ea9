"""
Records as objects of the archive, side by side with fastavro writing the same ones.

    python -m bench archive

Megabytes of the events' JSON per CPU second, without I/O; the contestants take turns, medians of
the rounds. Both write lossless Kafka records (key, value, seven headers) in zstandard blocks of the
same size; ours also cuts, counts events by minute and makes the manifest with its sha256.
"""

import argparse
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import fastavro
import zstandard
from rich.console import Console
from rich.table import Table

from bench.events import records
from spile.adapters.delivery import Record
from spile.services.archiver.objects import MAX_BLOCK_BYTES, SCHEMA, CuttingRule, PartitionCutter

RESULTS = Path(__file__).parent / "results" / "archive.json"
FLOOR = 1.0
START_MS = 1_767_323_045_000


def main(arguments: list[str]) -> int:
    """Measure, print the table, write the results; 1 when the floor is missed."""
    parser = argparse.ArgumentParser(prog="bench archive", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="records per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    made = [
        Record(r.topic, 0, offset, START_MS + offset, r.key, r.value, tuple(r.headers))
        for offset, r in enumerate(records(given.count))
    ]
    contestants = {"spile objects": write_objects, "fastavro + zstandard": write_fastavro}
    json_bytes = sum(len(record.value or b"") for record in made)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    sizes: dict[str, int] = {}
    for _ in range(given.rounds):
        for name, write in contestants.items():
            seconds, sizes[name] = _measured(write, made)
            rates[name].append(json_bytes / seconds / 1e6)
    report = _report(given, json_bytes, rates, sizes)
    _print(report)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if report["floors"][0]["reached"] else 1


def write_objects(made: list[Record]) -> int:
    """Cut two objects as the archiver does; return their bytes."""
    rule = CuttingRule(records=len(made) // 2, size_bytes=2**62)
    cutter = PartitionCutter(rule, made[0].topic, made[0].partition)
    size = 0
    for record in made:
        size += sum(len(sealed.data) for sealed in cutter.add(record))
    return size


def write_fastavro(made: list[Record]) -> int:
    """Write blocks by fastavro's compiled writer; its own zstandard codec needs another package."""
    schema = fastavro.parse_schema(json.loads(SCHEMA))
    compressor = zstandard.ZstdCompressor(level=3)
    block, size = io.BytesIO(), 0
    for record in made:
        row = {name: getattr(record, name) for name in Record.__struct_fields__}
        row["headers"] = [{"name": name, "value": value} for name, value in record.headers]
        fastavro.schemaless_writer(block, schema, row)
        if block.tell() > MAX_BLOCK_BYTES:
            size += len(compressor.compress(block.getvalue()))
            block = io.BytesIO()
    return size + len(compressor.compress(block.getvalue()))


def _measured(write: Callable[[list[Record]], int], made: list[Record]) -> tuple[float, int]:
    started = time.process_time()
    size = write(made)
    return time.process_time() - started, size


def _report(
    given: argparse.Namespace,
    json_bytes: int,
    rates: dict[str, list[float]],
    sizes: dict[str, int],
) -> dict:
    cases = {
        name: {
            "mb_per_cpu_s": round(statistics.median(found), 1),
            "lowest": round(min(found), 1),
            "highest": round(max(found), 1),
            "ratio": round(json_bytes / sizes[name], 2),
            "bytes_per_record": round(sizes[name] / given.count, 1),
        }
        for name, found in rates.items()
    }
    ours, theirs = (case["mb_per_cpu_s"] for case in cases.values())
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": given.rounds,
        "records": given.count,
        "json_bytes": json_bytes,
        "cases": cases,
        "floors": [
            {
                "case": "spile objects",
                "against": "fastavro + zstandard",
                "ratio": round(ours / theirs, 2),
                "floor": FLOOR,
                "reached": ours >= FLOOR * theirs,
            }
        ],
    }


def _print(report: dict) -> None:
    title = f"{report['records']:,} records, {report['json_bytes'] / 1e6:.0f} MB of JSON"
    table = Table("", "MB/CPU s", "lowest", "highest", "ratio", "bytes/record", title=title)
    for name, case in report["cases"].items():
        table.add_row(name, *(str(value) for value in case.values()))
    Console().print(table)
    for floor in report["floors"]:
        verdict = "reached" if floor["reached"] else "MISSED"
        print(f"{floor['case']}: {floor['ratio']} x {floor['against']}, {verdict}")
