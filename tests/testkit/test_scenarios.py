"""The generator of workflows: causal order, repeatable, valid, lifelike."""

import itertools
import statistics
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from spile.testkit.scenarios import (
    PLANS,
    MockEventGenerator,
    WorkflowScenario,
    generate_sample_events,
)
from spile.topics import default_catalogue
from spile.topics.events import ObservabilityEvent

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SEEDS = range(12)
each_scenario = pytest.mark.parametrize("scenario", list(WorkflowScenario))


def workflow(scenario, seed):
    return list(MockEventGenerator(seed=seed, start=START).generate_workflow(scenario))


def traffic(seed, count, *, start=START):
    made = MockEventGenerator(seed=seed, start=start).generate_traffic()
    return list(itertools.islice(made, count))


def of_type(made, event_type):
    return [one.event for one in made if one.event.event_type == event_type]


def test_scenarios_have_the_known_names():
    """There are six kinds of work, each with a plan."""
    names = {scenario.name for scenario in WorkflowScenario}
    assert names == {
        "CODE_REVIEW",
        "FEATURE_DEVELOPMENT",
        "BUG_INVESTIGATION",
        "PERFORMANCE_OPTIMIZATION",
        "SECURITY_AUDIT",
        "DOCUMENTATION_UPDATE",
    }
    assert set(PLANS) == set(WorkflowScenario)


@each_scenario
def test_scenario_every_event_follows_from_an_earlier_one(scenario):
    """The first event has no cause; every other names one that came before it, in time too."""
    for seed in SEEDS:
        made = workflow(scenario, seed)
        times = {}
        for one in made:
            if not times:
                assert one.causation_id is None
            else:
                assert times[one.causation_id] <= one.event.timestamp
            times[one.event.event_id] = one.event.timestamp
        assert len(times) == len(made)


@each_scenario
def test_scenario_is_one_whole_workflow(scenario):
    """A workflow starts, ends once, and all its events share workflow, session and correlation."""
    for seed in SEEDS:
        made = workflow(scenario, seed)
        assert made[0].event_type == "WORKFLOW_STARTED"
        assert [one.event_type for one in made if one.event_type.startswith("WORKFLOW")] == [
            "WORKFLOW_STARTED",
            "WORKFLOW_ENDED",
        ]
        assert {one.event.workflow_id for one in made} == {made[0].event.workflow_id}
        assert {one.event.session_id for one in made} == {made[0].event.session_id}
        assert {one.correlation_id for one in made} == {made[0].correlation_id}
        assert {one.event.metadata.correlation_id for one in made} == {made[0].correlation_id}


@each_scenario
def test_scenario_every_call_has_its_answer(scenario):
    """A PreToolUse is followed by the PostToolUse of the same tool, which it caused."""
    for seed in SEEDS:
        made = workflow(scenario, seed)
        for before, after in itertools.pairwise(made):
            if before.event_type != "PRE_TOOL_USE":
                continue
            assert after.event_type == "POST_TOOL_USE"
            assert after.causation_id == before.event.event_id
            assert after.event.tool_name == before.event.tool_name
            took_ms = (after.event.timestamp - before.event.timestamp) / timedelta(milliseconds=1)
            assert took_ms == pytest.approx(after.event.execution_time_ms + 1, abs=0.01)


def test_scenario_failures_are_recovered_from():
    """A failed call leads to FailureDetected, RecoveryInitiated, a new try, RecoveryCompleted."""
    made = list(
        itertools.chain.from_iterable(
            workflow(scenario, seed) for scenario in WorkflowScenario for seed in range(30)
        )
    )
    counts = Counter(one.event_type for one in made)
    assert counts["FAILURE_DETECTED"] > 20
    assert (
        counts["FAILURE_DETECTED"] == counts["RECOVERY_INITIATED"] == counts["RECOVERY_COMPLETED"]
    )
    causes = {one.event.event_id: one for one in made}
    for one in made:
        if one.event_type == "FAILURE_DETECTED":
            assert causes[one.causation_id].event.success is False
        if one.event_type == "RECOVERY_INITIATED":
            assert one.event.trigger_failure == str(one.causation_id)
            assert causes[one.causation_id].event_type == "FAILURE_DETECTED"
        if one.event_type == "RECOVERY_COMPLETED":
            last_try = causes[one.causation_id].event
            assert last_try.retry_count >= 1
            assert one.event.success is last_try.success


def test_scenario_that_cannot_recover_ends_as_failed():
    """A node fails when its recovery does, and with it the workflow."""
    ends = set()
    for seed in range(150):
        made = workflow(WorkflowScenario.BUG_INVESTIGATION, seed)
        gave_up = any(not event.success for event in of_type(made, "RecoveryCompleted"))
        assert bool(of_type(made, "NodeFailed")) is gave_up
        (ended,) = of_type(made, "WorkflowEnded")
        assert ended.status == ("failed" if gave_up else "completed")
        ends.add(ended.status)
    assert ends == {"completed", "failed"}


def test_scenario_events_repeat_with_the_seed():
    """The same seed and start give the same events to the byte, ids included; another seed not."""
    first, again = traffic(7, 600), traffic(7, 600)
    assert [one.event.model_dump_json() for one in first] == [
        one.event.model_dump_json() for one in again
    ]
    assert [one.causation_id for one in first] == [one.causation_id for one in again]
    other = {one.event.event_id for one in traffic(8, 600)}
    assert not other & {one.event.event_id for one in first}


def test_scenario_times_move_with_the_start():
    """Another start moves every time by the same amount and changes no id."""
    moved = traffic(7, 300, start=START + timedelta(days=2))
    for one, other in zip(traffic(7, 300), moved, strict=True):
        assert other.event.event_id == one.event.event_id
        assert other.event.timestamp - one.event.timestamp == timedelta(days=2)


def test_scenario_workflows_read_by_turns_do_not_disturb_each_other():
    """Two workflows of one generator are the same, read by turns or one after the other."""

    def both():
        generator = MockEventGenerator(seed=5, start=START)
        return [generator.generate_workflow(WorkflowScenario.CODE_REVIEW) for _ in range(2)]

    one, two = both()
    by_turns = list(itertools.zip_longest(one, two))
    assert [made for made, _ in by_turns if made] == list(both()[0])
    assert [made for _, made in by_turns if made] == list(both()[1])


def test_scenario_events_are_valid_for_the_catalogue():
    """Every event has a topic, and its contract takes it as it stands and read back from JSON."""
    catalogue = default_catalogue()
    for one in traffic(3, 3_000):
        outgoing = one.outgoing()
        route = catalogue.resolve(outgoing.event_type, environment="dev", service="agent")
        prepared = route.contract.prepare(outgoing.payload)
        assert prepared.event_id == str(one.event.event_id)
        assert prepared.correlation_id == outgoing.correlation_id
        assert prepared.key == str(one.event.session_id)
        assert ObservabilityEvent.parse(prepared.payload_json) == one.event


def test_scenario_traffic_is_in_the_order_of_time_and_interleaved():
    """Traffic never goes back in time, and several workflows are under way at once."""
    made = traffic(3, 2_000)
    times = [one.event.timestamp for one in made]
    assert times == sorted(times)
    changes = sum(
        before.correlation_id != after.correlation_id for before, after in itertools.pairwise(made)
    )
    assert changes > len(made) / 4


def test_scenario_durations_and_failures_are_lifelike():
    """Reading is quick, tests take seconds; tests fail more often than reading; results vary."""
    calls = of_type(traffic(11, 12_000), "PostToolUse")

    def of_tool(name):
        return [call for call in calls if call.tool_name == name]

    def median_ms(name):
        return statistics.median(call.execution_time_ms for call in of_tool(name))

    def failed(name):
        return statistics.mean(not call.success for call in of_tool(name))

    assert 8 < median_ms("Read") < 25
    assert 4_000 < median_ms("run_tests") < 10_000
    assert failed("Read") < 0.06 < failed("run_tests") < 0.3
    sizes = [len(call.result["text"]) for call in of_tool("Read") if call.success]
    assert max(sizes) > 10 * min(sizes)


def test_generate_sample_events_gives_the_asked_number():
    """`generate_sample_events` gives models, as many as asked for, of several kinds of work."""
    events = generate_sample_events(500, seed=1)
    assert len(events) == 500
    assert all(isinstance(event, ObservabilityEvent) for event in events)
    assert len({event.workflow_name for event in events if hasattr(event, "workflow_name")}) > 2
    again = generate_sample_events(500, seed=1)
    assert [event.event_id for event in events] == [event.event_id for event in again]
    assert generate_sample_events(0) == []


def test_generate_workflow_scenario_gives_the_models_alone():
    """`generate_workflow_scenario` is an iterator over the models of one workflow."""
    generator = MockEventGenerator(seed=2, start=START)
    events = list(generator.generate_workflow_scenario(WorkflowScenario.SECURITY_AUDIT))
    again = MockEventGenerator(seed=2, start=START).generate_workflow(
        WorkflowScenario.SECURITY_AUDIT
    )
    assert events == [made.event for made in again]
