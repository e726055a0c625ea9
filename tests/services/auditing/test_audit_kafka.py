"""`spile audit` on a real broker, with a publisher that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.kafka import KafkaAdmin, KafkaLogReader, KafkaSender, KafkaSettings
from spile.services.command.audit._group import _once, _Wish
from spile.services.persistence import Decoder, PersistenceHandler, SqliteEventStore
from spile.topics import default_catalogue, plan

DEPLOY = Path(__file__).parents[3] / "docs" / "deploy.md"
PUBLISH = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from spile.adapters.kafka import KafkaSettings, create_publisher
from spile.topics import default_catalogue

async def main(service):
    publisher = create_publisher(KafkaSettings.load(), default_catalogue(), service=service)
    agent = "00000000-0000-0000-0000-000000000001"
    payload = {
        "agent_id": agent,
        "timestamp": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
        "tool_name": "Read",
        "parameters": {},
    }
    for _ in range(5):
        assert await publisher.publish("PRE_TOOL_USE", payload)
    await publisher._audit.report()
    for _ in range(3):
        assert await publisher.publish("PRE_TOOL_USE", payload)
    print("published", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def service(unique):
    return unique("shop")


@pytest.fixture
def topic(service):
    return f"test.{service}.tool.recorded.v1"


@pytest.fixture
def environment(kafka, tmp_path):
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SPILE_")}
    return outside | {
        "SPILE_BOOTSTRAP_SERVERS": kafka,
        "SPILE_ENVIRONMENT": "test",
        "SPILE_AUDIT_EVERY_S": "3600",
        # A terminal of this width, without colours.
        "COLUMNS": "100",
        "LINES": "9",
        "TTY_COMPATIBLE": "1",
        "TERM": "dumb",
    }


@pytest.fixture
async def cluster(kafka, service, topic):
    """Settings of a cluster with the topics of one service and that of the reports."""
    settings = KafkaSettings(bootstrap_servers=kafka, environment="test")
    wanted = {
        name: spec
        for name, spec in default_catalogue((service,)).topics("test").items()
        if name in {topic, f"{topic}.dlq", "test.spile.audit.counted.v1"}
    }
    async with KafkaAdmin(settings) as admin:
        await admin.apply(plan(wanted, await admin.describe(), environment="test", brokers=1))
    return settings


def started(*arguments, environment):
    """Start a process whose output is read line by line, in threads."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def audit(environment, *arguments):
    """Run the command; return its exit code and what it printed."""
    ran = subprocess.run(
        [sys.executable, "-m", "spile.services.command", "audit", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


async def persist(settings, service, topic, database):
    """Do what the persistence worker does, for one topic."""
    reader, sender = KafkaLogReader(settings), KafkaSender(settings)
    async with SqliteEventStore(database) as store:
        handler = PersistenceHandler(
            store,
            Decoder(default_catalogue((service,)), "test"),
            DeadLetterQueue(sender, group="persistence"),
            group="persistence",
        )
        partitions = await reader.partitions([topic])
        ends = await reader.ends(partitions)
        await reader.open(dict.fromkeys(partitions, 0))
        while any(at < ends[key] for key, at in reader.positions().items()):
            polled = await reader.poll(timeout_s=1, max_records=100)
            for records in polled.values():
                await handler(records)
    await reader.close()
    await sender.close()


async def test_a_killed_publisher_and_a_deleted_row(
    environment, cluster, service, topic, tmp_path, monkeypatch
):
    """SIGKILL gives `at least` and no alarm; a row that vanished gives exit code 1 and its tier."""
    monkeypatch.chdir(tmp_path)
    environment["SPILE_STORE"] = str(tmp_path / "events.db")
    with started("-c", PUBLISH, service, environment=environment) as process:
        said = await asyncio.to_thread(process.stdout.readline)
        process.send_signal(signal.SIGKILL)
    assert said == "published\n"
    await persist(cluster, service, topic, tmp_path / "events.db")
    wish = _Wish(since="30m", until=None, grace=timedelta(0), topics=(topic,), as_json=True)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    report = await _once(wish)
    assert report.differences == []
    (line,) = report.counts
    assert (line.publish, line.bus, line.store, line.archive) == (5, 8, 8, None)

    with closing(sqlite3.connect(tmp_path / "events.db")) as database:
        database.execute("DELETE FROM events WHERE seq = 2")
        database.commit()
    arguments = ("--since", "30m", "--grace", "0", "--topic", topic)
    code, out = await asyncio.to_thread(audit, environment, *arguments)
    assert code == 1
    assert "1 missing in store" in out
    assert "archive: not compared, there is none in the default place" in out
    assert max(map(len, out.splitlines())) <= 100


async def test_serves_its_metrics_again_and_again(
    environment, cluster, topic, monkeypatch, tmp_path
):
    """With --every and --http-port the last audit stands at /metrics; SIGTERM ends it with 0."""
    monkeypatch.chdir(tmp_path)
    arguments = ["audit", "--topic", topic, "--every", "1", "--http-port", "0", "--json"]
    environment |= {"SPILE_LOG_FORMAT": "json"}
    with started("-m", "spile.services.command", *arguments, environment=environment) as process:
        first = json.loads(await asyncio.to_thread(process.stderr.readline))
        await asyncio.to_thread(process.stdout.readline)

        def scrape():
            with urllib.request.urlopen(f"{first['http']}/metrics", timeout=20) as answer:
                return answer.read().decode()

        text = await asyncio.to_thread(scrape)
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    assert f'spile_audit_difference{{tier="bus",topic="{topic}"}} 0.0' in text
    assert f'spile_audit_unknown{{tier="bus",topic="{topic}"}} 0.0' in text
    assert "spile_audit_last_run_seconds 1" in text
    names = set(re.findall(r"^(spile_audit_\w+)", text, re.MULTILINE))
    assert names == set(re.findall(r"^\| `(spile_audit_\w+)`", DEPLOY.read_text(), re.MULTILINE))
