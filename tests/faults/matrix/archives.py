"""Archives with hostile keys, flipped bits and bombs in them (F14, F35, F36)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from itertools import chain
from pathlib import Path

import zstandard
from tests.faults.matrix.stage import Stage, cell
from tests.faults.rig import Rig

from spile.adapters.delivery import Record
from spile.services.archiver.objects import (
    MAGIC,
    SCHEMA,
    SYNC_BYTES,
    CuttingRule,
    Manifest,
    PartitionCutter,
)
from spile.services.archiver.reading import verify
from spile.services.archiver.stores import FolderStore
from spile.spi import SpileError

FLIPS = 5_000
MIB = 1 << 20
HOSTILE_KEYS = (
    "../outside",
    "../../etc/cron.d/x",
    "/etc/passwd",
    "a/../../outside",
    "a\x00b",
    "%2e%2e/outside",
    "..\\outside",
    "v1-0/manifests/topic=../partition=0/00000000000000000000.json",
    "link/inside",
    ".",
    "",
)


async def archived(rig: Rig, root: Path) -> tuple[FolderStore, list[Manifest]]:
    """Put what is on the bus into an archive in a folder, by the archiver's own cutter."""
    store, manifests = FolderStore(root), []
    by_partition: dict[int, list[Record]] = {}
    for found in await rig.read():
        headers = tuple(found.headers)
        record = Record(
            found.topic,
            found.partition,
            found.offset,
            found.timestamp,
            found.key,
            found.value,
            headers,
        )
        by_partition.setdefault(found.partition, []).append(record)
    for partition, records in by_partition.items():
        rule = CuttingRule(records=50, window=timedelta.max)
        cutter = PartitionCutter(rule, records[0].topic, partition)
        for sealed in chain.from_iterable(map(cutter.add, records)):
            assert store.put(sealed.manifest.object, sealed.data)
            assert store.put(sealed.manifest.key, sealed.manifest.to_json())
            manifests.append(sealed.manifest)
    return store, manifests


@cell("F14 archive", "bits flipped 5,000 times in archived objects")
async def archive_bits_flipped(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=250)
    await rig.stores(1500)
    store, manifests = await archived(rig, rig.folder / "archive")
    unnoticed = await asyncio.to_thread(undetected, stage, store, manifests)
    stage.hit(FLIPS)
    stage.healed()
    await stage.finish()
    stage.figures |= {"objects": len(manifests), "undetected_of_5000": unnoticed}
    stage.require(unnoticed == 0, "a flipped bit went unnoticed")


def undetected(stage: Stage, store: FolderStore, manifests: list[Manifest]) -> int:
    """Flip one bit at a time; return how often reading did not tell."""
    from spile.services.archiver.reading import ArchiveIndex  # noqa: PLC0415 - for this alone

    index, missed = ArchiveIndex(store), 0
    root = stage.rig.folder / "archive"
    for number in range(FLIPS):
        manifest = manifests[number % len(manifests)]
        path = root / manifest.object
        with path.open("r+b") as file:
            at = stage.chance.randrange(manifest.size_bytes)
            file.seek(at)
            (byte,) = file.read(1)
            flipped = byte ^ (1 << stage.chance.randrange(8))
            file.seek(at)
            file.write(bytes([flipped]))
            file.flush()
            missed += reads_well(index, manifest)
            file.seek(at)
            file.write(bytes([byte]))
    return missed


def reads_well(index, manifest: Manifest) -> bool:
    """Say whether an object is read to its end without an error."""
    try:
        for _ in index.opened(manifest).records():
            pass
    except SpileError:
        return False
    return True


@cell("F35 keys", "keys of an archive that point elsewhere, and links out of it")
async def hostile_keys(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=250)
    await rig.stores(1000)
    root = rig.folder / "outer" / "archive"
    root.parent.mkdir()
    store, _ = await archived(rig, root)
    sound = await asyncio.to_thread(verify, store)
    stage.require(not sound.findings, f"the sound archive has findings: {sound.findings[:3]}")
    secret = root.parent / "outside"
    secret.write_text("secret")
    (root / "link").symlink_to(root.parent)
    before = everything_in(root.parent, without=root)
    leaked = refused = 0
    for key in HOSTILE_KEYS:
        stage.hit()
        try:
            store.put(key, b"x")
            with store.open(key) as file:
                leaked += file.read() != b"x"
        except (SpileError, ValueError):
            refused += 1
    found = await asyncio.to_thread(verify, store)
    stage.healed()
    await stage.finish(min_faults=len(HOSTILE_KEYS))
    stage.figures |= {"refused": refused, "leaked": leaked, "findings": len(found.findings)}
    stage.require(leaked == 0, "a key gave what was not put under it")
    stage.require(refused >= 7, "a key that leads out of the archive was taken")
    stage.require(everything_in(root.parent, without=root) == before, "something outside changed")


def everything_in(folder: Path, *, without: Path) -> dict[str, bytes]:
    """Return all files of a folder but those of one within."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): p.read_bytes() for p in files if not p.is_relative_to(without)}


READ_BOMB = """
import io, resource, sys
from spile.services.archiver.reading import Container, ReadLimits
from spile.spi import UndecodableError
data = sys.stdin.buffer.read()
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for _ in Container(io.BytesIO(data), name="bomb", limits=ReadLimits()).blocks():
        pass
except UndecodableError as exc:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base, exc)
"""


@cell("F36", "zstd bombs in an archive: 400 MiB in 13 kB, with and without a stated size")
async def bombs(stage: Stage) -> None:
    rig = stage.rig
    await stage.begin(rate=250)
    most = 0
    made = [
        await asyncio.to_thread(lambda stated=stated: bomb(stated=stated))
        for stated in (True, False)
    ]
    for data in made * 3:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", READ_BOMB],
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
        )
        kilobytes, _, why = done.stdout.decode().partition(" ")
        assert "bomb" in why, done.stderr.decode()[-2000:]
        stage.hit()
        most = max(most, int(kilobytes) * 1024)
    stage.healed()
    await rig.stores(500)
    await stage.finish()
    stage.figures |= {"memory_grown_MiB": most / MIB}
    stage.require(most <= 64 * MIB, "a bomb took more than 64 MiB")


def long(number: int) -> bytes:
    """Write a zigzag number as Avro does."""
    number, made = number << 1, bytearray()
    while number & ~0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def sized(data: bytes) -> bytes:
    return long(len(data)) + data


def bomb(*, stated: bool) -> bytes:
    """Make an object of ours whose one block unpacks to 400 MiB."""
    sync = b"s" * SYNC_BYTES
    schema = SCHEMA if isinstance(SCHEMA, bytes) else SCHEMA.encode()
    entries = [(b"avro.schema", schema), (b"avro.codec", b"zstandard")]
    meta = b"".join(sized(name) + sized(value) for name, value in entries)
    maker = zstandard.ZstdCompressor(level=3).compressobj(size=400 * MIB if stated else -1)
    frame = b"".join(maker.compress(bytes(MIB)) for _ in range(400)) + maker.flush()
    return MAGIC + long(len(entries)) + meta + long(0) + sync + long(1) + sized(frame) + sync
