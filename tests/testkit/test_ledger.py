"""The ledger must see every anomaly that is planted, and none in a clean history."""

import pytest

from spile.testkit.ledger import History, Observation, Outcome, Seen, check, read_history

TOPIC = "dev.t.d.a.v1"


@pytest.fixture
def clean(tmp_path):
    """A history of 50 acknowledged events over five keys, and the rows that a sink holds of it."""
    history = History(tmp_path / "writer.jsonl")
    rows = []
    for number in range(50):
        event_id, key, seq = f"e{number}", f"k{number % 5}", number // 5
        history.note(Outcome.INVOKE, event_id, key=key, seq=seq)
        history.note(
            Outcome.OK, event_id, key=key, seq=seq, topic=TOPIC, partition=0, offset=number
        )
        rows.append(Seen(event_id, key, seq, TOPIC, 0, number))
    return tmp_path, history, rows


def judge(folder, rows, *, committed=50, minimum=50, **options):
    observation = Observation(sink="db", rows=rows, committed={(TOPIC, 0): committed}, **options)
    return check(read_history(folder), [observation], min_acknowledged=minimum)


def test_a_clean_run_is_valid(clean):
    """Nothing planted, nothing found."""
    folder, _, rows = clean
    verdict = judge(folder, rows)
    assert verdict.valid, verdict
    assert verdict.acknowledged == 50
    assert "lost 0, doubled 0, reordered 0" in str(verdict)


def test_a_missing_row_below_the_offset_is_lost(clean):
    """The sink has read past it and does not have it."""
    folder, _, rows = clean
    assert judge(folder, rows[:20] + rows[21:]).anomalies == {"lost:db": 1}


def test_a_missing_row_above_the_offset_is_unseen(clean):
    """The sink lags: not lost, but not done either."""
    folder, _, rows = clean
    assert judge(folder, rows[:48], committed=48).anomalies == {"unseen:db": 2}


def test_a_dead_letter_is_not_lost(clean):
    """What went to the dead letter queue is accounted for."""
    folder, _, rows = clean
    assert judge(folder, rows[:20] + rows[21:], dead=frozenset({"e20"})).valid


def test_a_repeated_row_is_a_duplicate(clean):
    """Twice in a store is an anomaly, twice on the bus is not."""
    folder, _, rows = clean
    assert judge(folder, [*rows, rows[3]]).anomalies == {"duplicate:db": 1}
    assert judge(folder, [*rows, rows[3]], repeats=True).valid


def test_a_row_that_nobody_sent_is_a_phantom(clean):
    """Made-up events are found."""
    folder, _, rows = clean
    extra = Seen("nobody", "k9", 0, TOPIC, 0, 99)
    assert judge(folder, [*rows, extra]).anomalies == {"phantom:db": 1}


def test_a_failed_call_that_arrives_is_an_aborted_read(clean):
    """`fail` means provably not sent."""
    folder, history, rows = clean
    history.note(Outcome.INVOKE, "f", key="k9", seq=0)
    history.note(Outcome.FAIL, "f", key="k9", seq=0, error="breaker open")
    assert judge(folder, rows).valid
    extra = Seen("f", "k9", 0, TOPIC, 0, 99)
    assert judge(folder, [*rows, extra]).anomalies == {"aborted_read:db": 1}


def test_an_indefinite_call_may_arrive_once(clean):
    """Absent or present is fine, twice is not."""
    folder, history, rows = clean
    history.note(Outcome.INVOKE, "i", key="k9", seq=0)
    history.note(Outcome.INFO, "i", key="k9", seq=0, error="timeout")
    extra = Seen("i", "k9", 0, TOPIC, 0, 99)
    assert judge(folder, rows).valid
    assert judge(folder, [*rows, extra]).valid
    assert judge(folder, [*rows, extra, extra]).anomalies == {"duplicate:db": 1}


def test_two_swapped_rows_of_a_key_are_reordered(clean):
    """Order counts per key only."""
    folder, _, rows = clean
    rows[0], rows[5] = rows[5], rows[0]
    assert judge(folder, rows).anomalies == {"reordered:db": 1}
    rows[0], rows[5] = rows[5], rows[0]
    rows[0], rows[1] = rows[1], rows[0]
    assert judge(folder, rows).valid


def test_one_position_with_two_ids_is_divergent(clean):
    """The log names one value per offset."""
    folder, _, rows = clean
    rows[7] = rows[7]._replace(offset=8)
    assert "divergent" in judge(folder, rows).anomalies


def test_too_little_is_vacuous(clean):
    """A run in which nothing happened proves nothing."""
    folder, _, rows = clean
    assert judge(folder, rows, minimum=2000).anomalies == {"vacuous": 1}
    verdict = check(read_history(folder), [], min_acknowledged=1, min_faults=5, faults_seen=4)
    assert verdict.anomalies == {"vacuous": 1}


def test_a_torn_last_line_is_dropped_and_damage_in_the_middle_is_not(clean):
    """A kill tears the end; anything else is damage."""
    folder, history, rows = clean
    history.close()
    path = folder / "writer.jsonl"
    path.write_bytes(path.read_bytes() + b'{"outcome":"ok","eve')
    assert judge(folder, rows).valid
    path.write_bytes(path.read_bytes().replace(b'"outcome"', b'"outc', 1))
    with pytest.raises(ValueError, match=r"writer\.jsonl:1"):
        read_history(folder)
