"""Names, headers and texts made to break out of their place (F32-F35)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import urllib.request

from tests.faults.matrix.publishing import event
from tests.faults.matrix.stage import Stage, cell
from tests.faults.raw import Poison, Raw, bad_json, event_record, producer, write
from tests.faults.rig import DLQ, Rig

from spile.adapters.kafka import KafkaAdmin, create_publisher
from spile.spi import SpileError
from spile.testkit.load import EVENT_TYPE, LOAD_CATALOGUE

HOSTILE_TOPICS = (
    "../../etc/passwd",
    "__consumer_offsets",
    "__transaction_state",
    ".",
    "..",
    "a" * 250,
    "dev.spile.load.sequenced.v1\nx",
    "dev.spile.load.sequenced.v1\x00",
    "prod.spile.load.sequenced.v1",
    "dev.other.load.sequenced.v1",
    "dev.spile.load.sequenced.v1.dlq",
    "dev.spile.load.sequenced.v1.persistence.retry.0",
    "dev.spile.load.SEQUENCED.v1",
    "{service}.load.sequenced.v1",
    "%2e%2e/x",
    "",
)
MOST_SERIES = 600


@cell("F32", "topic names that point elsewhere, in publisher and subscriber")
async def topic_injection(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=200)
    before = await topics_of(rig)
    accepted = []
    async with create_publisher(rig.settings, LOAD_CATALOGUE, service="load") as publisher:
        await publisher.publish_event(event())
        for name in HOSTILE_TOPICS:
            try:
                await publisher.publish(EVENT_TYPE, {"key": "poison", "seq": 0}, topic=name or " ")
                accepted.append(name)
            except (SpileError, ValueError):
                stage.hit()
    stage.healed()
    await stage.progress(100)
    await stage.finish()
    after = await topics_of(rig)
    stage.figures |= {"names_refused": stage.faults, "topics_more": len(after - before)}
    stage.require(not accepted, f"accepted: {accepted!r}")
    stage.require(after == before, f"new topics: {after - before}")


async def topics_of(rig: Rig) -> set[str]:
    async with KafkaAdmin(rig.settings) as admin:
        return set(await admin.describe())


HOSTILE_HEADERS = (
    ("x-spile-dlq-original-topic", b"dev.other.topic.v1"),
    ("x-spile-dlq-original-partition", b"99"),
    ("x-spile-dlq-original-offset", b"-1"),
    ("X-Spile-DLQ-Consumer-Group", b"admin"),
    ("x-spile-dlq-replay-count", b"999999999999999999999999"),
    ("x-spile-retry-role", b"reprocess"),
    ("x-spile-retry-origin-partition", b"7"),
    ("x-dlq-target", b"__consumer_offsets"),
    ("crlf\r\nset-cookie", b"a\r\nb: c"),
    ("not-utf-8", b"\xff\xfe\x00"),
    ("large", b"x" * 200_000),
)


@cell("F33", "headers that claim to be ours, 10,000 of them, CRLF, not UTF-8, large ones")
async def header_injection(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=200)
    (worker,) = stage.workers
    poison = Poison(rig)
    async with producer(rig) as made:
        for hostile in HOSTILE_HEADERS:
            raw = bad_json()
            raw = Raw(raw.value, (*raw.headers, hostile), raw.key)
            poison.note(await write(made, raw, stage.chance.randrange(6)), raw)
            stage.hit()
        sound = event_record("poison-headers")
        many = tuple((f"h{number}", b"v") for number in range(10_000))
        for raw in (
            Raw(sound.value, (*sound.headers, *HOSTILE_HEADERS), sound.key),
            Raw(bad_json().value, (*bad_json().headers, *many), b"poison"),
        ):
            place = await write(made, raw, 0)
            stage.hit()
            if raw.value != sound.value:
                poison.note(place, raw)
    await stage.progress(200)
    stage.healed()
    await stage.finish()
    buried = await poison.buried()
    letters = await rig.read(DLQ)
    foreign = sum(
        sum(name.lower().startswith("x-spile-dlq-consumer-group") for name, _ in letter.headers)
        != 1
        for letter in letters
    )
    stage.figures |= {"letters": len(letters), "with_foreign_facts": foreign}
    stage.require(buried.places == poison.places, "places were taken from hostile headers")
    stage.require(foreign == 0, "a hostile header stands among ours")
    stage.require(worker.running, "the worker ended")


TEXTS = (
    "line one\nline two",
    "\x1b[31mred\x1b[0m\x07",
    "{} {0} {event} %s %n",
    '"}\n{"event":"forged","level":"info"}',
    "\u2028\u2029\u202e",
    "x" * 5_000,
)


@cell("F34", "texts that forge log lines, and a label for every record")
async def log_injection(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=200)
    (worker,) = stage.workers
    poison = Poison(rig)
    before = await series_of(worker)
    async with producer(rig) as made:
        for number in range(200):
            text = f"{TEXTS[number % len(TEXTS)]}{number}"
            raw = event_record(
                "poison", event_type=text.encode(), message_id=text.encode(), source=text.encode()
            )
            poison.note(await write(made, raw, number % 6), raw)
            stage.hit()
    await stage.progress(200)
    stage.healed()
    await stage.finish()
    after = await series_of(worker)
    lines = worker.log.read_text(errors="surrogateescape").split("\n")[:-1]
    broken = sum(not is_fact(line) for line in lines)
    stage.figures |= {"lines": len(lines), "lines_broken": broken, "series_more": after - before}
    stage.require(broken == 0, "a line of the log is not one fact")
    stage.require(after - before < 50, "labels grow with the records")
    stage.require(after < MOST_SERIES, "too many series")
    stage.require((await poison.buried()).places == poison.places, "dead letters are others")


def is_fact(line: str) -> bool:
    """Say whether a line of the log is one JSON object without control characters."""
    with contextlib.suppress(ValueError):
        fact = json.loads(line)
        return isinstance(fact, dict) and fact.get("event") != "forged" and line.isprintable()
    return False


async def series_of(worker) -> int:
    """Count the series of a worker's metrics."""
    url = json.loads(await worker.said('"http"'))["http"]

    def read() -> bytes:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            return answer.read()

    return sum(not line.startswith(b"#") for line in (await asyncio.to_thread(read)).splitlines())


SQL = (
    "x'; DROP TABLE events; --",
    "' OR '1'='1",
    'x" UNION SELECT sql FROM sqlite_schema --',
    "%' OR 1=1 --",
    "a\x01b",
)


@cell("F35 sql", "SQL in every filter of `spile events query`")
async def sql_injection(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=200)
    tables = tables_of(rig)
    leaked = 0
    for text in SQL:
        filters = [part for name in ("--service", "--session", "--tool") for part in (name, text)]
        query = rig.command("events", "query", "--json", *filters)
        code = await query.ended(30)
        stage.hit()
        leaked += len(query.out.read_text().splitlines())
        stage.require(code == 0, f"{text!r}: exit code {code}")
    stage.healed()
    await stage.finish()
    stage.figures |= {"rows_leaked": leaked}
    stage.require(leaked == 0, "a filter gave rows that do not match")
    stage.require(tables_of(rig) == tables, "tables were changed")


def tables_of(rig: Rig) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"file:{rig.database}?mode=ro", uri=True)) as database:
        return database.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
