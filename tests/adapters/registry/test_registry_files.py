"""What the registry in a folder promises beyond being one: processes, crashes, disks."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from spile.adapters.registry import CompatibilityLevel, FileSchemaRegistry
from spile.spi import RegistryUnavailableError

WRITER = """
import asyncio, sys
from spile.adapters.registry import FileSchemaRegistry

async def main(folder, name, count):
    print("ready", flush=True)
    sys.stdin.readline()
    async with FileSchemaRegistry(folder) as registry:
        for number in range(int(count)):
            common = await registry.register_schema(f"all-{number}", {"title": f"all {number}"})
            own = await registry.register_schema(name, {"title": f"{name} {number}"})
            print(number, common, own, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def _writer(folder: Path, name: str, count: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITER, str(folder), name, str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def _open_folder(folder: Path) -> None:
    async with FileSchemaRegistry(folder) as registry:
        await registry.set_compatibility_level(CompatibilityLevel.NONE)


async def test_processes_share_a_folder(tmp_path):
    """Three processes at once never give one id twice, and give the same schema the same id."""
    await _open_folder(tmp_path)
    writers = [await _writer(tmp_path, name, 10) for name in ("a", "b", "c")]
    for writer in writers:
        assert await writer.stdout.readline() == b"ready\n"
    outcomes = await asyncio.gather(*(writer.communicate(b"go\n") for writer in writers))
    lines = [[line.split() for line in out.decode().splitlines()] for out, _ in outcomes]
    common = [[entry[1] for entry in each] for each in lines]
    own = [entry[2] for each in lines for entry in each]
    assert common[0] == common[1] == common[2]
    assert len({*common[0], *own}) == 10 + 30
    async with FileSchemaRegistry(tmp_path) as registry:
        assert await registry.versions("b") == list(range(1, 11))


async def test_a_killed_process_leaves_a_whole_registry(tmp_path):
    """After SIGKILL in the middle of writing, all that was confirmed is there, and it goes on."""
    await _open_folder(tmp_path)
    writer = await _writer(tmp_path, "a", 100_000)
    await writer.stdout.readline()
    writer.stdin.write(b"go\n")
    confirmed = [(await writer.stdout.readline()).split() for _ in range(15)]
    writer.kill()
    rest = (await writer.communicate())[0]
    confirmed += [line.split() for line in rest.splitlines() if rest.endswith(b"\n")]
    async with FileSchemaRegistry(tmp_path) as registry:
        for number, common, own in confirmed:
            assert await registry.get_schema(int(common)) == {"title": f"all {int(number)}"}
            assert await registry.get_schema(int(own)) == {"title": f"a {int(number)}"}
        assert await registry.register_schema("a", {"title": "after"}) > int(confirmed[-1][2])


async def test_the_files_can_be_read_by_people(tmp_path, order):
    """A schema is an indented JSON file named by its id; a version says which id it is."""
    async with FileSchemaRegistry(tmp_path) as registry:
        await registry.register_schema("orders-value", order(total="integer"))
    text = (tmp_path / "schemas" / "0001.json").read_text(encoding="utf-8")
    assert json.loads(text)["schema"] == order(total="integer")
    assert text.count("\n") > 5
    version = json.loads((tmp_path / "subjects" / "orders-value" / "0001.json").read_text())
    assert version == {"subject": "orders-value", "version": 1, "schema_id": 1}


@pytest.mark.parametrize("subject", ["../../up", "/etc/passwd", ".lock", "a/../b", "x" * 1000])
async def test_no_subject_leaves_the_folder(tmp_path, order, subject):
    """Whatever a subject is called, its files lie in a folder of its own in the registry."""
    home = tmp_path / "registry"
    async with FileSchemaRegistry(home) as registry:
        await registry.register_schema(subject, order(total="integer"))
        await registry.register_schema(f"{subject[:999]}y", order(total="integer"))
        assert len(await registry.subjects()) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["registry"]
    assert len(list((home / "subjects").iterdir())) == 2


async def test_what_is_no_registry_is_no_word_on_a_schema(tmp_path, order):
    """A folder that is missing or emptied is trouble of the infrastructure: no id is unknown."""
    async with FileSchemaRegistry(tmp_path / "registry") as registry:
        with pytest.raises(RegistryUnavailableError, match="no schema registry is here"):
            await registry.get_schema(1)
        await registry.register_schema("s", order(total="integer"))
    shutil.rmtree(tmp_path / "registry")
    async with FileSchemaRegistry(tmp_path / "registry") as registry:
        with pytest.raises(RegistryUnavailableError):
            await registry.get_schema(1)


_START = b'{"schema_id":1,"schema_type":"AVRO","schema":{"type":'
DAMAGED = {
    "empty": b"",
    "cut off": b"{",
    "fields missing": b'{"schema_id": 1}',
    "no JSON": b"\xff",
    "not UTF-8": _START + b'"\xff"}}',
    "too deep": _START + b"[" * 5000 + b"]" * 5000 + b"}}",
    "another language": b'{"schema_id":1,"schema_type":"XML","schema":{}}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_file_is_named(tmp_path, order, content):
    """A file that somebody broke is trouble of the infrastructure, with its path."""
    async with FileSchemaRegistry(tmp_path) as registry:
        await registry.register_schema("s", order(total="integer"))
    (tmp_path / "schemas" / "0001.json").write_bytes(content)
    async with FileSchemaRegistry(tmp_path) as registry:
        with pytest.raises(RegistryUnavailableError, match=r"0001\.json"):
            await registry.get_schema(1)


async def test_a_folder_that_cannot_be_made_is_retriable(tmp_path, order):
    """What the disk refuses is trouble of the infrastructure."""
    (tmp_path / "file").write_text("")
    async with FileSchemaRegistry(tmp_path / "file" / "registry") as registry:
        with pytest.raises(RegistryUnavailableError, match="Not a directory"):
            await registry.register_schema("s", order(total="integer"))


async def test_a_lock_that_somebody_keeps_is_not_waited_for_long(tmp_path, order):
    """The wait for another process has a limit; readers do not wait at all."""
    async with FileSchemaRegistry(tmp_path, timeout_s=0.1) as registry:
        schema_id = await registry.register_schema("s", order(total="integer"))
        with (tmp_path / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            begin = time.monotonic()
            with pytest.raises(RegistryUnavailableError, match=r"not free within 0\.1 s"):
                await registry.register_schema("s", order(other="integer"))
            assert time.monotonic() - begin < 2.0
            assert await registry.get_schema(schema_id) == order(total="integer")


async def test_a_subject_keeps_to_one_language(tmp_path, order, record):
    """A JSON Schema cannot follow an Avro one unless the level is NONE."""
    async with FileSchemaRegistry(tmp_path) as registry:
        await registry.register_schema("s", record(total="int"), "AVRO")
        verdict = await registry.check_compatibility("s", order(total="integer"))
        assert verdict.reasons == ("version 1: it is AVRO, the new one JSON",)
        await registry.set_compatibility_level(CompatibilityLevel.NONE, "s")
        assert await registry.register_schema("s", order(total="integer")) == 2


async def test_a_second_protobuf_needs_the_level_none(tmp_path):
    """Protobuf definitions are not compared, so a change is refused and not guessed."""
    async with FileSchemaRegistry(tmp_path) as registry:
        await registry.register_schema("s", {"proto": "message A {}"}, "PROTOBUF")
        verdict = await registry.check_compatibility("s", {"proto": "message B {}"}, "PROTOBUF")
        assert "not compared" in verdict.reasons[0]


async def test_the_global_level_starts_as_backward(tmp_path):
    """As that of most servers does; setting it is seen by all subjects without their own."""
    async with FileSchemaRegistry(tmp_path) as registry:
        assert await registry.compatibility_level() is CompatibilityLevel.BACKWARD
        await registry.set_compatibility_level(CompatibilityLevel.FULL)
        assert await registry.compatibility_level("s") is CompatibilityLevel.FULL
