"""
Canaries: secrets planted in every kind of place, and searched for wherever something is written.

The same search with redaction off must find them, outlet by outlet, or it would prove nothing. A
new outlet joins by a row in `OUTLETS` and by filling its bytes in `Run`.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import logging
import os
import random
import string
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff, OutgoingEvent
from spile.adapters.kafka import (
    KafkaAdmin,
    KafkaEventBus,
    KafkaEventBusAdapter,
    KafkaSender,
    KafkaSettings,
    KafkaSource,
    create_publisher,
)
from spile.adapters.subscribing import Retries, Subscription, SubscriptionOptions
from spile.services.archiver import archiver_worker
from spile.services.archiver.reading import ArchiveIndex, is_tick
from spile.services.archiver.stores import ArchiveSettings, FolderStore
from spile.services.persistence import SqliteEventStore, persistence_worker
from spile.services.runtime import WorkerSettings, configure_logging, run_worker
from spile.topics import Catalogue, TopicSpec, plan
from spile.topics.events import ExecutorCommandStartedEvent, PostToolUseEvent, PreToolUseEvent
from spile.topics.redaction import Redactor

pytestmark = pytest.mark.kafka

AGENT = "0190c8a0-0000-7000-8000-000000000001"
SESSION = "0190c8a0-0000-7000-8000-000000000002"
QUICK = Backoff(initial_s=0.01, factor=1.0, max_s=0.01, jitter=0.0)
OPTIONS = SubscriptionOptions(poll_timeout_s=0.05, commit_interval_s=0.05, keepalive_s=0.2)


class Mint:
    """Makes secrets that stand nowhere else; the same ones in every run."""

    def __init__(self) -> None:
        self._rng = random.Random(20261121)

    def letters(self, alphabet: str, length: int) -> str:
        return "".join(self._rng.choices(alphabet, k=length))

    def aws(self) -> str:
        return "AKIA" + self.letters(string.ascii_uppercase + string.digits, 16)

    def github(self) -> str:
        return "ghp_" + self.letters(string.ascii_letters + string.digits, 36)

    def openai(self) -> str:
        return "sk-proj-" + self.letters(string.ascii_letters, 30) + "7"

    def slack(self) -> str:
        return "xoxb-" + self.letters(string.digits, 12) + "-" + self.letters(string.hexdigits, 24)

    def stripe(self) -> str:
        return "sk_live_" + self.letters(string.ascii_letters, 24)

    def jwt(self) -> str:
        parts = ('{"alg":"HS256"}', json.dumps({"sub": self.word()}), self.word())
        return ".".join(base64.urlsafe_b64encode(p.encode()).decode().rstrip("=") for p in parts)

    def pem(self) -> str:
        body = self.letters(string.ascii_letters, 64)
        return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"

    def word(self) -> str:
        return "hunter2" + self.letters(string.ascii_lowercase, 12)

    def mail(self) -> str:
        return f"{self.word()}@example.com"

    def card(self) -> str:
        body = "4" + self.letters(string.digits, 14)
        total = 0
        for place, digit in enumerate(reversed(body)):
            value = int(digit) * (1 if place % 2 else 2)
            total += value - 9 if value > 9 else value
        return body + str(-total % 10)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """
    A secret and where it is planted.

    Attributes:
        needles: What must be found nowhere: the secret, or its parts when it is split.
        parameters: Of a tool call; None for canaries of other kinds.
        error: Raised by the handler of the event.
        logged: A fact of a log line.
    """

    place: str
    needles: tuple[str, ...]
    parameters: dict | None = None
    metadata: dict | None = None
    key: str | None = None
    error: str | None = None
    logged: object = None
    telemetry: dict | None = None


def encoded(text: str) -> str:
    """Encode as Base64."""
    return base64.b64encode(text.encode()).decode()


def in_payload(mint: Mint) -> list[Canary]:
    """Secrets in fields, nested ones, lists, names, texts."""
    makers: list[tuple[str, Callable[[], str]]] = [
        (name, getattr(mint, name))
        for name in ("aws", "github", "openai", "slack", "stripe", "jwt", "pem", "mail", "card")
    ]
    made = []

    def plant(place: str, secret: str, parameters: dict, *parts: str) -> None:
        needles = parts or (secret.splitlines()[1] if "\n" in secret else secret,)
        made.append(Canary(place=place, needles=needles, parameters=parameters))

    for name, make in makers:
        secret = make()
        plant(f"field: {name}", secret, {"value": secret})
    for name in ("password", "X-Api-Key", "clientSecret", "Authorization", "cookie"):
        secret = mint.word()
        plant(f"named: {name}", secret, {"request": [{name: {"deep": [secret]}}]})
    for frame in (
        "export DB_PASSWORD={} && x",
        '"token": "{}"',
        "postgres://u:{}@h/d",
        "--secret {}",
    ):
        secret = mint.word()
        plant(f"text: {frame}", secret, {"command": f"say é\n{frame.format(secret)}"})
    for name, make in makers[:3]:
        secret = make()
        plant(f"list: {name}", secret, {"items": ["a", [1, {"x": [secret]}]]})
        secret = make()
        plant(f"object key: {name}", secret, {"headers": {secret: "1", "other": 2}})
    for name in ("aws", "mail", "card", "github", "jwt"):
        secret = getattr(mint, name)()
        plant(f"base64: {name}", secret, {"blob": encoded(secret)}, secret)
    secret = f"password={mint.word()}"
    plant(
        "base64 twice", secret, {"blob": f"x {encoded(encoded(secret))} y"}, secret, encoded(secret)
    )
    secret = mint.word()
    plant("nested name", secret, {"api": {"url": "u", "key": secret}})
    deep: object = {"api_key": (secret := mint.word())}
    for _ in range(24):
        deep = {"d": deep}
    plant("deep", secret, {"deep": deep})
    made += in_pieces(mint)
    return made


def in_pieces(mint: Mint) -> list[Canary]:
    """Secrets over several texts; no piece may be left."""
    one, two, three, card = mint.aws(), mint.openai(), mint.github(), mint.card()
    blob = encoded(f"password={mint.word()}")
    split = {
        "list": ([one[:9], one[9:]], (one[9:],)),
        "siblings": ({"a": two[:20], "b": two[20:]}, (two[8:20], two[20:])),
        "nested": ({"a": {"x": three[:20]}, "b": [{"y": three[20:]}]}, (three[4:20], three[20:])),
        "base64": ([blob[:24], blob[24:]], (blob[:24], blob[24:])),
        "option": (["--password", word := mint.word()], (word,)),
        "pair": ({"name": "DB_PASSWORD", "value": (value := mint.word())}, (value,)),
        "lines": (
            ["-----BEGIN PRIVATE KEY-----", line := mint.letters(string.ascii_letters, 64), "--"],
            (line,),
        ),
        "digits": ([card[:8], card[8:]], (card[:8], card[8:])),
    }
    return [
        Canary(place=f"split: {name}", needles=needles, parameters={"parts": parts})
        for name, (parts, needles) in split.items()
    ]


def elsewhere(mint: Mint) -> list[Canary]:
    """Secrets in metadata, headers, keys, errors, log lines, telemetry."""
    made = []
    for name in ("routing_key", "operation_name", "destination"):
        secret = mint.aws()
        made.append(Canary(place=f"header: {name}", needles=(secret,), metadata={name: secret}))
    secret, named, nested = mint.github(), mint.word(), mint.mail()
    made += [
        Canary(place="header name", needles=(secret,), metadata={f"x-{secret}": "1"}),
        Canary(place="metadata: name", needles=(named,), metadata={"api-key": named}),
        Canary(place="metadata: nested", needles=(nested,), metadata={"who": {"is": nested}}),
    ]
    for name in ("mail", "aws", "card"):
        secret = getattr(mint, name)()
        made.append(Canary(place=f"record key: {name}", needles=(secret,), key=secret))
    for frame in ("{}", "token={}1", "cannot open https://u:{}@h/x", 'said {{"password": "{}"}}'):
        secret = mint.aws() if frame == "{}" else mint.word()
        made.append(Canary(place=f"error: {frame}", needles=(secret,), error=frame.format(secret)))
    for name in ("aws", "mail"):
        secret = getattr(mint, name)()
        made.append(Canary(place=f"log: {name}", needles=(secret,), logged={"fact": [secret]}))
    secret, option, tag = mint.slack(), mint.word(), mint.word()
    made += [
        Canary(
            place="telemetry", needles=(secret,), telemetry={"payload": {"command": f"x {secret}"}}
        ),
        Canary(
            place="telemetry list",
            needles=(option,),
            telemetry={"payload": {"arguments": ["--token", option]}},
        ),
        Canary(place="telemetry tag", needles=(tag,), telemetry={"tags": {"api_key": tag}}),
    ]
    return made


MINT = Mint()
CANARIES = [*in_payload(MINT), *elsewhere(MINT)]

OUTLETS = {
    "topic": True,
    "dead letter queue": True,
    "archive": True,
    "views": False,
    "database": True,
    "telemetry file": True,
    "log": True,
    "metrics": False,
}
"""Where to search, and whether redaction is what keeps canaries out of it."""


def forms(needle: str) -> list[bytes]:
    """Return what a needle looks like: plain, as JSON, as Base64 at each of three offsets."""
    made = {needle, json.dumps(needle)[1:-1]}
    if len(needle) >= 10:  # shorter ones are pieces
        for shift in range(3):
            text = base64.b64encode(b"\0" * shift + needle.encode()).decode()
            core = text[(0, 2, 3)[shift] :].rstrip("=")[: (len(needle) * 8 - 10) // 6 - 1]
            made |= {core, core.replace("+", "-").replace("/", "_")}
    return [text.encode() for text in made]


class Run:
    """One run of everything that writes; what it wrote by outlet."""

    def __init__(self, kafka: str, folder: Path, service: str, *, redaction: bool) -> None:
        self.settings = KafkaSettings(bootstrap_servers=kafka)
        self.folder = folder
        self.service = service
        self.redactor = Redactor(key=b"canaries need one") if redaction else None
        self.scrub = str if self.redactor is None else self.redactor.scrub
        self.log = io.StringIO()
        self.found: dict[str, bytes] = {}
        self.catalogue = Catalogue(
            [
                TopicSpec(
                    name=f"{service}.tool.recorded.v1",
                    owner=service,
                    partitions=2,
                    models={"PRE_TOOL_USE": PreToolUseEvent, "POST_TOOL_USE": PostToolUseEvent},
                ),
                TopicSpec(
                    name=f"{service}.telemetry.lines.v1",
                    owner=service,
                    partitions=1,
                    models={"EXECUTOR_COMMAND_STARTED": ExecutorCommandStartedEvent},
                ),
            ]
        )
        self.topics = [f"dev.{service}.tool.recorded.v1", f"dev.{service}.telemetry.lines.v1"]

    async def play(self) -> None:
        """Publish all canaries, handle them with a failing handler, store them, and collect."""
        configure_logging("debug", "json", stream=self.log, redactor=self.redactor or False)
        wanted = self.catalogue.topics("dev")
        async with KafkaAdmin(self.settings) as admin:
            described = await admin.describe()
            await admin.apply(plan(wanted, described, environment="dev", brokers=1))
        await self._publish()
        await asyncio.gather(self._handle(), self._store())
        await self._archive()
        self.found["views"] = await self._views()
        self.found["topic"] = await self._records(self.topics)
        self.found["dead letter queue"] = await self._records([f"{t}.dlq" for t in self.topics])
        self.found["database"] = b"".join(
            file.read_bytes() for file in sorted(self.folder.glob("events.db*"))
        )
        self.found["log"] = self.log.getvalue().encode()

    async def _publish(self) -> None:
        events = [event(canary) for canary in CANARIES]
        publisher = create_publisher(
            self.settings, self.catalogue, service=self.service, redactor=self.redactor or False
        )
        async with publisher:
            assert all(await publisher.publish_many(events))
        lines = []
        for one in events:
            if one.event_type == "EXECUTOR_COMMAND_STARTED":
                value = ExecutorCommandStartedEvent.model_validate_json(json.dumps(one.payload))
                line = value.model_dump(mode="json")
                lines.append(self.redactor.redact(line).value if self.redactor else line)
        self.found["telemetry file"] = "\n".join(map(json.dumps, lines)).encode()

    async def _handle(self) -> None:
        """Fail on every event, so that all go to the dead letter queue with their error."""
        log = structlog.get_logger("spile.canaries")
        errors = iter([c.error for c in CANARIES if c.error] * 2)
        facts = iter([c.logged for c in CANARIES if c.logged])
        done = 0

        async def handle(message) -> None:
            nonlocal done
            log.debug("handled", fact=next(facts, None), key=message.key)
            done += 1
            try:
                fail(next(errors, "no"))
            except ValueError:
                log.exception("handler failed")
                logging.getLogger("library").exception("library failed")
                raise

        sender = KafkaSender(self.settings)
        letters = DeadLetterQueue(sender, group=self.service, scrub=self.scrub)
        subscription = Subscription.of_messages(
            KafkaSource(self.settings, self.topics, f"{self.service}-handler"),
            handle,
            group_id=f"{self.service}-handler",
            dead_letters=letters,
            retries=Retries(limit=0, backoff=QUICK),
            manual_ack=False,
            options=OPTIONS,
        )
        await subscription.start()
        try:
            await until(lambda: done >= len(CANARIES))
        finally:
            await subscription.close()
            await sender.close()

    async def _store(self) -> None:
        """Run the persistence worker until it has all, and read its metrics."""
        settings = WorkerSettings(store=str(self.folder / "events.db"), log_level="debug")
        stop = asyncio.Event()
        adapter = KafkaEventBusAdapter(self.settings, group=self.service, options=OPTIONS)
        async with (
            KafkaEventBus(adapter) as bus,
            persistence_worker(
                settings,
                catalogue=self.catalogue,
                environment="dev",
                dead_letters=adapter.dead_letters,
            ) as worker,
            asyncio.TaskGroup() as tasks,
        ):
            mine = dataclasses.replace(
                worker, topics=self.topics, group=f"{self.service}-persistence"
            )
            tasks.create_task(run_worker(mine, bus, settings, stop=stop))
            try:
                async with SqliteEventStore(self.folder / "events.db", read_only=True) as store:
                    async with asyncio.timeout(30):
                        while sum((await store.stored_offsets()).values()) < len(CANARIES):  # noqa: ASYNC110 - a file
                            await asyncio.sleep(0.05)
                self.found["metrics"] = await asyncio.to_thread(read, self._http() + "/metrics")
            finally:
                stop.set()

    async def _archive(self) -> None:
        """Run the archiver until it has all; read its files, and the records in them."""
        settings = ArchiveSettings(archive=str(self.folder / "archive"), archive_window_s=0.2)
        stop = asyncio.Event()
        adapter = KafkaEventBusAdapter(self.settings, group=self.service, options=OPTIONS)
        store = FolderStore(self.folder / "archive")
        async with (
            KafkaEventBus(adapter) as bus,
            archiver_worker(settings, environment="dev", publish=adapter.publish_record) as worker,
            asyncio.TaskGroup() as tasks,
        ):
            mine = dataclasses.replace(worker, topics=self.topics, group=f"{self.service}-archiver")
            tasks.create_task(run_worker(mine, bus, WorkerSettings(), stop=stop))
            try:
                async with asyncio.timeout(30):
                    while len(pieces := await asyncio.to_thread(archived, store)) < len(CANARIES):  # noqa: ASYNC110 - a folder
                        await asyncio.sleep(0.1)
            finally:
                stop.set()
        files = [path.read_bytes() for path in (self.folder / "archive").rglob("*.json")]
        self.found["archive"] = b"\0".join([*pieces, *files])

    async def _views(self) -> bytes:
        """Look at dead letters and archive as people do: shown without secrets, always."""
        service = self.service
        (self.folder / "canary_catalogue.py").write_text(
            "from spile.topics import Catalogue, TopicSpec\n"
            f"specs = [TopicSpec(name=f'{service}.{{x}}.v1', owner='x') for x in "
            "('tool.recorded', 'telemetry.lines')]\n"
            "catalogue = Catalogue(specs)\n"
        )
        variables = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "SPILE_CATALOGUE": "canary_catalogue:catalogue",
            "SPILE_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "SPILE_ARCHIVE": str(self.folder / "archive"),
        }
        shown = []
        for arguments in (
            ("dlq", "grep", self.topics[0], "", "--limit", "1000"),
            ("dlq", "list", self.topics[0], "--json", "--limit", "1000"),
            ("archive", "cat"),
        ):
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "spile.services.command", *arguments],
                env=variables,
                capture_output=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr.decode()
            assert len(done.stdout.splitlines()) >= 50, done.stdout.decode()
            shown += [done.stdout, done.stderr]
        return b"".join(shown)

    def _http(self) -> str:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return next(line["http"] for line in lines if "http" in line)

    async def _records(self, topics: list[str]) -> bytes:
        """Read all records raw: keys, values, header names and values."""
        async with KafkaAdmin(self.settings) as admin:
            parts = [TopicPartition(*place) for place in await admin.partitions(topics)]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.bootstrap_servers)
        await consumer.start()
        try:
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            ends = await consumer.end_offsets(parts)
            pieces = []
            async with asyncio.timeout(15):
                for part in parts:
                    while await consumer.position(part) < ends[part]:
                        for records in (await consumer.getmany(part, timeout_ms=200)).values():
                            for record in records:
                                pieces += [record.key or b"", record.value or b""]
                                pieces += [n.encode() + b"\0" + v for n, v in record.headers]
        finally:
            await consumer.stop()
        assert pieces
        return b"\0".join(pieces)

    def hits(self, outlet: str) -> list[str]:
        """Return the places whose canaries are found in an outlet."""
        data = self.found[outlet]
        return [
            canary.place
            for canary in CANARIES
            if any(form in data for needle in canary.needles for form in forms(needle))
        ]


def event(canary: Canary) -> OutgoingEvent:
    """Make the event that carries a canary."""
    if canary.telemetry is not None:
        payload = {
            "timestamp": "2026-01-02T03:04:05Z",
            "source": "executor",
            "run_id": "run/1",
            "cycle": 1,
            "event": "executor.command_started",
            "payload": {"command": "psql", "arguments": []},
            "tags": {},
        }
        for name, value in canary.telemetry.items():
            payload[name] |= value
        return OutgoingEvent(event_type="EXECUTOR_COMMAND_STARTED", payload=payload)
    payload = {
        "agent_id": AGENT,
        "session_id": SESSION,
        "tool_name": "Bash",
        "parameters": canary.parameters or {},
    }
    return OutgoingEvent(
        event_type="PRE_TOOL_USE",
        payload=payload,
        metadata=canary.metadata,
        partition_key=canary.key,
    )


def archived(store: FolderStore) -> list[bytes]:
    """Return the records of an archive so far: keys, values and headers."""
    index = ArchiveIndex(store)
    pieces = []
    for partition in index.partitions:
        for manifest in index.usable(partition):
            for record in index.opened(manifest).records():
                headers = [name.encode() + b"\0" + value for name, value in record.headers]
                if not is_tick(record):
                    pieces.append(b"\0".join([record.key or b"", record.value or b"", *headers]))
    return pieces


def fail(text: str) -> None:
    """Raise an error with a text."""
    raise ValueError(text)


def read(url: str) -> bytes:
    """Read a page."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - conditions over foreign state
            await asyncio.sleep(0.02)


@pytest.fixture
def run(kafka, unique, tmp_path):
    """Make a run; logging is put back in the end."""
    root, before, config = (
        logging.getLogger(),
        logging.getLogger().handlers[:],
        structlog.get_config(),
    )
    level = root.level
    yield lambda redaction: Run(kafka, tmp_path, unique("canary"), redaction=redaction)
    root.handlers[:] = before
    root.setLevel(level)
    structlog.configure(**config)


def test_fifty_canaries_are_planted():
    """Every kind of place has some, and each secret is its own."""
    needles = [needle for canary in CANARIES for needle in canary.needles]

    assert len(CANARIES) >= 50
    assert len(set(needles)) == len(needles)


async def test_no_canary_is_found_anywhere(run):
    """With redaction on, no outlet holds a canary, plain, as JSON or as Base64."""
    played = run(redaction=True)
    await played.play()

    assert {outlet: played.hits(outlet) for outlet in OUTLETS} == {outlet: [] for outlet in OUTLETS}
    assert b"redacted:" in played.found["topic"]
    assert b"redacted:" in played.found["log"]


async def test_without_redaction_canaries_are_found_in_every_outlet(run):
    """The search finds what is there: all planted events in topic and store, errors and facts."""
    played = run(redaction=False)
    await played.play()

    found = {outlet: played.hits(outlet) for outlet in OUTLETS}
    assert all(found[outlet] for outlet, protected in OUTLETS.items() if protected)
    published = [c.place for c in CANARIES if not (c.error or c.logged)]
    assert set(found["topic"]) == set(published)
    assert set(published) - set(found["database"]) == set()
    assert {c.place for c in CANARIES if c.error} <= set(found["dead letter queue"])
    assert {c.place for c in CANARIES if c.error or c.logged} <= set(found["log"])
    assert set(found["archive"]) == set(published)
    assert found["metrics"] == found["views"] == []
