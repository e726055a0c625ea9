"""The archive on versitygw: an S3 server in Go, whose files can be looked at."""

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from spile.services.archiver import archive, newest_manifest
from spile.services.archiver.objects import CuttingRule
from spile.services.archiver.stores import ArchiveRefusedError, ArchiveUnavailableError
from spile.services.archiver.stores._s3 import S3Store

VERSION = "1.8.0"

pytestmark = [pytest.mark.go, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def program():
    """Build the server once; it stays in the cache."""
    cache = Path(os.environ.get("SPILE_CACHE_DIR") or Path.home() / ".cache" / "spile")
    folder = cache / f"versitygw-{VERSION}"
    if not (folder / "versitygw").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["go", "install", f"github.com/versity/versitygw/cmd/versitygw@v{VERSION}"],
            env={**os.environ, "GOBIN": str(folder)},
            check=True,
            timeout=580,
        )
    return folder / "versitygw"


class Gateway:
    """A server over a folder."""

    def __init__(self, program, root):
        self.root = root
        self._command = [program, "--quiet", "posix", str(root)]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._command[1:1] = ["--port", f"127.0.0.1:{self.port}"]
        self.start()

    @property
    def url(self):
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, "ROOT_ACCESS_KEY": "spile", "ROOT_SECRET_KEY": "spile-test"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError(f"versitygw does not listen on {self.port}")

    def kill(self):
        """End it at once."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def gateway(program, tmp_path, s3):
    """Start a server of the test's own; `s3` sets the credentials."""
    (tmp_path / "gateway").mkdir()
    server = Gateway(program, tmp_path / "gateway")
    yield server
    server.kill()


@pytest.fixture
def store(gateway):
    """Open an archive in it."""
    boto3.client("s3", endpoint_url=gateway.url, region_name="us-east-1").create_bucket(
        Bucket="archive"
    )
    return S3Store("archive", prefix="events", endpoint=gateway.url, timeout_s=5.0)


def test_objects_are_verified_by_the_checksum_of_the_server(store, numbered, seal, look, topic):
    """The server computed the hash itself, and each offset is there once."""
    for made in seal(numbered(500), CuttingRule(records=100)):
        assert archive(store, made).manifest == made.manifest
        assert store.stat(made.manifest.object).sha256 == made.manifest.sha256

    assert look(store).offsets() == list(range(500))
    assert newest_manifest(store, (topic, 0)).next_position == 500


def test_racing_archivers_leave_each_object_once(store, numbered, seal, look):
    """Eight that archive the same objects at once agree on all of them."""
    sealed = seal(numbered(200), CuttingRule(records=20))
    with ThreadPoolExecutor(8) as pool:
        for made in sealed:
            archived = list(pool.map(lambda _, made=made: archive(store, made), range(8)))
            assert [one.present for one in archived].count(False) == 1

    assert look(store).offsets() == list(range(200))


def test_a_killed_server_loses_nothing_that_was_verified(gateway, store, numbered, seal, look):
    """What was archived before the kill is there after it; what was not can be tried again."""
    first, second = seal(numbered(200), CuttingRule(records=100))
    archive(store, first)
    gateway.kill()
    with pytest.raises(ArchiveUnavailableError):
        archive(store, second)
    gateway.start()
    archive(store, second)

    assert look(store).offsets() == list(range(200))


def test_a_wrong_secret_is_refused(gateway, store, monkeypatch):
    """A real signature check: the archive says that it is refused, and does not try for ever."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    with pytest.raises(ArchiveRefusedError, match="403"):
        S3Store("archive", endpoint=gateway.url).put("a", b"x")
