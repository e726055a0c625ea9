"""Stores of an archive: a folder, and a bucket of a server that is not ours."""

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from spile.services.archiver import newest_manifest
from spile.services.archiver.objects import CuttingRule, manifest_key
from spile.services.archiver.stores import (
    ArchiveRefusedError,
    ArchiveSettings,
    ArchiveUnavailableError,
    FolderStore,
    ObjectMissingError,
    StoredObject,
    open_store,
)
from spile.services.archiver.stores._s3 import S3Store
from spile.spi import ConfigurationError, UndecodableError


@pytest.fixture(params=["folder", "bucket"])
def store(request):
    """Open an archive of each kind."""
    return request.getfixturevalue(request.param)


def test_what_was_put_is_read(store):
    """An object is there as it was given, with its size, and its hash where the store has one."""
    data = os.urandom(300_000)

    assert store.put("v1/a.avro", data)
    with store.open("v1/a.avro") as stream:
        assert stream.read(10) == data[:10]
        assert stream.read() == data[10:]
    found = store.stat("v1/a.avro")
    assert found.size_bytes == len(data)
    assert (found.sha256 is None) == isinstance(store, FolderStore)


def test_nothing_is_written_over(store):
    """A second put under a key says so and changes nothing."""
    assert store.put("a", b"first")
    assert not store.put("a", b"second")
    with store.open("a") as stream:
        assert stream.read() == b"first"


def test_one_of_many_wins(store):
    """Of many puts at once under one key exactly one succeeds, and its bytes are there."""
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda number: store.put("folder/key", b"%d" % number), range(32)))

    assert won.count(True) == 1
    with store.open("folder/key") as stream:
        assert stream.read() == b"%d" % won.index(True)


def test_what_is_not_there_is_said(store):
    """A missing object is told apart from a store that is away."""
    assert store.stat("none") is None
    with pytest.raises(ObjectMissingError), store.open("none"):
        pass


def test_listings_are_in_the_order_of_bytes(store):
    """Both kinds list the same keys in the same order, from a key on, with a prefix."""
    keys = ["a/1", "a-b/1", "a/2/x", "a.b", "b/1", "a/10"]
    for key in keys:
        store.put(key, b"x")

    assert [found.key for found in store.list()] == sorted(keys)
    assert [found.key for found in store.list("a/")] == ["a/1", "a/10", "a/2/x"]
    assert [found.key for found in store.list("a/1")] == ["a/1", "a/10"]
    assert [found.key for found in store.list("a", after="a/1")] == ["a/10", "a/2/x"]
    assert list(store.list("none/")) == []


@pytest.mark.parametrize("key", ["../x", "/etc/x", "a/../../x", "a//x", "", ".", "a\0b", "a/"])
def test_no_key_leads_out_of_the_folder(folder, tmp_path, key):
    """What is no plain path below the root is refused, and nothing is written."""
    before = sorted(path.name for path in tmp_path.iterdir())

    for use in (folder.stat, folder.open, lambda key: folder.put(key, b"x")):
        with pytest.raises(ArchiveRefusedError):
            use(key)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_links_are_not_followed(folder, tmp_path):
    """A symbolic link below the root is neither read nor written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (tmp_path / "archive" / "link").symlink_to(outside)
    (tmp_path / "archive" / "file").symlink_to(outside / "secret")

    for key in ("link/secret", "file"):
        with pytest.raises(ArchiveRefusedError), folder.open(key):
            pass
    with pytest.raises(ArchiveRefusedError):
        folder.put("link/new", b"x")
    assert [found.key for found in folder.list()] == ["file", "link"]
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_folder_opens_while_another_writer_is_busy(folder, tmp_path, monkeypatch):
    """What a writer takes away between the look and the second look keeps nobody from opening."""
    incoming = tmp_path / "archive" / ".incoming"
    (incoming / "1-aa").touch()
    entries = list(os.scandir(incoming))
    (incoming / "1-aa").unlink()
    monkeypatch.setattr(os, "scandir", lambda path: entries)

    FolderStore(tmp_path / "archive")


def test_what_is_there_already_is_on_the_disk_too(folder, tmp_path, monkeypatch):
    """Who finds an object forces its name to the disk: its writer may have died before that."""
    folder.put("a/b", b"x")
    synced = []
    fsync = os.fsync

    def seen(descriptor):
        synced.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    assert not folder.put("a/b", b"x")
    assert str(tmp_path / "archive" / "a") in synced


def test_a_folder_is_private(folder, tmp_path):
    """Objects are for the owner only, and nothing is left beside them."""
    folder.put("a/b", b"x")
    root = tmp_path / "archive"

    assert (root / "a" / "b").stat().st_mode & 0o777 == 0o600
    assert (root / "a").stat().st_mode & 0o777 == 0o700
    assert list((root / ".incoming").iterdir()) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_that_cannot_now_is_tried_again(bucket, s3, status):
    """Errors that pass are told as such, with the status."""
    s3.faults = lambda *_: status

    with pytest.raises(ArchiveUnavailableError, match=str(status)):
        bucket.put("a", b"x")


@pytest.mark.parametrize("status", [301, 307, 400, 403, 501])
def test_a_server_that_refuses_is_not_tried_again(bucket, s3, status):
    """Errors that stay are told as such; a redirect is one: no other host is ever asked."""
    s3.faults = lambda method, _, when: status if (method, when) == ("PUT", "before") else None

    with pytest.raises(ArchiveRefusedError):
        bucket.put("a", b"x")
    assert [method for method, _ in s3.seen] == ["HEAD", "PUT"]


def test_an_answer_that_is_lost_is_tried_again(bucket, s3):
    """A put that was carried out and not answered is unknown, and the next one finds it."""
    s3.faults = lambda method, _path, when: "cut" if (method, when) == ("PUT", "after") else None
    with pytest.raises(ArchiveUnavailableError):
        bucket.put("a", b"x")
    s3.faults = lambda *_: None

    assert not bucket.put("a", b"x")


def test_a_silent_server_is_given_up_in_time(s3):
    """Nobody waits for ever for a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ArchiveUnavailableError):
            S3Store("bucket", endpoint=url, timeout_s=0.3).stat("a")


def test_a_server_that_is_away_is_tried_again(s3):
    """A refused connection may be a restart."""
    with pytest.raises(ArchiveUnavailableError):
        S3Store("bucket", endpoint="http://127.0.0.1:9", timeout_s=1.0).stat("a")


def test_no_credentials_are_said(s3, monkeypatch):
    """Without credentials the archive is refused, not tried for ever."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    with pytest.raises(ArchiveRefusedError, match="credentials"):
        S3Store("bucket", endpoint=s3.url).stat("a")


def test_a_missing_bucket_is_said(s3):
    """A bucket that is not there is named, not taken for an empty archive."""
    store = S3Store("no-such-bucket", endpoint=s3.url)

    with pytest.raises(ArchiveRefusedError, match="NoSuchBucket"):
        list(store.list())


@pytest.mark.parametrize(
    ("settings", "environment", "says"),
    [
        ({"archive": "ftp://x"}, "dev", "SPILE_ARCHIVE: ftp"),
        ({"archive": "s3://x"}, "dev", "3 to 63 characters"),
        ({"archive": "s3://bucket/../x"}, "dev", "prefix"),
        ({"archive": "s3://bucket", "archive_endpoint": "http://s3"}, "prod", "needs https"),
        ({"archive": "s3://bucket", "archive_endpoint": "s3:9000"}, "dev", "expected https"),
        ({"archive": "s3://bucket", "archive_endpoint": "https://a:b@s3"}, "dev", "credentials"),
    ],
)
def test_settings_that_name_no_archive_are_refused(settings, environment, says):
    """One line says which variable is wrong and what would be right."""
    with pytest.raises(ConfigurationError, match=says):
        open_store(ArchiveSettings(**settings), environment=environment)


def test_the_folder_of_a_mistyped_archive_is_not_made(tmp_path, monkeypatch):
    """Only the default `.spile` is made; for any other folder the error names the setting."""
    settings = ArchiveSettings(archive=str(tmp_path / "typo" / "archive"))
    with pytest.raises(ConfigurationError, match="SPILE_ARCHIVE: there is no folder"):
        open_store(settings, environment="dev")
    assert list(tmp_path.iterdir()) == []

    monkeypatch.chdir(tmp_path)
    open_store(ArchiveSettings(), environment="dev")
    assert (tmp_path / ".spile" / "archive").is_dir()


def test_objects_that_no_reader_takes_are_not_asked_for():
    """A limit beyond what readers take is refused at the start, not found at the first restore."""
    with pytest.raises(ValueError, match="archive_bytes"):
        ArchiveSettings(archive_bytes=2 << 30)


def test_settings_name_the_archive(tmp_path, s3):
    """A folder, and a bucket with a prefix."""
    assert open_store(
        ArchiveSettings(archive=str(tmp_path / "x")), environment="prod"
    ).place == str(tmp_path / "x")
    settings = ArchiveSettings(archive="s3://bucket/a/b/", archive_endpoint="https://s3:9000")
    assert open_store(settings, environment="prod").place == "s3://bucket/a/b"
    assert ArchiveSettings().rule == CuttingRule()


class Listing:
    """A store that lists made-up manifests, and counts the pages it was asked for."""

    place = "a listing"

    def __init__(self, starts):
        self.keys = [manifest_key("dev.a.b.c.v1", 0, start) for start in starts]
        self.pages = 0

    def list(self, prefix="", *, after=""):
        """List in order."""
        self.pages += 1
        for key in self.keys:
            if key.startswith(prefix) and key > after:
                yield StoredObject(key=key, size_bytes=1)

    def open(self, key):
        """Give the key that was asked for."""
        raise ObjectMissingError(key, key=key)


@pytest.mark.parametrize(
    "starts",
    [
        range(1),
        range(999),
        range(1_000),
        range(1_001),
        range(0, 2_000_000, 1_000),
        range(5, 23_456_789, 3_001),
        [*range(3_000), 2**62],
        [*range(1_000), *range(10**12, 10**12 + 4_000)],
        range(2**62, 2**62 + 5_000),
    ],
)
def test_the_newest_manifest_is_found(starts):
    """Where an archive ends is found in a few pages, however long it is."""
    listing = Listing(starts)

    with pytest.raises(ObjectMissingError) as found:
        newest_manifest(listing, ("dev.a.b.c.v1", 0))
    assert found.value.key == listing.keys[-1]
    assert listing.pages < 80


def test_strays_beside_manifests_are_passed_over(store):
    """A console's mark of a folder, or a copy somebody made, does not keep an archiver away."""
    topic, lead = "dev.a.b.c.v1", "manifests/topic=dev.a.b.c.v1/partition=0/"
    for stray in (".DS_Store", "00000000000000000007.json.bak", "zzz", "sub/x"):
        store.put(lead + stray, b"x")
    assert newest_manifest(store, (topic, 0)) is None
    store.put(manifest_key(topic, 0, 5), b"x")
    with pytest.raises(UndecodableError, match=r"00005\.json"):
        newest_manifest(store, (topic, 0))


def test_an_empty_archive_has_no_manifest(store):
    """A partition without objects begins where its log does."""
    assert newest_manifest(store, ("dev.a.b.c.v1", 0)) is None


def test_threads_may_share_a_bucket(bucket):
    """Uploads run side by side on one client."""
    barrier = threading.Barrier(4)

    def put(number):
        barrier.wait()
        return bucket.put(f"{number}", b"x" * 100_000)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(put, range(4)))


def test_folder_that_is_only_read_is_left_as_it_is(tmp_path):
    """A read-only store makes nothing, not even the folder, so a foreign mount can be read."""
    root = tmp_path / "archive"
    with pytest.raises(ArchiveUnavailableError):
        FolderStore(root, read_only=True)
    assert not root.exists()
    root.mkdir()
    (root / "a").write_bytes(b"1")
    store = FolderStore(root, read_only=True)
    assert [entry.key for entry in store.list("")] == ["a"]
    assert [path.name for path in root.iterdir()] == ["a"]
