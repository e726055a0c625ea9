"""What goes wrong while requests are settled."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict
from structlog.testing import capture_logs

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.requesting import Trio
from spile.spi import (
    ClosedError,
    ConfigurationError,
    DeliveryTimeoutError,
    RequestFailedError,
    UnknownTopicError,
)
from spile.topics import Catalogue, TopicSpec
from spile.topics.events.requests import (
    CodeAnalysisCompleted,
    FailedRequest,
)

STEM = "dev.archon-intelligence.intelligence.code-analysis"
ASKED, COMPLETED, FAILED = (f"{STEM}-{step}.v1" for step in ("requested", "completed", "failed"))


class Priced(BaseModel):
    model_config = ConfigDict(frozen=True)

    euros: float


class PriceAsked(BaseModel):
    model_config = ConfigDict(frozen=True)

    item: str
    timeout_ms: int = 5000


class PriceFailed(FailedRequest, frozen=True):
    shop: str | None = None


class Cursed(CodeAnalysisCompleted, frozen=True):
    def model_copy(self, **_):
        raise RuntimeError("nobody writes this")


def price_trio(failed=PriceFailed):
    return Trio(name="PRICE", requested=PriceAsked, completed=Priced, failed=failed)


def price_catalogue(failed=PriceFailed):
    models = {"requested": PriceAsked, "completed": Priced, "failed": failed}
    return Catalogue(
        [
            TopicSpec(
                name=f"shop.prices.price-{step}.v1",
                owner="tests",
                partitions=1,
                models={f"PRICE_{step.upper()}": model},
            )
            for step, model in models.items()
        ]
    )


async def failure_for(client, asked):
    with pytest.raises(RequestFailedError) as caught:
        await client.request(asked)
    return caught.value


def test_a_failed_model_that_lacks_fields():
    """A trio whose failed model cannot hold a failure is refused, with the fields it lacks."""

    class Failed(BaseModel):
        code: str
        message: str

    with pytest.raises(ConfigurationError, match="lacks error_code, error_message, retryable"):
        price_trio(Failed)


def test_a_failed_model_that_wants_more():
    """A failed model with a field that nobody can fill is refused, and so are narrower codes."""

    class Failed(FailedRequest, frozen=True):
        shop: str

    class Narrow(FailedRequest, frozen=True):
        error_code: Literal["SOLD_OUT", "TIMEOUT"]

    with pytest.raises(ConfigurationError, match="shop: Field required"):
        price_trio(Failed)
    with pytest.raises(ConfigurationError, match=r"INTERNAL_ERROR.*error_code"):
        price_trio(Narrow)


def test_a_catalogue_with_other_models():
    """A catalogue that holds another model for an event type of the trio is refused."""
    catalogue = price_catalogue(FailedRequest)
    with pytest.raises(ConfigurationError, match="PRICE_FAILED is FailedRequest in the catalogue"):
        price_trio().routes(catalogue, "dev")


async def test_a_trio_of_ones_own(make_stage):
    """Answers and failures of a trio of one's own arrive as those of ours."""
    stage, trio = make_stage(price_catalogue()), price_trio()

    async def price(request):
        if request.item == "gold":
            raise RequestFailedError("sold out", code="SOLD_OUT")
        return Priced(euros=2.5)

    client = await stage.client(trio)
    await stage.responder(price, trio)
    assert await client.request(PriceAsked(item="salt")) == Priced(euros=2.5)
    assert (await failure_for(client, PriceAsked(item="gold"))).code == "SOLD_OUT"


async def test_failures_that_cannot_be_told(stage):
    """A failure that its model refuses is told as an invalid answer that names the field."""

    async def refuse(request):
        raise RequestFailedError("no", code="", details={"when": object()})

    client = await stage.client()
    responder = await stage.responder(refuse, concurrency=2)
    for _ in range(5):
        error = await failure_for(client, stage.question())
        assert error.code == "INVALID_ANSWER"
        assert "error_code: " in str(error)
    await stage.until(lambda: stage.committed() == 5)
    assert (responder.counts.failed, responder.counts.running) == (5, 0)


@pytest.mark.parametrize("wrong", [None, {"total_count": 1}, FailedRequest])
async def test_answers_of_another_kind(stage, wrong):
    """A handler that returns no answer of the trio fails its own request only."""

    async def forgetful(request):
        return await stage.analyse(request) if request.source_path == "good" else wrong

    client = await stage.client()
    await stage.responder(forgetful, concurrency=1)
    assert (await failure_for(client, stage.question())).code == "INVALID_ANSWER"
    assert (await client.request(stage.question("good"))).total_count == 1


async def test_answers_that_raise_when_written(stage):
    """An answer whose writing raises becomes a failure; those that are sent with it arrive."""

    async def cursed(request):
        if request.source_path == "bad":
            return Cursed(patterns=[], query_time_ms=1, total_count=1)
        return await stage.analyse(request)

    client = await stage.client()
    await stage.responder(cursed, publisher=stage.make_publisher("answerer"))
    paths = ["a", "bad", "b"]
    told = await asyncio.gather(
        *(client.request(stage.question(path)) for path in paths), return_exceptions=True
    )
    assert [type(one).__name__ for one in told] == [
        "CodeAnalysisCompleted",
        "RequestFailedError",
        "CodeAnalysisCompleted",
    ]
    assert told[1].code == "INVALID_ANSWER"


async def test_requests_without_any_answer_are_buried(stage):
    """Where the bus refuses even the failure, the request is a dead letter and has no place."""
    client = await stage.client()
    letters = DeadLetterQueue(stage.cluster.sender(), group="analysers")
    responder = await stage.responder(
        dead_letters=letters, publisher=stage.make_publisher("answerer"), concurrency=1
    )

    async def refuse(operation, about):
        if operation == "send" and about[0].topic in {COMPLETED, FAILED}:
            raise UnknownTopicError("no such topic", topic=about[0].topic)

    stage.cluster.faults.hook = refuse
    with pytest.raises(DeliveryTimeoutError):
        await client.request(stage.question(), timeout_ms=50)
    await stage.until(lambda: stage.committed() == 1)
    stage.cluster.faults.hook = None
    assert len(stage.cluster.records(f"{ASKED}.dlq")) == 1
    assert (responder.counts.unanswered, responder.counts.running) == (1, 0)
    assert (await client.request(stage.question("b.py"))).total_count == 1


async def test_a_closed_publisher_ends_the_responder(stage):
    """Without its publisher a responder ends and says why; the request is not committed."""
    publisher = stage.make_publisher("answerer")
    client = await stage.client()
    responder = await stage.responder(publisher=publisher)
    await publisher.close()
    with pytest.raises(DeliveryTimeoutError):
        await client.request(stage.question(), timeout_ms=50)
    async with asyncio.timeout(5):
        with pytest.raises(ClosedError):
            await responder.wait()
    assert stage.committed() == 0


async def test_validation_errors_of_a_handler(stage):
    """The caller reads in one line which field was wrong, without its value or an address."""

    async def invalid(request):
        Priced.model_validate({"euros": "hunter22x"})

    client = await stage.client()
    await stage.responder(invalid)
    error = await failure_for(client, stage.question())
    assert error.code == "INTERNAL_ERROR"
    text = "ValidationError: Priced: euros: Input should be a valid number"
    assert str(error).startswith(text)
    assert "\n" not in str(error)
    assert "hunter" not in str(error)
    assert "https" not in str(error)


async def test_a_second_responder_takes_its_share_only(stage):
    """When another member joins, what waits of its partitions is handled there and not here."""
    calls = Counter()

    async def handle(request):
        calls[request.source_path] += 1
        await asyncio.sleep(0.005)
        return await stage.analyse(request)

    client = await stage.client()
    await stage.responder(handle, concurrency=5)
    asked = [asyncio.ensure_future(client.request(stage.question(str(n)))) for n in range(200)]
    await stage.until(lambda: len(calls) >= 10)
    second = await stage.responder(handle, concurrency=5, publisher=stage.make_publisher("two"))
    await asyncio.gather(*asked)
    assert second.counts.completed > 0
    # At most those that the first had in hand when the second came.
    assert sum(calls.values()) <= 205


async def test_a_clock_that_is_ahead(stage):
    """A responder whose clock is an hour ahead answers what came since it last read to the end."""
    client = await stage.client()
    with capture_logs() as logs:
        await stage.responder(clock=lambda: time.time() + 3600, look_every_s=0.01)
        for _ in range(20):
            with contextlib.suppress(DeliveryTimeoutError):
                await client.request(stage.question(), timeout_ms=200)
                break
        for _ in range(20):
            await client.request(stage.question())
    told = [line for line in logs if line["event"].startswith("clocks disagree")]
    assert len(told) == 1
    assert told[0]["record_time_ahead_s"] == pytest.approx(-3600, abs=5)


async def test_a_clock_that_is_behind(stage):
    """With a clock that is behind, a handler has no more time than its caller gave."""
    client = await stage.client()

    async def hang(request):
        await asyncio.Event().wait()

    await stage.responder(hang, clock=lambda: time.time() - 3600)
    with pytest.raises((DeliveryTimeoutError, RequestFailedError)):
        await client.request(stage.question(), timeout_ms=50)
    await stage.until(lambda: stage.committed() == 1)


async def test_what_waited_too_long_here(stage):
    """What expires while it waits for its turn is dropped, whatever the clock says."""
    gate = asyncio.Event()

    async def hold(request):
        await gate.wait()
        return await stage.analyse(request)

    client = await stage.client()
    responder = await stage.responder(
        hold, concurrency=1, clock=lambda: time.time() - 3600, look_every_s=0.01
    )
    first = asyncio.ensure_future(client.request(stage.question()))
    await stage.until(lambda: responder.counts.running == 1)
    with pytest.raises(DeliveryTimeoutError):
        await client.request(stage.question("late"), timeout_ms=20)
    gate.set()
    await first
    await stage.until(lambda: stage.committed() == 2)
    assert responder.counts.expired == 1
