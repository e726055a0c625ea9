"""`spile import` into a real Kafka, stored by a real worker."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys

import pytest

from spile.adapters.kafka import KafkaSettings
from spile.services.command._topics import apply_catalogue
from spile.services.demo import WorkerProcess
from spile.services.importing import recorded_session
from spile.services.persistence import EventFilter, SqliteEventStore
from spile.testkit.broker import EmbeddedBroker
from spile.topics import default_catalogue

pytestmark = pytest.mark.kafka

_SPILE = "from spile.services.command import main; main()"
_EVENTS = 68


@pytest.fixture
def bus():
    """An empty broker with the topics of the catalogue: the worker reads all of them."""
    with EmbeddedBroker() as broker:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, environment="dev")
        asyncio.run(apply_catalogue(settings, default_catalogue().topics("dev")))
        yield broker.bootstrap_servers


def import_session(bus, *arguments):
    return subprocess.run(
        [sys.executable, "-c", _SPILE, "import", "--json", *arguments, str(recorded_session())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "SPILE_BOOTSTRAP_SERVERS": bus},
    )


async def until_read(store, records):
    """Wait until the worker has read that many records."""
    async with asyncio.timeout(30):
        while sum((await store.stored_offsets()).values()) < records:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


async def test_import_again_adds_nothing_to_the_store(bus, tmp_path):
    """A second import is acknowledged like the first, and the store stays as it is."""
    with WorkerProcess(tmp_path, bus, scratch=False) as worker:
        await asyncio.to_thread(worker.wait_until_ready)
        async with SqliteEventStore(worker.store, read_only=True) as store:
            counts = []
            for times in (1, 2):
                done = await asyncio.to_thread(import_session, bus)
                assert done.returncode == 0, done.stdout + done.stderr
                assert json.loads(done.stdout)["published"] == _EVENTS
                await until_read(store, times * _EVENTS)
                counts.append(await store.count_by(EventFilter(), "event_type"))
    assert sum(counts[0].values()) == _EVENTS
    assert counts[0] == counts[1]


def test_import_keeps_order_and_causes(bus, tmp_path):
    """Stored events carry the session's correlation id, the time of then, and name their calls."""
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(WorkerProcess(tmp_path, bus, scratch=False))
        worker.wait_until_ready()
        assert import_session(bus).returncode == 0

        async def stored():
            async with SqliteEventStore(worker.store, read_only=True) as store:
                await until_read(store, _EVENTS)
                return await store.query(EventFilter(limit=1_000))

        events = asyncio.run(stored())
    assert len({event.correlation_id for event in events}) == 1
    assert all(event.happened_at < event.recorded_at for event in events)
    calls = {event.event_id for event in events if event.event_type == "PRE_TOOL_USE"}
    answers = [event for event in events if event.event_type == "POST_TOOL_USE"]
    assert calls
    assert {event.causation_id for event in answers} <= calls


def test_import_names_a_topic_that_is_missing(bus):
    """Publishing creates no topic: a service without topics fails, and the reason names it."""
    done = import_session(bus, "--service", "newcomer")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["published"] == 0
    assert "dev.newcomer." in report["failures"][0]


def test_generate_publishes_the_asked_events(bus, tmp_path):
    """`spile generate` publishes one whole workflow; the same seed again adds nothing."""
    command = [sys.executable, "-c", _SPILE, "generate", "--scenario", "code_review", "--seed", "6"]
    environment = {**os.environ, "SPILE_BOOTSTRAP_SERVERS": bus}
    runs = [
        subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, env=environment
        )
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    published = int(re.search(r"(\d+) published", runs[0].stdout)[1])
    assert f"{published} acknowledged" in runs[0].stdout
    with WorkerProcess(tmp_path, bus, scratch=False) as worker:
        worker.wait_until_ready()

        async def stored():
            async with SqliteEventStore(worker.store, read_only=True) as store:
                await until_read(store, 2 * published)
                return await store.count(EventFilter())

        assert asyncio.run(stored()) == published


@pytest.mark.parametrize("command", [["import", str(recorded_session())], ["generate"]])
def test_publishing_says_at_once_that_nobody_answers(command):
    """With no broker at the address, commands that publish end with 1 and the reason, at once."""
    done = subprocess.run(
        [sys.executable, "-c", _SPILE, *command],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
        env={**os.environ, "SPILE_BOOTSTRAP_SERVERS": "127.0.0.1:9"},
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.lower().startswith("error: ")
    assert "127.0.0.1" in last
    assert "Traceback" not in done.stderr
