"""`spile demo` from outside: what it counts, and that nothing is left of it."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from spile.services.persistence import EventFilter, SqliteEventStore
from spile.testkit.broker import EmbeddedBroker, cluster_view

pytestmark = pytest.mark.kafka

_LIMIT_S = 90


@pytest.fixture
def start(tmp_path):
    """Start the command with a temporary folder of its own; it is ended with the test."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments, **variables):
            environment = {
                name: value
                for name, value in os.environ.items()
                if name not in {"SPILE_BOOTSTRAP_SERVERS", "SPILE_STORE", "SPILE_HTTP_PORT"}
            }
            process = subprocess.Popen(
                [sys.executable, "-c", _SPILE, "demo", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=tmp_path,
                env={**environment, "TMPDIR": str(tmp_path), **variables},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


_SPILE = "from spile.services.command import main; main()"


def left_over(folder: Path) -> tuple[list[str], list[str]]:
    """What is in the folder, and which processes have it as their temporary folder."""
    mark = f"TMPDIR={folder}\0".encode()
    processes = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environ.read_bytes():
                processes.append((environ.parent / "cmdline").read_text().replace("\0", " "))
    return sorted(path.name for path in folder.iterdir()), processes


def text_at(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def wait_for(process, pattern: str) -> str:
    """Read the output up to a line that fits; give all of it."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return "".join(lines)
    raise AssertionError(f"no line like {pattern!r} in:\n{''.join(lines)}")


def test_demo_counts_agree_and_nothing_is_left(start, tmp_path):
    """All that was published is acknowledged and stored once; no process and no file is left."""
    process = start("--seconds", "2", "--seed", "4", "--json", "summary.json")
    output, _ = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 0, output
    facts = json.loads((tmp_path / "summary.json").read_text())
    assert facts["generated"] == 400
    assert facts["imported"] > 50
    assert facts["published"] == facts["imported"] + facts["generated"]
    assert facts["published"] == facts["acknowledged"] == facts["persisted"]
    assert (facts["lost"], facts["duplicated"], facts["failures"]) == (0, 0, {})
    assert (facts["archived"], facts["archive_findings"]) == (facts["acknowledged"], [])
    assert sum(facts["event_types"].values()) == facts["persisted"]
    calls = sum(tool["count"] for tool in facts["tools"])
    assert calls == facts["event_types"]["POST_TOOL_USE"]
    for spread in facts["latency_ms"].values():
        assert spread["count"] == facts["generated"]
        assert 0 < spread["p50"] <= spread["p95"] <= spread["longest"]
    acknowledged, persisted = facts["latency_ms"].values()
    assert acknowledged["p50"] < persisted["p50"]
    assert facts["seed"] == 4
    assert left_over(tmp_path) == (["summary.json"], [])


def test_demo_is_plain_where_there_is_no_terminal(start):
    """Into a pipe it prints the steps and the summary without control sequences."""
    process = start("--seconds", "0.5")
    output, _ = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 0, output
    assert "\x1b" not in output
    for expected in ("Kafka", "topics", "archiver ready", "recorded session", "lost", "Read"):
        assert expected in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_cleans_up_when_it_is_stopped(start, tmp_path, number):
    """Stopped in the middle of the traffic it ends broker and worker and deletes its folders."""
    process = start("--seconds", "120")
    wait_for(process, "recorded session .* imported")
    process.send_signal(number)
    output, _ = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert left_over(tmp_path) == ([], [])


def test_demo_killed_leaves_no_process(start, tmp_path):
    """Killed without a chance to clean up, its broker and its worker end all the same."""
    process = start("--seconds", "120")
    wait_for(process, "recorded session .* imported")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(left_over(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_over(tmp_path) == ([], [])


async def test_demo_stays_until_ctrl_c(start, tmp_path):
    """With --stay store and metrics can be looked at while agents work; Ctrl-C ends it with 0."""
    process = start("--seconds", "0.5", "--stay", "--json", "summary.json")
    output = wait_for(process, "spile import FILE")
    store = re.search(r"SPILE_STORE=(\S+)", output)[1]
    metrics = re.search(r"curl (\S+)", output)[1]
    async with SqliteEventStore(Path(store), read_only=True) as opened:
        assert await opened.count(EventFilter()) >= 150
    assert "spile_store_records_total" in await asyncio.to_thread(text_at, metrics)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 0, rest
    facts = json.loads((tmp_path / "summary.json").read_text())
    assert facts["published"] == facts["persisted"] >= 168
    assert left_over(tmp_path) == (["summary.json"], [])


async def test_demo_uses_the_given_kafka_and_keeps_data(start, tmp_path):
    """SPILE_BOOTSTRAP_SERVERS is used and left running; --keep-data leaves the store."""
    with EmbeddedBroker() as broker:
        process = start(
            "--seconds",
            "0.5",
            "--keep-data",
            "--json",
            "summary.json",
            SPILE_BOOTSTRAP_SERVERS=broker.bootstrap_servers,
        )
        output, _ = process.communicate(timeout=_LIMIT_S)
        assert process.returncode == 0, output
        assert cluster_view(broker.bootstrap_servers) is not None
    facts = json.loads((tmp_path / "summary.json").read_text())
    assert facts["places"]["bootstrap_servers"] == broker.bootstrap_servers
    async with SqliteEventStore(Path(facts["places"]["store"]), read_only=True) as store:
        assert await store.count(EventFilter()) == facts["persisted"]


def test_demo_refuses_wrong_settings_before_it_starts_anything(start, tmp_path):
    """A wrong SPILE_* variable is one readable line, and nothing was started."""
    process = start("--seconds", "1", SPILE_SESION_TIMEOUT_MS="1")
    output, _ = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 1
    assert "SPILE_SESION_TIMEOUT_MS" in output
    assert "Kafka 4" not in output
    assert left_over(tmp_path) == ([], [])
