"""OpenTelemetry GenAI spans: made of events, read from real tracers and from OTLP."""

import math
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes, exception_attributes
from opentelemetry.trace import SpanKind, Status, StatusCode

from spile.spi import InvalidEventError
from spile.testkit.scenarios import MockEventGenerator, WorkflowScenario
from spile.topics import correlation_uuid
from spile.topics.events import (
    AgentCapabilityUtilizedEvent,
    AgentStartedEvent,
    AgentStoppedEvent,
    EventMetadata,
    FailureDetectedEvent,
    PerformanceMetrics,
    PostToolUseEvent,
    PreToolUseEvent,
    SemanticQueryEvent,
    WorkflowEndedEvent,
    WorkflowStartedEvent,
)
from spile.topics.interop import (
    Span,
    SpanEvent,
    from_span,
    spans_from_otlp,
    spans_to_otlp,
    to_spans,
    write_otlp,
)

T0 = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
WORKFLOW, AGENT, SESSION, CORRELATION = (
    UUID(f"0190c8a0-0000-7000-8000-00000000000{n}") for n in range(1, 5)
)
TRACE, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
COMMON = {
    "workflow_id": WORKFLOW,
    "agent_id": AGENT,
    "session_id": SESSION,
    "metadata": EventMetadata(correlation_id=CORRELATION, source_service="agent"),
}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def at(ms):
    return T0 + timedelta(milliseconds=ms)


def run():
    """Return the events of a whole small run: a call, a failed call with a failure, a query."""
    return [
        WorkflowStartedEvent(
            timestamp=at(0),
            workflow_name="review",
            workflow_definition={"goal": "x"},
            priority="low",
            **COMMON,
        ),
        AgentStartedEvent(timestamp=at(1), agent_name="reviewer", agent_type="r", **COMMON),
        PreToolUseEvent(
            timestamp=at(2),
            tool_name="Read",
            parameters={"path": "/a"},
            timeout_ms=100.0,
            **COMMON,
        ),
        PostToolUseEvent(
            timestamp=at(5),
            tool_name="Read",
            success=True,
            result={"text": "hi"},
            execution_time_ms=3.0,
            performance_metrics=PerformanceMetrics(memory_usage_mb=1.5),
            **COMMON,
        ),
        SemanticQueryEvent(timestamp=at(6), query_text="where", max_results=3, **COMMON),
        PreToolUseEvent(timestamp=at(7), tool_name="Bash", parameters={}, **COMMON),
        PostToolUseEvent(
            timestamp=at(9),
            tool_name="Bash",
            success=False,
            error="exit code 1",
            error_type="CommandFailedError",
            retry_count=1,
            **COMMON,
        ),
        FailureDetectedEvent(
            timestamp=at(10),
            failure_type="CommandFailedError",
            failure_description="exit code 1",
            affected_component="Bash",
            severity="high",
            error_details={"code": 1},
            **COMMON,
        ),
        AgentCapabilityUtilizedEvent(
            timestamp=at(14),
            capability_name="chat",
            utilization_context="model-x",
            input_parameters={"gen_ai.request.model": "model-x", "own": 1},
            capability_result={
                "gen_ai.usage.input_tokens": 12,
                "gen_ai.output.messages": [{"role": "assistant"}],
            },
            performance_metrics=PerformanceMetrics(execution_time_ms=3.5),
            **COMMON,
        ),
        AgentStoppedEvent(timestamp=at(20), stop_reason="done", uptime_ms=19.0, **COMMON),
        WorkflowEndedEvent(
            timestamp=at(21), status="cancelled", completion_reason="enough", **COMMON
        ),
    ]


def by_id(events):
    return {event.event_id: event for event in events}


def through_json(spans):
    return spans_from_otlp(msgspec.json.decode(msgspec.json.encode(spans_to_otlp(spans))))


def through_protobuf(spans):
    request = ExportTraceServiceRequest()
    write_otlp(spans, request)
    return spans_from_otlp(ExportTraceServiceRequest.FromString(request.SerializeToString()))


@pytest.mark.parametrize("carry", [list, through_json, through_protobuf])
def test_interop_events_come_back_from_their_spans(carry):
    """Every event that has a span is read back from it without loss, by value and over OTLP."""
    events = run()
    again = [event for span in carry(to_spans(events)) for event in from_span(span)]
    assert by_id(again) == by_id(events)


@pytest.mark.parametrize("scenario", list(WorkflowScenario))
def test_interop_whole_workflows_come_back_from_their_spans(scenario):
    """Of whole made-up workflows, failures and all, every event that has a span comes back."""
    made = [
        one
        for seed in range(4)
        for one in MockEventGenerator(seed=seed, start=T0).generate_workflow(scenario)
    ]
    causes = {one.event_id: one.causation_id for one in made if one.causation_id is not None}
    spans = to_spans([one.event for one in made], causes=causes)
    with_spans = {
        "WorkflowStarted", "WorkflowEnded", "AgentStarted", "AgentStopped", "PreToolUse",
        "PostToolUse", "SemanticQuery", "AgentCapabilityUtilized", "FailureDetected",
    }  # fmt: skip
    told = by_id(one.event for one in made if one.event.event_type in with_spans)
    assert by_id(event for span in through_json(spans) for event in from_span(span)) == told
    roots = [span for span in spans if span.parent_span_id is None]
    assert {span.name.split()[0] for span in roots} == {"invoke_workflow"}
    assert len({span.span_id for span in spans}) == len(spans)


def test_interop_spans_form_a_tree():
    """A workflow holds its agents, an agent its calls; kinds and names follow the conventions."""
    spans = {span.name: span for span in to_spans(run())}
    assert {name: span.kind for name, span in spans.items()} == {
        "invoke_workflow review": "internal",
        "invoke_agent reviewer": "internal",
        "execute_tool Read": "internal",
        "execute_tool Bash": "internal",
        "retrieval": "client",
        "chat model-x": "client",
    }
    root, agent = spans.pop("invoke_workflow review"), spans.pop("invoke_agent reviewer")
    assert root.parent_span_id is None
    assert agent.parent_span_id == root.span_id
    assert {span.parent_span_id for span in spans.values()} == {agent.span_id}
    assert {span.trace_id for span in [root, agent, *spans.values()]} == {CORRELATION.hex}
    read = spans["execute_tool Read"]
    assert (read.start_ns, read.end_ns) == (at_ns(2), at_ns(5))
    assert spans["chat model-x"].end_ns - spans["chat model-x"].start_ns == 3_500_000
    assert len({span.span_id for span in spans.values()}) == len(spans)


def at_ns(ms):
    return round((T0.timestamp() * 1000 + ms) * 1000) * 1000


def test_interop_attributes_have_the_published_names():
    """Attributes and operations are those of the published semantic conventions."""
    published = {value for name, value in vars(gen_ai).items() if name.startswith("GEN_AI_")}
    published |= {error_attributes.ERROR_TYPE}
    operations = {value.value for value in gen_ai.GenAiOperationNameValues}
    for span in to_spans(run()):
        own = {name for name in span.attributes if name.startswith("spile.")}
        assert set(span.attributes) - own <= published
        assert span.attributes[gen_ai.GEN_AI_OPERATION_NAME] in operations
        assert own <= {"spile.start", "spile.end"}


def test_interop_tool_call_is_an_execute_tool_span():
    """A call says tool, call id, agent, conversation, arguments and result."""
    span = next(span for span in to_spans(run()) if span.name == "execute_tool Read")
    events = run()
    assert {name: value for name, value in span.attributes.items() if "spile" not in name} == {
        gen_ai.GEN_AI_OPERATION_NAME: "execute_tool",
        gen_ai.GEN_AI_TOOL_NAME: "Read",
        gen_ai.GEN_AI_TOOL_CALL_ID: span.attributes[gen_ai.GEN_AI_TOOL_CALL_ID],
        gen_ai.GEN_AI_TOOL_CALL_ARGUMENTS: '{"path":"/a"}',
        gen_ai.GEN_AI_TOOL_CALL_RESULT: '{"text":"hi"}',
        gen_ai.GEN_AI_AGENT_ID: str(AGENT),
        gen_ai.GEN_AI_AGENT_NAME: events[1].agent_name,
        gen_ai.GEN_AI_CONVERSATION_ID: str(SESSION),
    }
    assert span.status == "unset"
    assert "timestamp" not in span.attributes["spile.start"]


def test_interop_failed_call_is_an_error():
    """A failed call has the status error, its reason and `error.type`; the failure is an event."""
    spans = {span.name: span for span in to_spans(run())}
    failed = spans["execute_tool Bash"]
    assert (failed.status, failed.status_message) == ("error", "exit code 1")
    assert failed.attributes[error_attributes.ERROR_TYPE] == "CommandFailedError"
    (exception,) = spans["invoke_agent reviewer"].events
    assert exception.name == "exception"
    assert exception.attributes[exception_attributes.EXCEPTION_TYPE] == "CommandFailedError"
    assert exception.attributes[exception_attributes.EXCEPTION_MESSAGE] == "exit code 1"


def test_interop_spans_without_content_tell_no_content():
    """With `content=False` no argument, result, query, message or reason is told."""
    events = run()
    spans = to_spans(events, content=False)
    text = msgspec.json.encode(spans_to_otlp(spans)).decode()
    for secret in ("/a", '"hi"', "where", "exit code 1", "assistant", "enough", "goal", "done"):
        assert secret not in text
    again = by_id(event for span in spans for event in from_span(span))
    assert {event_id: event.event_type for event_id, event in again.items()} == {
        event.event_id: event.event_type for event in events
    }


def test_interop_calls_of_one_tool_are_told_apart_by_their_causes():
    """Interleaved calls of one tool pair by cause; without causes the oldest open call is taken."""
    first, second = (
        PreToolUseEvent(timestamp=at(n), tool_name="Read", parameters={"n": n}, **COMMON)
        for n in (0, 1)
    )
    quick = PostToolUseEvent(timestamp=at(2), tool_name="Read", success=True, **COMMON)
    slow = PostToolUseEvent(timestamp=at(9), tool_name="Read", success=True, **COMMON)
    events = [first, second, quick, slow]
    causes = {quick.event_id: second.event_id, slow.event_id: first.event_id}
    assert [span.end_ns for span in to_spans(events, causes=causes)] == [at_ns(9), at_ns(2)]
    assert [span.end_ns for span in to_spans(events)] == [at_ns(2), at_ns(9)]


def test_interop_result_without_its_call_is_a_span_of_its_duration():
    """A PostToolUse alone starts its duration earlier, and comes back alone; a call alone waits."""
    post = PostToolUseEvent(
        timestamp=at(50), tool_name="Read", success=True, execution_time_ms=20.0, agent_id=AGENT
    )
    cause = uuid4()
    (span,) = to_spans([post], causes={post.event_id: cause})
    assert span.start_ns == at_ns(30)
    assert span.span_id == cause.hex[16:]
    assert from_span(span) == [post]
    assert to_spans([PreToolUseEvent(agent_id=AGENT, tool_name="Read", parameters={})]) == []


def test_interop_span_ids_of_the_metadata_are_kept():
    """The first operation that names a span id has it; a later one that names it is its child."""
    metadata = EventMetadata(trace_id=TRACE, span_id=SPAN_ID)
    events = []
    for n in (0, 10):
        ids = {"agent_id": AGENT, "metadata": metadata, "tool_name": "Read"}
        events.append(PreToolUseEvent(timestamp=at(n), parameters={}, **ids))
        events.append(PostToolUseEvent(timestamp=at(n + 1), success=True, **ids))
    first, second = to_spans(events)
    assert (first.trace_id, first.span_id, first.parent_span_id) == (TRACE, SPAN_ID, None)
    assert second.span_id != SPAN_ID
    assert second.parent_span_id == SPAN_ID


@settings(max_examples=40)
@given(
    parameters=st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5)),
    result=st.none() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    error=st.none() | st.text(max_size=5),
    error_type=st.none() | st.sampled_from(["", "_OTHER", "E"]),
    success=st.booleans(),
    took=st.none() | st.floats(0, 1e6),
)
def test_interop_any_call_comes_back(parameters, result, error, error_type, success, took):
    """Whatever a call says comes back from its span over OTLP."""
    pre = PreToolUseEvent(timestamp=at(0), tool_name="t", parameters=parameters, **COMMON)
    post = PostToolUseEvent(
        timestamp=at(3),
        tool_name="t",
        success=success,
        result=result,
        error=error,
        error_type=error_type,
        execution_time_ms=took,
        **COMMON,
    )
    (span,) = through_json(to_spans([pre, post]))
    assert from_span(span) == [pre, post]


@pytest.fixture
def traced():
    """Spans of a real tracer, made by the conventions alone."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    agent = {
        gen_ai.GEN_AI_OPERATION_NAME: "invoke_agent",
        gen_ai.GEN_AI_AGENT_NAME: "helper",
        gen_ai.GEN_AI_CONVERSATION_ID: "conv-1",
    }
    tool = {
        gen_ai.GEN_AI_OPERATION_NAME: "execute_tool",
        gen_ai.GEN_AI_TOOL_NAME: "weather",
        gen_ai.GEN_AI_TOOL_CALL_ARGUMENTS: '{"city": "Ulm"}',
    }
    chat = {
        gen_ai.GEN_AI_OPERATION_NAME: "chat",
        gen_ai.GEN_AI_REQUEST_MODEL: "model-x",
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: 12,
        gen_ai.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
    }
    with tracer.start_as_current_span("invoke_agent helper", attributes=agent):
        with tracer.start_as_current_span("chat model-x", kind=SpanKind.CLIENT, attributes=chat):
            pass
        with tracer.start_as_current_span("execute_tool weather", attributes=tool) as span:
            span.record_exception(RuntimeError("no network"))
            span.set_attribute(error_attributes.ERROR_TYPE, "RuntimeError")
            span.set_status(Status(StatusCode.ERROR, "no network"))
        with tracer.start_as_current_span("GET /", kind=SpanKind.CLIENT):
            pass
    yield exporter.get_finished_spans()
    provider.shutdown()


def test_interop_spans_of_a_real_tracer_become_events(traced):
    """Spans exported by the OpenTelemetry SDK as OTLP become the events that they stand for."""
    spans = {span.name: span for span in spans_from_otlp(encode_spans(traced))}
    http = spans.pop("GET /")
    assert from_span(http) == []
    made = {name: from_span(span) for name, span in spans.items()}
    pre, post = made["execute_tool weather"]
    assert (pre.tool_name, pre.parameters) == ("weather", {"city": "Ulm"})
    assert (post.success, post.error, post.error_type) == (False, "no network", "RuntimeError")
    (chat,) = made["chat model-x"]
    assert (chat.capability_name, chat.utilization_context) == ("chat", "model-x")
    assert chat.capability_result == {
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.response.finish_reasons": ["stop"],
    }
    started, stopped = made["invoke_agent helper"]
    assert (started.agent_name, stopped.stop_reason) == ("helper", "completed")
    assert started.session_id == correlation_uuid("conv-1")
    assert started.agent_id == stopped.agent_id
    for name, events in made.items():
        for event in events:
            assert event.metadata.trace_id == spans[name].trace_id
            assert event.metadata.span_id == spans[name].span_id
            assert event.metadata.source_service == "shop"
            assert event.metadata.correlation_id == UUID(hex=spans[name].trace_id)


def test_interop_real_tracer_gives_the_same_spans_as_json_and_protobuf(traced):
    """What the SDK encodes as protobuf is the same spans when it went through our JSON."""
    spans = spans_from_otlp(encode_spans(traced))
    assert through_json(spans) == spans
    assert through_protobuf(spans) == spans


def test_interop_span_gives_the_same_events_twice(traced):
    """Reading a span again gives the same ids, so that stores keep each event once."""
    for span in spans_from_otlp(encode_spans(traced)):
        assert from_span(span) == from_span(span)


def foreign(operation, **change):
    return Span(
        **{
            "trace_id": TRACE,
            "span_id": SPAN_ID,
            "name": f"{operation} x",
            "start_ns": at_ns(0),
            "end_ns": at_ns(12.5),
            "attributes": {"gen_ai.operation.name": operation, **change.pop("attributes", {})},
        }
        | change
    )


def test_interop_foreign_workflow_retrieval_and_unknown_operations():
    """Workflows, retrievals and operations without an event of their own have a stated reading."""
    workflow = foreign("invoke_workflow", attributes={"gen_ai.workflow.name": "w"}, status="error")
    started, ended = from_span(workflow)
    assert (started.workflow_name, ended.status, ended.actual_duration_ms) == ("w", "failed", 12.5)
    (query,) = from_span(foreign("retrieval", attributes={"gen_ai.retrieval.query.text": "q"}))
    assert (query.query_text, query.performance_metrics.execution_time_ms) == ("q", 12.5)
    (other,) = from_span(foreign("plan", attributes={"gen_ai.agent.id": "a-1"}))
    assert (other.capability_name, other.agent_id) == ("plan", correlation_uuid("a-1"))


def test_interop_failed_model_call_is_a_failure_too():
    """A call of a model that failed also gives FailureDetected, from its status or exception."""
    span = foreign("chat", status="error", status_message="quota")
    call, failure = from_span(span)
    assert call.event_type == "AgentCapabilityUtilized"
    assert (failure.failure_description, failure.affected_component) == ("quota", "chat x")
    exception = SpanEvent(
        name="exception",
        time_ns=at_ns(3),
        attributes={"exception.type": "TimeoutError", "exception.message": "slow"},
    )
    failure, call = from_span(foreign("chat", status="error", events=[exception]))
    assert (failure.failure_type, failure.failure_description) == ("TimeoutError", "slow")


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ('{"a": 1}', {"a": 1}),
        ({"a": [b"\xff", math.nan]}, {"a": ["/w==", "nan"]}),
        ("plain text", {"arguments": "plain text"}),
        ("[1]", {"arguments": [1]}),
        (None, {}),
    ],
)
def test_interop_arguments_of_any_form_become_parameters(arguments, parameters):
    """Arguments come as JSON text, as structured values, or as anything else."""
    attributes = {"gen_ai.tool.name": "t", "gen_ai.tool.call.arguments": arguments}
    pre, _ = from_span(foreign("execute_tool", attributes=attributes))
    assert pre.parameters == parameters


DEEP = "[" * 50 + "]" * 50


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"trace_id": "0" * 32}, "trace_id"),
        ({"trace_id": TRACE.upper()}, "trace_id"),
        ({"span_id": "xyz"}, "span_id"),
        ({"parent_span_id": "0" * 16}, "parent_span_id"),
        ({"end_ns": 5}, "end_ns"),
        ({"start_ns": -1}, "start_ns"),
        ({"end_ns": 10**21}, "end_ns"),
        ({"kind": "other"}, "kind"),
        ({"status": "bad"}, "status"),
        ({"attributes": {}}, "gen_ai.tool.name"),
        ({"attributes": {"gen_ai.tool.name": 5}}, "gen_ai.tool.name"),
        ({"attributes": {"gen_ai.tool.name": "t", "spile.start": "{"}}, "spile.start"),
        ({"attributes": {"gen_ai.tool.name": "t", "spile.start": "[]"}}, "spile.start"),
        (
            {"attributes": {"gen_ai.tool.name": "t", "spile.end": '{"event_type":"X"}'}},
            "event_type",
        ),
        (
            {"attributes": {"gen_ai.tool.name": "t", "spile.end": '{"success":5}'}},
            "payload.success",
        ),
        (
            {"attributes": {"gen_ai.tool.name": "t", "gen_ai.tool.call.result": DEEP}},
            "payload.result",
        ),
    ],
)
def test_interop_bad_span_is_refused_by_one_error(change, field):
    """A span that breaks the definition raises InvalidEventError, which names the field."""
    with pytest.raises(InvalidEventError) as caught:
        from_span(foreign("execute_tool", **change))
    assert caught.value.field == field


def otlp(**change):
    span = {
        "traceId": TRACE,
        "spanId": SPAN_ID,
        "name": "x",
        "startTimeUnixNano": "1",
        "endTimeUnixNano": 2,
        **change,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def test_interop_otlp_json_as_others_write_it():
    """Upper-case ids, numbers as text or number, unknown and missing members are read."""
    (span,) = spans_from_otlp(otlp(traceId=TRACE.upper(), flags=1, kind=3, status={}))
    assert (span.trace_id, span.kind, span.status) == (TRACE, "client", "unset")
    assert spans_from_otlp({}) == []


def deep_value():
    value = {"stringValue": "x"}
    for _ in range(40):
        value = {"arrayValue": {"values": [value]}}
    return value


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        (otlp(traceId="1"), "trace_id"),
        (otlp(traceId=5), "traceId"),
        (otlp(startTimeUnixNano="soon"), "startTimeUnixNano"),
        (otlp(kind="SPAN_KIND_CLIENT"), "kind"),
        (otlp(kind=9), "kind"),
        (otlp(attributes=[{"key": "a", "value": {"madeUp": 1}}]), "madeUp"),
        (otlp(attributes=[{"key": "a", "value": {"doubleValue": "x"}}]), "doubleValue"),
        (otlp(attributes=[{"key": "a", "value": {"bytesValue": "?"}}]), "bytesValue"),
        (otlp(attributes=[{"key": "a", "value": deep_value()}]), None),
        (otlp(events=5), "events"),
        ({"resourceSpans": 5}, "resourceSpans"),
        (b"{}", "resourceSpans"),
    ],
)
def test_interop_bad_otlp_is_refused_by_one_error(request_, where):
    """A request that breaks the definition raises InvalidEventError, which says where."""
    with pytest.raises(InvalidEventError, match="OTLP") as caught:
        spans_from_otlp(request_)
    assert caught.value.field == where


def test_interop_one_bad_span_need_not_cost_the_others():
    """With `refused`, bad spans are collected with their place and the others are read."""
    request = otlp()
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.insert(0, {**spans[0], "spanId": "zz"})
    refused = []
    assert len(spans_from_otlp(request, refused=refused)) == 1
    (error,) = refused
    assert "resourceSpans.0.scopeSpans.0.spans.0" in str(error)


otlp_values = st.one_of(
    json_values.map(lambda value: {"madeUp": value}),
    json_values.map(lambda value: {"stringValue": value}),
    json_values.map(lambda value: {"intValue": value}),
    json_values.map(lambda value: {"arrayValue": {"values": [{"doubleValue": value}]}}),
    st.sampled_from(["null", "{}", '{"payload":{}}', '{"agent_id":5}', "t", "[1]"]).map(
        lambda text: {"stringValue": text}
    ),
)
otlp_names = st.sampled_from(
    [
        gen_ai.GEN_AI_TOOL_CALL_ARGUMENTS,
        gen_ai.GEN_AI_TOOL_CALL_RESULT,
        gen_ai.GEN_AI_AGENT_ID,
        gen_ai.GEN_AI_REQUEST_TOP_K,
        "spile.start",
        "spile.end",
        "error.type",
        "gen_ai.x",
    ]
)


@settings(max_examples=150)
@given(
    operation=st.sampled_from(["execute_tool", "invoke_agent", "chat", "retrieval", "other"]),
    attributes=st.lists(st.tuples(otlp_names, otlp_values), max_size=5),
    members=st.dictionaries(
        st.sampled_from(["status", "events", "kind", "name", "endTimeUnixNano"]), json_values
    ),
)
def test_interop_no_span_brings_another_error(operation, attributes, members):
    """Whatever a span holds: events that come back from spans of ours, or InvalidEventError."""
    pairs = [("gen_ai.operation.name", {"stringValue": operation}), *attributes]
    pairs.append(("gen_ai.tool.name", {"stringValue": "t"}))
    given_ = [{"key": key, "value": value} for key, value in pairs]
    try:
        (span,) = spans_from_otlp(otlp(**{"attributes": given_, "name": "x", **members}))
        events = from_span(span)
    except InvalidEventError:
        return
    again = by_id(event for span in to_spans(events) for event in from_span(span))
    assert all(again.get(event.event_id, event) == event for event in events)


def test_interop_attribute_values_survive_otlp():
    """Values of every OTLP type come back over JSON and protobuf."""
    attributes = {
        "text": "ü",
        "yes": True,
        "int": -(2**63),
        "large": 2**70,
        "float": 1.5,
        "inf": -math.inf,
        "bytes": b"\x00\xff",
        "list": [1, "a", None, []],
        "map": {"a": {"b": 2.0}, "empty": {}},
        "none": None,
    }
    span = foreign("x", attributes=attributes)
    expected = {**span.attributes, "large": float(2**70)}
    for carry in (through_json, through_protobuf):
        (read,) = carry([span])
        assert read.attributes == expected


def test_what_is_no_event_is_refused_by_name():
    """A dict is the likeliest mistake, and `parse` the way out."""
    with pytest.raises(InvalidEventError, match="got a dict"):
        to_spans([{"event_type": "PreToolUse"}])
