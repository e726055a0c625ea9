"""
Publish and consume, side by side with the clients that people would use instead.

Each case runs in a process of its own; the cases take turns, so that a machine that slows down does
so for all; medians of the rounds, with the spread. What was published is checked against the
broker's own offsets. Every producer: acks=all, idempotent, seven headers, 128 KiB batches.

`python -m bench encodings` measures encodings instead, without a broker; `python -m bench archive`
the objects of the archive; `python -m bench requests` requests and their answers; `python -m bench
retries` what a failing key costs all others.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from bench import archive, consume, encodings, publish, requests, retries
from bench.events import ENVIRONMENT, SERVICE, TOPIC, records
from spile.adapters.kafka import KafkaAdmin, KafkaSender, KafkaSettings
from spile.testkit.broker import BrokerSettings, EmbeddedBroker
from spile.topics import default_catalogue, plan

RESULTS = Path(__file__).parent / "results" / "latest.json"
FLOORS = [
    ("spile publish_many", "aiokafka send", 1.5),
    ("spile publish, 500 outstanding", "aiokafka send_and_wait, 500 outstanding", 1.0),
    ("spile batches, bytes", "aiokafka getmany, bytes", 0.9),
    ("spile batches, validated events", "aiokafka getmany + orjson", 0.7),
]


def main() -> int:
    """Run the rounds, print the table, write the results; 1 when a floor is missed."""
    others = {
        "archive": archive,
        "encodings": encodings,
        "requests": requests,
        "retries": retries,
    }
    for name, other in others.items():
        if sys.argv[1:2] == [name]:
            return other.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--count", type=int, default=60_000, help="events per case and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="run the cases whose name holds this")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    given = BrokerSettings().bootstrap_servers
    if given:
        return _run(given, arguments)
    with EmbeddedBroker() as broker:
        return _run(broker.bootstrap_servers, arguments)


def _run(bootstrap: str, arguments: argparse.Namespace) -> int:
    names = [
        name for name in (*publish.CASES, *consume.CASES) if arguments.only.lower() in name.lower()
    ]
    measured: dict[str, list[dict]] = {name: [] for name in names}
    for number in range(1, arguments.rounds + 1):
        for name in names:
            if name in publish.CASES:
                asyncio.run(_fresh_topic(bootstrap, 0))
            elif not _is_filled(measured, number, name, names):
                asyncio.run(_fresh_topic(bootstrap, arguments.count))
            measured[name].append(_one(name, bootstrap, arguments.count))
            rate = _rate(measured[name][-1])
            print(f"round {number} of {arguments.rounds}: {name}: {rate:,.0f}/s", file=sys.stderr)
    report = _report(measured, arguments)
    _print_table(report)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(floor["reached"] for floor in report["floors"]) else 1


def _is_filled(measured: dict, number: int, name: str, names: list[str]) -> bool:
    """Say whether an earlier consuming case of this round filled the topic."""
    before = names[: names.index(name)]
    return any(case in consume.CASES and len(measured[case]) == number for case in before)


def _one(name: str, bootstrap: str, count: int) -> dict:
    command = [sys.executable, "-m", "bench.case", name]
    command += ["--bootstrap", bootstrap, "--count", str(count)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "SPILE_BOOTSTRAP_SERVERS": bootstrap}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if name in publish.CASES:
        written = asyncio.run(_end_offsets(bootstrap))
        if written < 2 * count:
            raise SystemExit(f"{name}: the broker has {written} records of {2 * count}")
    return result


async def _fresh_topic(bootstrap: str, fill: int) -> None:
    """Delete the topic and make it anew, so that every case meets the same log."""
    settings = KafkaSettings(bootstrap_servers=bootstrap, environment=ENVIRONMENT)
    async with KafkaAdmin(settings) as admin:
        await _recreate(admin)
    if fill:
        sender = KafkaSender(settings)
        ready = records(fill)
        for start in range(0, fill, 5000):
            receipt = await sender.send(ready[start : start + 5000])
            assert not receipt.failures
        await sender.close()


async def _recreate(admin: KafkaAdmin) -> None:
    wanted = {
        name: spec
        for name, spec in default_catalogue(services=(SERVICE,)).topics(ENVIRONMENT).items()
        if name in {TOPIC, TOPIC + ".dlq"}
    }
    if TOPIC in await admin.topics():
        await admin.delete_topics([TOPIC])
    deadline = time.monotonic() + 20
    while TOPIC in await admin.topics():
        assert time.monotonic() < deadline, "the topic does not go away"
        await asyncio.sleep(0.05)
    await admin.apply(plan(wanted, await admin.describe(), brokers=1, environment=ENVIRONMENT))


async def _end_offsets(bootstrap: str) -> int:
    settings = KafkaSettings(bootstrap_servers=bootstrap, environment=ENVIRONMENT)
    async with KafkaAdmin(settings) as admin:
        return sum((await admin.end_offsets(await admin.partitions([TOPIC]))).values())


def _rate(result: dict) -> float:
    return result["events"] / result["seconds"]


def _report(measured: dict[str, list[dict]], arguments: argparse.Namespace) -> dict:
    """Return medians, spreads and ratios as plain data."""
    cases = {}
    for name, rounds in measured.items():
        rates = [_rate(result) for result in rounds]
        cpu = [1e6 * result["cpu_seconds"] / result["events"] for result in rounds]
        cases[name] = {
            "events_per_s": round(statistics.median(rates)),
            "events_per_s_min": round(min(rates)),
            "events_per_s_max": round(max(rates)),
            "cpu_us_per_event": round(statistics.median(cpu), 2),
            "peak_rss_mb": max(result["peak_rss_mb"] for result in rounds),
        }
    floors = []
    for name, base, floor in FLOORS:
        if name in measured and base in measured:
            ratios = [
                _rate(ours) / _rate(theirs)
                for ours, theirs in zip(measured[name], measured[base], strict=True)
            ]
            ratio = statistics.median(ratios)
            floors.append(
                {
                    "case": name,
                    "against": base,
                    "ratio": round(ratio, 2),
                    "ratio_min": round(min(ratios), 2),
                    "ratio_max": round(max(ratios), 2),
                    "floor": floor,
                    "reached": ratio >= floor,
                }
            )
    return {
        "count": arguments.count,
        "rounds": arguments.rounds,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "cases": cases,
        "floors": floors,
    }


def _print_table(report: dict) -> None:
    console = Console(width=None if sys.stdout.isatty() else 118)
    table = Table(title=f"{report['rounds']} rounds of {report['count']:,} events, medians")
    table.add_column("case")
    for column in ("events/s", "min", "max", "CPU us/event", "RSS MB"):
        table.add_column(column, justify="right")
    for name, case in report["cases"].items():
        table.add_row(
            name,
            f"{case['events_per_s']:,}",
            f"{case['events_per_s_min']:,}",
            f"{case['events_per_s_max']:,}",
            f"{case['cpu_us_per_event']:.1f}",
            str(case["peak_rss_mb"]),
        )
    console.print(table)
    for floor in report["floors"]:
        mark = "reached" if floor["reached"] else "MISSED"
        console.print(
            f"{floor['case']} / {floor['against']}: {floor['ratio']} "
            f"({floor['ratio_min']} to {floor['ratio_max']}), floor {floor['floor']}: {mark}"
        )


if __name__ == "__main__":
    sys.exit(main())
