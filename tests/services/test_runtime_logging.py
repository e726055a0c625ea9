"""Logs of a worker process."""

import io
import json
import logging

import pytest
import structlog

from spile.services.runtime import configure_logging


@pytest.fixture
def logs():
    """Configure logs into a buffer; afterwards all is as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()

    def configure(level="info", style="json"):
        configure_logging(level, style, stream=stream)
        return stream

    yield configure
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_each_log_is_one_line_of_json(logs):
    """Facts are keys, and a line break in a value does not make a line."""
    stream = logs()

    structlog.get_logger("spile.test").warning("handler failed", topic="a\nb", offset=3)

    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["topic"], entry["offset"]) == ("handler failed", "a\nb", 3)
    assert (entry["level"], entry["logger"]) == ("warning", "spile.test")
    assert entry["timestamp"].endswith("Z")


def test_logs_of_libraries_look_the_same(logs):
    """A stdlib logger, such as aiokafka's, goes through the same renderer."""
    stream = logs()

    logging.getLogger("aiokafka.client").warning("lost %s", "node 1")

    entry = json.loads(stream.getvalue())
    assert (entry["event"], entry["logger"]) == ("lost node 1", "aiokafka.client")


def test_client_never_logs_at_debug(logs):
    """At DEBUG aiokafka writes passwords, so it stays at INFO."""
    stream = logs("debug")

    logging.getLogger("aiokafka.conn").debug("SaslAuthenticateRequest s3cr3t")
    structlog.get_logger("spile.test").debug("seen")

    assert "s3cr3t" not in stream.getvalue()
    assert "seen" in stream.getvalue()


def test_level_holds(logs):
    """What is below the level is not written."""
    stream = logs("warning")

    structlog.get_logger("spile.test").info("quiet")

    assert stream.getvalue() == ""


def test_console_is_for_people(logs):
    """The console style is no JSON."""
    stream = logs(style="console")

    structlog.get_logger("spile.test").info("worker reads", group="persistence")

    assert "worker reads" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def fail(text):
    """Raise an error with a text."""
    raise ValueError(text)


def test_no_secret_is_written(logs):
    """Not in a fact, a nested one, a name, a library's line, an object's text, or a traceback."""
    stream = logs("debug")
    secret = "AKIAIOSFODNN7EXAMPLE"

    log = structlog.get_logger("spile.test")
    log.debug("seen", text=f"x {secret}", deep={"a": [{"password": "hunter2"}]}, **{secret: 1})
    log.debug(secret, token="hunter2", error=ValueError(f"token={secret}"))
    logging.getLogger("aiokafka.client").warning("lost %s", secret)
    try:
        fail(f"cannot log in: password=hunter2 {secret}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("other").exception("also failed")

    assert stream.getvalue().count("\n") == 5
    assert "Traceback" in stream.getvalue()
    assert secret not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_what_cannot_be_inspected_is_not_logged(logs):
    """A fact that is nested too deep goes, the line stays."""
    stream = logs()
    deep = "AKIAIOSFODNN7EXAMPLE"
    for _ in range(100):
        deep = [deep]

    structlog.get_logger("spile.test").info("deep", fact=deep)

    assert json.loads(stream.getvalue())["fact"] == "REDACTED"
    assert json.loads(stream.getvalue())["event"] == "deep"


def test_console_lines_hold_no_secret_either(logs):
    """The text for people goes the same way."""
    stream = logs(style="console")

    try:
        fail("token=hunter2")
    except ValueError:
        structlog.get_logger("spile.test").exception("failed", password="hunter3")

    assert "Traceback" in stream.getvalue()
    assert "hunter" not in stream.getvalue()
