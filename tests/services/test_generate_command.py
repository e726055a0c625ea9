"""`spile generate`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from spile.adapters.kafka import KafkaAdmin, KafkaSettings
from spile.services.command._generate import generate
from spile.topics import decode_envelope, default_catalogue, plan

SPILE = [sys.executable, "-c", "from spile.services.command import main; main()", "generate"]


def run(*arguments):
    return CliRunner().invoke(generate, list(arguments))


def printed(*arguments):
    """Return the envelopes of a dry run."""
    done = run("--dry-run", *arguments)
    assert done.exit_code == 0, done.stderr
    return [decode_envelope(line.encode()) for line in done.stdout.splitlines()]


def test_generate_dry_run_prints_envelopes_in_causal_order():
    """A dry run prints what would be published, a line each; causes come before their effects."""
    envelopes = printed("--count", "300", "--seed", "5")
    assert len(envelopes) == 300
    seen = set()
    for envelope in envelopes:
        assert envelope.causation_id is None or envelope.causation_id in seen
        seen.add(envelope.event_id)


def test_generate_is_the_same_to_the_byte_with_seed_and_start():
    """The same seed and start give the same output; another seed shares no event with it."""
    arguments = ("--dry-run", "--count", "200", "--related", "--start", "2026-03-01")
    first = run(*arguments, "--seed", "7").stdout
    assert run(*arguments, "--seed", "7").stdout == first
    ids = {json.loads(line)["event_id"] for line in first.splitlines()}
    other = {
        json.loads(line)["event_id"] for line in run(*arguments, "--seed", "8").stdout.splitlines()
    }
    assert not ids & other


@pytest.mark.parametrize("name", ["code_review", "CODE_REVIEW"])
def test_generate_one_scenario_is_one_whole_workflow(name):
    """Without a count, a scenario is one whole workflow; its name may be in capitals."""
    envelopes = printed("--scenario", name, "--seed", "3")
    types = [envelope.event_type for envelope in envelopes]
    assert types[0] == "WORKFLOW_STARTED"
    assert types.count("WORKFLOW_STARTED") == types.count("WORKFLOW_ENDED") == 1
    assert len({envelope.correlation_id for envelope in envelopes}) == 1


def test_generate_one_scenario_repeats_until_the_count():
    """With a count, workflows of the one kind follow each other."""
    envelopes = printed("--scenario", "bug_investigation", "--count", "200", "--seed", "3")
    assert len(envelopes) == 200
    starts = [e for e in envelopes if e.event_type == "WORKFLOW_STARTED"]
    assert len({envelope.correlation_id for envelope in starts}) == len(starts) > 1
    assert {b'"investigation of a bug"' in e.payload_json for e in starts} == {True}
    times = [envelope.timestamp for envelope in envelopes]
    assert times == sorted(times)


def test_generate_related_brings_the_other_families():
    """`--related` adds sessions, episodes and telemetry."""
    types = {envelope.event_type for envelope in printed("--related", "--count", "200")}
    assert {"SESSION_START", "STEP_RECORDED", "PLAN_GENERATED"} <= types


def test_generate_duration_and_rate_give_the_number():
    """`--rate` times `--duration` events are made, at that pace."""
    started = time.perf_counter()
    done = run("--dry-run", "--rate", "150", "--duration", "0.6")
    assert time.perf_counter() - started > 0.5
    assert len(done.stdout.splitlines()) == 90
    assert "asked for 150" in done.stderr


def test_generate_duration_alone_ends():
    """`--duration` ends what has no other end."""
    done = run("--dry-run", "--duration", "0.05")
    assert done.exit_code == 0
    assert done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "0"), "'--rate': '0' is no number above 0"),
        (("--rate", "nan"), "'--rate': 'nan' is no number above 0"),
        (("--duration", "-1"), "'--duration': '-1' is no number above 0"),
        (("--duration", "soon"), "'--duration': 'soon' is no number above 0"),
        (("--count", "0"), "'--count'"),
        (("--count", "9" * 30), "'--count'"),
        (("--duration", "1e300", "--rate", "1e300"), "before the year 1"),
        (("--scenario", "nap"), "'nap' is not one of"),
        (("--seed", "x"), "'--seed'"),
        (("--start", "today"), "'--start'"),
        (("--service", "Bad Topic!"), "bad topic!"),
    ],
)
def test_generate_says_in_one_line_what_is_wrong(arguments, said):
    """A bad value ends with 2 and one line that names it."""
    done = run("--dry-run", *arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert said in error


def test_generate_stops_cleanly_on_ctrl_c():
    """The first SIGINT ends it after whole lines, with the summary and exit code 0."""
    process = subprocess.Popen(
        [*SPILE, "--dry-run", "--rate", "50", "--count", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    for line in [first, *rest.splitlines()]:
        json.loads(line)
    assert "stopped by a signal" in stderr
    assert "Traceback" not in stderr


def test_generate_ends_quietly_when_the_reader_of_the_pipe_leaves():
    """`spile generate --dry-run | head` ends without a traceback."""
    process = subprocess.Popen(
        [*SPILE, "--dry-run", "--count", "20000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.fixture
def service(kafka, unique, monkeypatch):
    """A service whose observability topics are there."""
    name = unique("maker")
    settings = KafkaSettings(bootstrap_servers=kafka, environment="test")
    wanted = {
        topic: spec
        for topic, spec in default_catalogue((name,)).topics("test").items()
        if f".{name}." in topic and topic.endswith(".recorded.v1")
    }

    async def apply():
        async with KafkaAdmin(settings) as admin:
            found = await admin.describe()
            await admin.apply(plan(wanted, found, environment="test", brokers=1))
            return list(wanted)

    monkeypatch.setenv("SPILE_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("SPILE_ENVIRONMENT", "test")
    return name, settings, asyncio.run(apply())


def test_generate_publishes_every_event(service):
    """All events stand in the topics, and the summary says how many."""
    name, settings, topics = service
    done = run("--service", name, "--count", "400", "--rate", "4000", "--seed", "1")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "seed 1: 400 published, 400 acknowledged\n"
    assert "asked for 4,000" in done.stderr

    async def records():
        async with KafkaAdmin(settings) as admin:
            partitions = await admin.partitions(topics)
            return sum((await admin.end_offsets(partitions)).values())

    assert asyncio.run(records()) == 400


def test_generate_names_the_topic_that_is_missing(service):
    """Events whose topic is missing are counted out, with the reason; the others are published."""
    name, _, _ = service
    done = run("--service", name, "--count", "60", "--related", "--seed", "1")
    assert done.exit_code == 1
    published, acknowledged = (int(word) for word in done.stdout.split() if word.isdigit())
    assert 0 < acknowledged < published == 60
    assert f"test.{name}." in done.stderr
    assert "does not exist" in done.stderr
    (service,) = default_catalogue().services
    assert f"no service {name}, so" in done.stderr
    assert done.stderr.endswith(f": say --service {service}\n")
