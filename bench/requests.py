"""
Requests and their answers over two topics, beside the bare client.

Client and responder have a process each, as they would, and the contestants take turns: one request
at a time, then 50 under way. `python -m bench requests`.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table

from bench import bare_requests
from bench.bare_requests import ANSWER, QUESTION, STEM, Ask, Form, Orjson, Pydantic, Untouched
from bench.events import ENVIRONMENT
from spile.adapters.kafka import KafkaAdmin, KafkaSettings
from spile.testkit.broker import BrokerSettings, EmbeddedBroker
from spile.topics import default_catalogue, plan

RESULTS = Path(__file__).parent / "results" / "requests.json"
OUTSTANDING = 50
GROUP = f"bench-{uuid.uuid4()}"
CLIENTS = 5
"""More clients that are opened to see what one takes."""


def main(arguments: list[str]) -> int:
    """Run the rounds, print the table, write the results; 1 when a floor is missed."""
    parser = argparse.ArgumentParser(prog="bench requests", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="requests with 50 under way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    given = BrokerSettings().bootstrap_servers
    if given:
        return _run(given, options)
    with EmbeddedBroker() as broker:
        return _run(broker.bootstrap_servers, options)


def _run(bootstrap: str, options: argparse.Namespace) -> int:
    asyncio.run(_make_topics(bootstrap))
    names = [name for name in CASES if options.only.lower() in name.lower()]
    measured: dict[str, list[dict]] = {name: [] for name in names}
    for number in range(1, options.rounds + 1):
        for name in names:
            measured[name].append(_one(name, bootstrap, options.count))
            rate = measured[name][-1]["requests_per_s"]
            print(f"round {number} of {options.rounds}: {name}: {rate:,.0f}/s", file=sys.stderr)
    report = _report(measured, options)
    _print(report)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(floor["reached"] for floor in report["floors"]) else 1


async def _make_topics(bootstrap: str) -> None:
    settings = KafkaSettings(bootstrap_servers=bootstrap, environment=ENVIRONMENT)
    wanted = {
        name: spec
        for name, spec in default_catalogue().topics(ENVIRONMENT).items()
        if name.startswith(STEM)
    }
    async with KafkaAdmin(settings) as admin:
        await admin.apply(plan(wanted, await admin.describe(), brokers=1, environment=ENVIRONMENT))


def _one(name: str, bootstrap: str, count: int) -> dict:
    command = [sys.executable, "-m", "bench.requests", name, bootstrap, str(count)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


async def _measure(name: str, bootstrap: str, count: int) -> dict:
    """Warm up, then ask one at a time, then 50 at a time."""
    ask_by, _ = CASES[name]
    async with _responding(name, bootstrap) as spent, ask_by(bootstrap) as ask:
        await _ask_many(ask, 500, OUTSTANDING)
        alone, _ = await _ask_many(ask, max(count // 20, 100), 1)
        theirs, ours, started = await spent(), time.process_time(), time.perf_counter()
        crowd, failures = await _ask_many(ask, count, OUTSTANDING)
        seconds, ours = time.perf_counter() - started, time.process_time() - ours
        theirs = await spent() - theirs
        memory = await _memory_per_client(bootstrap) if name == "spile" else None
    return {
        "p50_ms_alone": statistics.median(alone),
        "p95_ms_alone": _p95(alone),
        "p95_ms": _p95(crowd),
        "requests_per_s": len(crowd) / seconds,
        "client_cpu_us": 1e6 * ours / count,
        "responder_cpu_us": 1e6 * theirs / count,
        "success": len(crowd) / (len(crowd) + failures),
        "client_mb": memory,
    }


@contextlib.asynccontextmanager
async def _responding(name: str, bootstrap: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Run the responder in a process; gives what tells the CPU seconds that it has used."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.requests", "respond", name, bootstrap),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    async def spent() -> float:
        process.stdin.write(b"?\n")
        return float(await process.stdout.readline())

    await spent()  # answers once it has joined its group
    try:
        yield spent
    finally:
        process.stdin.close()
        await process.wait()


async def _respond(name: str, bootstrap: str) -> None:
    """Answer requests until the other side hangs up."""
    async with CASES[name][1](bootstrap):
        while await asyncio.to_thread(sys.stdin.readline):
            print(time.process_time(), flush=True)


async def _ask_many(ask: Ask, count: int, at_once: int) -> tuple[list[float], int]:
    """Return how long each took in milliseconds, and how many failed."""
    took: list[float] = []
    failures = [0]
    numbers = iter(range(count))

    async def worker() -> None:
        for _ in numbers:
            before = time.perf_counter()
            try:
                await ask()
            except TimeoutError:
                failures[0] += 1
            else:
                took.append((time.perf_counter() - before) * 1000)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return took, failures[0]


async def _memory_per_client(bootstrap: str) -> float:
    """Return the MB that each further client with a publisher of its own takes, in use."""
    async with contextlib.AsyncExitStack() as stack:
        gc.collect()
        before = _rss_mb()
        clients = [await stack.enter_async_context(_client(bootstrap)) for _ in range(CLIENTS)]
        for client in clients:
            for _ in range(20):
                await client.request(QUESTION)
        return (_rss_mb() - before) / CLIENTS


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@contextlib.asynccontextmanager
async def _client(bootstrap: str) -> AsyncIterator:
    from spile.adapters.kafka import KafkaLogReader, create_publisher
    from spile.adapters.requesting import CODE_ANALYSIS, RequestClient

    settings = KafkaSettings(bootstrap_servers=bootstrap, environment=ENVIRONMENT)
    catalogue = default_catalogue()
    async with (
        create_publisher(settings, catalogue, service="bench") as publisher,
        RequestClient(
            CODE_ANALYSIS,
            publisher=publisher,
            open_reader=lambda: KafkaLogReader(settings),
            catalogue=catalogue,
            environment=ENVIRONMENT,
        ) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def spile_asks(bootstrap: str) -> AsyncIterator[Ask]:
    """The client as shipped: validated, redacted."""
    async with _client(bootstrap) as client:

        async def ask() -> None:
            answer = await client.request(QUESTION)
            assert answer.total_count == 120

        yield ask


@contextlib.asynccontextmanager
async def spile_answers(bootstrap: str) -> AsyncIterator[None]:
    """The responder as shipped: validated, redacted, committed after the answer."""
    from spile.adapters.kafka import KafkaEventBus, KafkaEventBusAdapter, create_publisher
    from spile.adapters.requesting import CODE_ANALYSIS, Responder

    await bare_requests.begin_at_end(bootstrap, GROUP)
    settings = KafkaSettings(bootstrap_servers=bootstrap, environment=ENVIRONMENT)
    catalogue = default_catalogue()

    async def handle(_request: Any) -> Any:
        return ANSWER

    async with (
        create_publisher(settings, catalogue, service="archon-intelligence") as publisher,
        KafkaEventBus(KafkaEventBusAdapter(settings, catalogue)) as bus,
        Responder(
            CODE_ANALYSIS,
            handle,
            bus=bus,
            group=GROUP,
            publisher=publisher,
            catalogue=catalogue,
            environment=ENVIRONMENT,
        ),
    ):
        yield


def _bare(form: type[Form]) -> tuple[Callable, Callable]:
    """Return both sides over the bare client."""
    return (
        lambda bootstrap: bare_requests.asks(bootstrap, form()),
        lambda bootstrap: bare_requests.answers(bootstrap, form(), GROUP),
    )


CASES = {
    "aiokafka, bytes untouched": _bare(Untouched),
    "aiokafka + orjson": _bare(Orjson),
    "aiokafka + pydantic": _bare(Pydantic),
    "spile": (spile_asks, spile_answers),
}
"""The first writes no ids and reads nothing: it only shows what the transport takes."""


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[18]


def _report(measured: dict[str, list[dict]], options: argparse.Namespace) -> dict:
    cases = {
        name: {
            key: None
            if rounds[0][key] is None
            else round(statistics.median(one[key] for one in rounds), 3)
            for key in rounds[0]
        }
        for name, rounds in measured.items()
    }
    floors = []
    if "spile" in cases:
        ours = cases["spile"]
        floors = [
            ("p95 with 50 under way, ms", ours["p95_ms"], "<", 100),
            ("requests/s", ours["requests_per_s"], ">=", 100),
            ("memory of one client, MB", ours["client_mb"], "<", 20),
            ("success", ours["success"], ">", 0.95),
        ]
    for other in ("aiokafka + orjson", "aiokafka + pydantic"):
        if {"spile", other} <= cases.keys():
            ratios = [
                one["requests_per_s"] / theirs["requests_per_s"]
                for one, theirs in zip(measured["spile"], measured[other], strict=True)
            ]
            floors.append((f"spile / {other}", round(statistics.median(ratios), 2), ">=", 0.8))
    return {
        "count": options.count,
        "rounds": options.rounds,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "cases": cases,
        "floors": [
            {
                "floor": name,
                "value": value,
                "limit": f"{sign} {limit}",
                "reached": value < limit if sign == "<" else value >= limit,
            }
            for name, value, sign, limit in floors
        ],
    }


def _print(report: dict) -> None:
    console = Console(width=None if sys.stdout.isatty() else 118)
    table = Table(title=f"{report['rounds']} rounds of {report['count']:,} requests, medians")
    table.add_column("case")
    for column in (
        "p50 ms, 1",
        "p95 ms, 1",
        "p95 ms, 50",
        "requests/s",
        "CPU us, client",
        "responder",
    ):
        table.add_column(column, justify="right")
    for name, case in report["cases"].items():
        table.add_row(
            name,
            f"{case['p50_ms_alone']:.2f}",
            f"{case['p95_ms_alone']:.2f}",
            f"{case['p95_ms']:.1f}",
            f"{case['requests_per_s']:,.0f}",
            f"{case['client_cpu_us']:.0f}",
            f"{case['responder_cpu_us']:.0f}",
        )
    console.print(table)
    for floor in report["floors"]:
        mark = "reached" if floor["reached"] else "MISSED"
        console.print(f"{floor['floor']}: {floor['value']} ({floor['limit']}): {mark}")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if sys.argv[1] == "respond":
        asyncio.run(_respond(*sys.argv[2:]))
    else:
        print(json.dumps(asyncio.run(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
