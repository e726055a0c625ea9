"""The programs of the README and of the guides for subscribers and requests work as they stand."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spile.testkit.broker import EmbeddedBroker

ROOT = Path(__file__).parents[2]


def programs(page):
    """Each program of a page by the name that its first line gives."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL))


class Shell:
    """A folder with the programs, and what they say."""

    def __init__(self, folder, bootstrap):
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SPILE_")},
            "SPILE_BOOTSTRAP_SERVERS": bootstrap,
            "SPILE_CATALOGUE": "orders:catalogue",
            "PYTHONPATH": str(folder),
        }

    def start(self, *command):
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command):
        with self.start(*command) as process:
            said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        return said


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """All programs, in the folder in which a reader would have put them."""
    folder = tmp_path_factory.mktemp("guide")
    for page in ("README.md", "docs/subscribing.md", "docs/requests.md"):
        for name, text in programs(page).items():
            (folder / name).write_text(text, encoding="utf-8")
    with EmbeddedBroker() as broker:
        made = Shell(folder, broker.bootstrap_servers)
        made.run(str(Path(sys.executable).parent / "spile"), "topics", "apply")
        made.run(sys.executable, "orders.py")
        yield made


@pytest.mark.kafka
def test_subscribers_handle_what_was_published_and_end_on_sigterm(shell):
    """Messages, batches and commits by hand: each handles the order once, and ends with 0."""
    wanted = {
        "messages.py": "billed: o-1 9.5",
        "batches.py": "stored: 1",
        "by_hand.py": "uploaded: 1",
    }
    assert wanted.keys() == programs("docs/subscribing.md").keys()
    with contextlib.ExitStack() as stack:
        running = {}
        for name in wanted:
            process = stack.enter_context(shell.start(sys.executable, name))
            limit = threading.Timer(60, process.kill)
            stack.callback(limit.cancel)
            limit.start()
            running[name] = process
        for name, line in wanted.items():
            lines = iter(running[name].stdout.readline, "")
            said = [next((found for found in lines if line in found), "nothing")]
            assert said == [f"{line}\n"], name
        for name, process in running.items():
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0, said
            assert "Traceback" not in said
            assert wanted[name] not in said, "handled twice"
    with contextlib.closing(sqlite3.connect(shell.folder / "reports.db")) as database:
        assert database.execute("SELECT total FROM orders").fetchall() == [(9.5,)]


@pytest.mark.kafka
def test_a_request_is_answered_as_the_guide_says(shell):
    """One program asks, the other answers, and ends with 0 on SIGTERM."""
    with shell.start(sys.executable, "answering.py") as process:
        limit = threading.Timer(60, process.kill)
        limit.start()
        try:
            assert "patterns: 0\n" in shell.run(sys.executable, "asking.py")
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate()
            assert process.returncode == 0, said
            assert "Traceback" not in said
        finally:
            limit.cancel()
            process.kill()


@pytest.mark.kafka
def test_a_trio_of_ones_own_works_as_the_guide_says(shell):
    """Its topics are made from its catalogue; an answer and a failure arrive."""
    spile = str(Path(sys.executable).parent / "spile")
    shell.run("env", "SPILE_CATALOGUE=prices:catalogue", spile, "topics", "apply")
    said = shell.run(sys.executable, "prices.py").splitlines()
    assert "salt: 2.5" in said
    assert "UNKNOWN_ITEM: no gold here" in said


def test_every_snippet_of_a_guide_says_what_it_needs():
    """The guides for subscribers use no name that they neither import nor define."""
    for page in ("docs/subscribing.md", "docs/retries.md", "docs/requests.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            checked = subprocess.run(
                [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", "-"],
                input=block,
                capture_output=True,
                text=True,
                check=False,
            )
            assert checked.returncode == 0, f"{page}: {checked.stdout}"
