"""An S3 server that is away, slow, full of errors, or forgets to answer (F15)."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterable
from typing import Any

import boto3
import msgspec
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from tests.faults.matrix.records import peak_bytes
from tests.faults.matrix.stage import Stage, cell
from tests.faults.rig import POISON, TOPIC, Process
from werkzeug.serving import make_server

from spile.services.archiver.reading import ArchiveIndex, verify
from spile.services.archiver.stores import ArchiveSettings, ArchiveStore, open_store
from spile.testkit.ledger import Observation, Seen
from spile.testkit.proxy import Conditions, Direction, TcpProxy

BUCKET = "ledger"
MIB = 1 << 20
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "spile",
    "AWS_SECRET_ACCESS_KEY": "spile-test",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Bucket:
    """moto over real HTTP; `status` is what it answers instead of its work, when it is not 0."""

    def __init__(self) -> None:
        self.status = 0
        self.refused = 0
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"
        url = f"http://{self.address}"
        boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket=BUCKET)

    def _answer(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        if self.status:
            self.refused += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{self.status} Slow Down", [])
            return []
        return self._moto(environ, start_response)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@cell("F15", "S3 away, hanging, answering 503, slow, and silent after it has stored")
async def bucket_away(stage: Stage) -> None:
    os.environ.update(CREDENTIALS)
    bucket = await asyncio.to_thread(Bucket)
    try:
        async with TcpProxy(bucket.address) as proxy:
            await archive_through(stage, bucket, proxy)
    finally:
        await asyncio.to_thread(bucket.close)


async def archive_through(stage: Stage, bucket: Bucket, proxy: TcpProxy) -> None:
    """Archive a load while the way to the bucket is bad, then look whether all is there once."""
    rig = stage.rig
    settings = {
        "SPILE_ARCHIVE": f"s3://{BUCKET}/here",
        "SPILE_ARCHIVE_ENDPOINT": f"http://{proxy.address}",
        "SPILE_ARCHIVE_RECORDS": "60",
        "SPILE_ARCHIVE_WINDOW_S": "2",
        "SPILE_ARCHIVE_TIMEOUT_S": "1.5",
    }
    archiver = rig.command("run", "archiver", **settings, **CREDENTIALS, SPILE_CATALOGUE=CATALOGUE)
    await stage.begin(rate=200)
    await archiver.said("worker reads")
    for number in range(6):
        await trouble(bucket, proxy, number)
        stage.hit()
        stage.healed()
        await stage.progress(30)
    await stage.end_loads()
    direct = ArchiveSettings(
        archive=settings["SPILE_ARCHIVE"], archive_endpoint=f"http://{bucket.address}"
    )
    store = await asyncio.to_thread(lambda: open_store(direct, environment="dev"))
    rows = await all_archived(stage, store)
    recovery_s = time.monotonic() - stage.healed_at
    await stage.finish()
    stage.recovery_s = recovery_s
    archive = Observation(sink="archive", rows=rows, committed=await rig.ends())
    stage.judge([archive, rig.observe_store(), await rig.observe_bus()])
    proof = await asyncio.to_thread(verify, store)
    stage.figures |= {
        "refused_by_503": bucket.refused,
        "findings": len(proof.findings),
        "peak_MiB": peak_bytes(archiver.pid) / MIB,
    }
    stage.require(not proof.findings, f"verify found {proof.findings[:3]}")
    stage.require(await ended(archiver) == 0, "the archiver did not end in peace")


CATALOGUE = "spile.testkit.load:LOAD_CATALOGUE"


async def trouble(bucket: Bucket, proxy: TcpProxy, number: int) -> None:
    """Make one kind of trouble for three seconds."""
    if number % 3 == 0:
        bucket.status = 503
    elif number == 1:
        proxy.change(Conditions(held=frozenset(Direction)))
    elif number == 2:
        proxy.change(Conditions(held=frozenset({Direction.TO_CLIENT})))
    elif number == 4:
        proxy.lead_to("127.0.0.1:1")
        proxy.reset()
    else:
        proxy.change(Conditions(latency_s=0.4, jitter_s=0.2, resets_per_s=0.5))
    await asyncio.sleep(3.0)
    bucket.status = 0
    proxy.lead_to(bucket.address)
    proxy.change(Conditions())


async def all_archived(stage: Stage, store: ArchiveStore) -> list[Seen]:
    """Wait until every event of the bus is archived; return them in the order of the archive."""
    wanted = {row.event_id for row in (await stage.rig.observe_bus()).rows}
    rows: list[Seen] = []
    until = time.monotonic() + 30
    while time.monotonic() < until:
        rows = await asyncio.to_thread(archived_rows, store)
        if wanted <= {row.event_id for row in rows}:
            return rows
        await asyncio.sleep(0.5)
    return rows  # the ledger says what is missing


def archived_rows(store: ArchiveStore) -> list[Seen]:
    """Read what the manifests of an archive lead to."""
    index, rows = ArchiveIndex(store), []
    for partition in index.partitions:
        if partition[0] != TOPIC:
            continue
        for manifest in index.usable(partition):
            for record in index.opened(manifest).records():
                headers = dict(record.headers)
                if POISON in headers or headers.get("event_type") == b"TICK":
                    continue
                body = msgspec.json.decode(record.value or b"")
                payload = body["payload"]
                place = (record.topic, record.partition, record.offset)
                rows.append(Seen(body["event_id"], payload["key"], payload["seq"], *place))
    return rows


async def ended(worker: Process) -> int:
    """Tell a process to stop and return its exit code."""
    worker.send(signal.SIGTERM)
    return await worker.ended()
