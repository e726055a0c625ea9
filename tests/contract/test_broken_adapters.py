"""The suite finds what is broken, and says what: each broken bus fails the tests that name it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def failed_tests(tmp_path):
    """Run the suite as a user does, outside of this project, and return the tests that failed."""

    def run(bus):
        command = [sys.executable, "-m", "pytest", "--pyargs", "spile.testkit.conformance"]
        options = ["--spile-bus", bus, "-p", "no:cacheprovider", "--tb=line", "-q", "-rfEs"]
        done = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HERE)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        told = re.findall(r"^(FAILED|ERROR|SKIPPED) \S*?::(\w+)", done.stdout, re.MULTILINE)
        assert {kind for kind, _ in told} <= {"FAILED"}, done.stdout
        assert done.returncode == bool(told), done.stdout + done.stderr
        return {name for _, name in told}

    return run


UNHANDLED = {
    "test_failed_message_is_tried_again",
    "test_spent_retries_end_in_the_dead_letter_queue",
    "test_poison_reaches_the_dead_letter_queue_byte_for_byte",
    "test_dead_letter_keeps_the_headers_that_came",
    "test_neighbours_of_poison_go_on",
}
BREAKER = {
    "test_breaker_opens",
    "test_breaker_lets_one_probe_through",
    "test_breaker_closes",
}
BROKEN = {
    "CommitsBeforeHandling": {
        "test_nothing_is_committed_before_it_is_handled",
        "test_message_without_ack_comes_again",
        "test_message_without_ack_goes_to_the_next_member",
        *UNHANDLED,
    },
    "SwallowsTheError": UNHANDLED,
    "DropsHeaders": {
        "test_given_headers_arrive",
        "test_headers_survive_byte_for_byte",
        "test_headers_survive_byte_for_byte_in_batches",
        "test_dead_letter_keeps_the_headers_that_came",
    },
    "IgnoresTheKey": {"test_one_key_keeps_its_order"},
    "SaysTrueWithoutSending": {
        "test_true_means_that_the_event_is_in_the_log",
        "test_ids_arrive",
        "test_publisher_close_flushes",
        "test_failure_is_false_and_no_dead_letter",
    },
    "BreakerNeverOpens": BREAKER,
    "PublishesInTheBackground": {"test_bus_has_the_shape_of_its_contract"},
}
FOLLOWS = {
    "IgnoresTheKey": {"test_slow_handler_keeps_its_place", "test_members_of_a_group_share"},
    "SaysTrueWithoutSending": BREAKER
    | {
        "test_success_begins_the_count_anew",
        "test_refusals_do_not_count_for_the_breaker",
        "test_partition_key_is_the_key",
        "test_unknown_topic_refuses_an_event",
        "test_oversized_event_is_refused",
        "test_metrics_count",
    },
}


@pytest.mark.parametrize(("bus", "expected"), BROKEN.items(), ids=BROKEN)
def test_broken_bus_fails_the_right_tests(failed_tests, bus, expected):
    """What is broken fails the tests that name it, and none but those that build on it."""
    failed = failed_tests(f"broken_buses:{bus}")
    assert failed >= expected
    assert failed - expected <= FOLLOWS.get(bus, set())


def test_sound_bus_passes(failed_tests):
    """The bus that the broken ones are made of passes all tests."""
    assert failed_tests("broken_buses:Sound") == set()
