"""The generator of workflows: causal order, repeatable, valid, lifelike."""

import itertools
import math
import statistics
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from spile.testkit.scenarios import (
    PLANS,
    GeneratedEvent,
    MockEventGenerator,
    RelatedEvent,
    WorkflowScenario,
    generate_sample_events,
    with_related,
)
from spile.testkit.scenarios._tools import TOOLS
from spile.topics import default_catalogue, upper_snake
from spile.topics.events import EVENT_MODELS, TELEMETRY_MODELS, ObservabilityEvent

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
        ends = ("WORKFLOW_STARTED", "WORKFLOW_ENDED")
        assert [one.event_type for one in made if one.event_type in ends] == list(ends)
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


def test_scenario_nodes_come_after_their_dependencies():
    """A node starts when all that it waits for are done, and is done or failed once."""
    for scenario in WorkflowScenario:
        for seed in SEEDS:
            done = []
            for one in workflow(scenario, seed):
                event = one.event
                if one.event_type == "NODE_EXECUTING":
                    assert event.dependencies_satisfied == done
                    running = event.node_id
                if one.event_type in {"NODE_COMPLETED", "NODE_FAILED"}:
                    assert event.node_id == running
                    done.append(event.node_id)
            planned = [node.node_id for node in PLANS[scenario].nodes]
            assert done == planned[: len(done)]


def test_scenario_what_stops_goes_on():
    """Paused workflows and agents are resumed before anything else of theirs happens."""
    follower = {"WORKFLOW_PAUSED": "WORKFLOW_RESUMED", "AGENT_PAUSED": "AGENT_RESUMED"}
    seen = Counter()
    for scenario in WorkflowScenario:
        for seed in range(60):
            for before, after in itertools.pairwise(workflow(scenario, seed)):
                if before.event_type in follower:
                    seen[before.event_type] += 1
                    assert after.event_type == follower[before.event_type]
    assert set(seen) == set(follower)


def test_scenarios_make_every_kind_of_observability_event():
    """All 29 observability events occur."""
    seen = {one.event.event_type for one in traffic(2, 25_000)}
    assert seen == set(EVENT_MODELS)


def test_scenario_sizes_are_lifelike():
    """The median event has 400 to 900 bytes of JSON; some results have many KB and are cut."""
    made = traffic(4, 6_000)
    sizes = [len(one.event.model_dump_json()) for one in made]
    assert 400 < statistics.median(sizes) < 900
    assert max(sizes) > 15_000
    cut = [call for call in of_type(made, "PostToolUse") if call.result_truncated]
    assert cut
    for call in cut:
        assert len(call.result["text"]) == 16_384 < call.full_result_size


def test_scenario_durations_are_log_normal():
    """The logarithms of a tool's durations are symmetric about the median of its profile."""
    profile = TOOLS["Read"]
    took = [
        math.log(call.execution_time_ms)
        for call in of_type(traffic(6, 12_000), "PostToolUse")
        if call.tool_name == "Read"
    ]
    assert len(took) > 500
    assert statistics.mean(took) == pytest.approx(math.log(profile.median_ms), abs=0.15)
    assert statistics.stdev(took) == pytest.approx(profile.spread, abs=0.1)


def test_scenario_embeddings_come_when_asked_for():
    """With `embeddings`, texts come with 1536 numbers; the same seed gives the same ones."""

    def asked(*, embeddings):
        generator = MockEventGenerator(seed=2, start=START, embeddings=embeddings)
        made = list(generator.generate_workflow(WorkflowScenario.CODE_REVIEW))
        return [one.query_embedding for one in of_type(made, "SemanticQuery")]

    assert {len(one) for one in asked(embeddings=True)} == {1536}
    assert asked(embeddings=True) == asked(embeddings=True)
    assert set(asked(embeddings=False)) == {None}


def test_related_events_repeat_and_keep_causes_and_times():
    """Related events are the same each time; causes are earlier events of the same workflow."""
    made = list(with_related(traffic(5, 3_000)))
    again = list(with_related(traffic(5, 3_000)))
    assert [one.event.model_dump_json() for one in made] == [
        one.event.model_dump_json() for one in again
    ]
    times = [one.timestamp for one in made]
    assert times == sorted(times)
    seen = set()
    for one in made:
        assert one.causation_id is None or one.causation_id in seen
        assert one.event_id not in seen
        seen.add(one.event_id)


def test_related_events_leave_the_others_as_they_are():
    """Without the related events the traffic is what it was."""
    made = with_related(traffic(5, 2_000))
    assert [one for one in made if isinstance(one, GeneratedEvent)] == traffic(5, 2_000)


def test_related_events_are_of_all_families_and_valid_for_the_catalogue():
    """Sessions, episodes and all ten core telemetry events occur, and keep their contracts."""
    catalogue = default_catalogue()
    kinds = set()
    for one in with_related(traffic(3, 4_000)):
        if not isinstance(one, RelatedEvent):
            continue
        outgoing = one.outgoing()
        route = catalogue.resolve(outgoing.event_type, environment="dev", service="agent")
        prepared = route.contract.prepare(outgoing.payload)
        assert prepared.event_id in {None, outgoing.event_id}
        assert prepared.correlation_id == outgoing.correlation_id
        kinds.add(one.event_type)
    families = {"SESSION_START", "SESSION_END", "EPISODE_STATUS_CHANGED", "STEP_RECORDED"}
    assert kinds == families | {upper_snake(name) for name in TELEMETRY_MODELS}


def test_related_episode_has_steps_without_holes_and_ends_as_its_workflow():
    """Steps count from 0 without holes; the episode ends with the status of the workflow."""
    for seed in range(20):
        made = list(with_related(workflow(WorkflowScenario.BUG_INVESTIGATION, seed)))
        steps = [one.event.step for one in made if one.event_type == "STEP_RECORDED"]
        assert [step.sequence for step in steps] == list(range(len(steps)))
        episodes = [one.event for one in made if one.event_type == "EPISODE_STATUS_CHANGED"]
        (ended,) = [one.event for one in made if one.event_type == "WORKFLOW_ENDED"]
        assert [one.episode.status for one in episodes] == ["running", ended.status]
        sessions = [one for one in made if one.event_type.startswith("SESSION")]
        assert [one.event_type for one in sessions] == ["SESSION_START", "SESSION_END"]
        assert sessions[0].event.event_id == sessions[1].event.session_id


def test_generate_sample_events_gives_the_asked_number():
    """`generate_sample_events` gives models, as many as asked for, of several kinds of work."""
    events = generate_sample_events(500, seed=1)
    assert len(events) == 500
    assert all(isinstance(event, ObservabilityEvent) for event in events)
    assert len({event.workflow_name for event in events if hasattr(event, "workflow_name")}) > 2
    again = generate_sample_events(500, seed=1)
    assert [event.event_id for event in events] == [event.event_id for event in again]
    assert generate_sample_events(0) == []
    with pytest.raises(ValueError, match="0 or more, got -1"):
        generate_sample_events(-1)


def test_generate_workflow_scenario_gives_the_models_alone():
    """`generate_workflow_scenario` is an iterator over the models of one workflow."""
    generator = MockEventGenerator(seed=2, start=START)
    events = list(generator.generate_workflow_scenario(WorkflowScenario.SECURITY_AUDIT))
    again = MockEventGenerator(seed=2, start=START).generate_workflow(
        WorkflowScenario.SECURITY_AUDIT
    )
    assert events == [made.event for made in again]
    named = MockEventGenerator(seed=2, start=START).generate_workflow_scenario("security_audit")
    assert list(named) == events
    with pytest.raises(ValueError, match="WorkflowScenario"):
        generator.generate_workflow_scenario("tea_break")
