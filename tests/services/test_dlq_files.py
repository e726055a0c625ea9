"""Letters in a file before they are purged, and mended letters; no broker."""

import json
import stat

import click
import msgspec
import pytest

from spile.adapters.dead_letters import DeadLetter
from spile.adapters.delivery import Record
from spile.services.command.dlq import _files
from spile.services.command.dlq._edit import check, edited_copy, with_changes
from spile.services.command.dlq._files import KeptFileError, LetterFile, read_lines
from spile.services.command.dlq._view import LetterView, escaped
from spile.topics import default_catalogue
from spile.topics.redaction import default_redactor

TOPIC = "dev.agent.tool.recorded.v1"
QUEUE = f"{TOPIC}.dlq"
RECORD = Record(
    QUEUE, 2, 7, 5, b"\xfe", b"\x00\xff{", (("a", b"\xff"), ("a", None), ("", b""), ("é", b"1"))
)


async def _letters(*records):
    for record in records:
        yield DeadLetter.of(record)


async def test_a_file_gives_the_bytes_back(tmp_path):
    """What is kept is read back byte for byte, by its owner alone."""
    bare = Record(QUEUE, 0, 0, -1, None, None, ())
    file = LetterFile(tmp_path / "purged", QUEUE)
    assert await file.keep(_letters(RECORD, bare)) == 2
    first, second = read_lines(file.path)
    for kept, record in ((first, RECORD), (second, bare)):
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        assert kept == {**fields, "headers": list(record.headers)}
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert all(json.loads(line) for line in file.path.read_text().splitlines())


async def test_no_letter_makes_no_file(tmp_path):
    """Without letters nothing is written."""
    file = LetterFile(tmp_path / "purged", QUEUE)
    assert await file.keep(_letters()) == 0
    assert file.path is None
    assert list(tmp_path.iterdir()) == []


async def test_two_files_of_one_second_are_two(tmp_path):
    """A purge never writes over the copy of another."""
    files = [LetterFile(tmp_path, QUEUE) for _ in range(3)]
    for file in files:
        await file.keep(_letters(RECORD))
    assert len({file.path for file in files}) == 3


async def test_a_file_that_changed_is_noticed(tmp_path, monkeypatch):
    """When what is read back is not what was written, the purge ends before it marks anything."""
    genuine = _files.line_of
    monkeypatch.setattr(_files, "line_of", lambda record: genuine(record).replace(b"AP97", b"AAAA"))
    with pytest.raises(KeptFileError, match="nothing was purged"):
        await LetterFile(tmp_path, QUEUE).keep(_letters(RECORD))


async def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    """Why nothing was purged is one line that names the folder, not a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(KeptFileError, match=r"file/purged: not a directory; nothing was purged"):
        await LetterFile(tmp_path / "file" / "purged", QUEUE).keep(_letters(RECORD))


def test_changes_by_path():
    """Members are set by path, in objects and lists; the rest stays."""
    value = b'{"payload":{"list":[{"a":1}],"b":2},"version":"v1"}'
    changes = ("payload.list.0.a=null", 'payload.new={"x":[1]}')
    changed = with_changes(value, changes, add=True)
    assert msgspec.json.decode(changed) == {
        "payload": {"list": [{"a": None}], "b": 2, "new": {"x": [1]}},
        "version": "v1",
    }


@pytest.mark.parametrize(
    "change",
    ["payload", "=1", "payload.b.c=1", "nothing.b=1", "payload.b=text", "payload.list.9=1"],
)
def test_senseless_changes_are_refused(change):
    """A path that leads nowhere and a value that is no JSON are wrong usage."""
    with pytest.raises(click.UsageError):
        with_changes(b'{"payload":{"list":[1],"b":2}}', (change,))


def test_an_edited_copy_says_so(make_record):
    """The copy keeps key and headers, is JSON, and names the letter that it stands for."""
    record = make_record(3, headers={"content_type": b"application/msgpack"})
    letter = DeadLetter.of(msgspec.structs.replace(record, topic=QUEUE))
    copy = edited_copy(letter, record.value, operator="ann")
    headers = dict(copy.headers)
    assert copy.key == record.key
    assert headers["content_type"] == b"application/json"
    assert headers["x-spile-edited"].startswith(f"{QUEUE}@0:3 ".encode())
    assert headers["x-spile-edited"].endswith(b" ann")
    assert [name for name, _ in copy.headers][:-1] == [name for name, _ in record.headers]
    check(copy, letter, default_catalogue(), "dev")


def test_a_copy_that_breaks_the_contract_is_refused(make_record):
    """A mended value that the store would refuse is not sent."""
    record = make_record(3)
    letter = DeadLetter.of(msgspec.structs.replace(record, topic=QUEUE))
    broken = with_changes(record.value, ("payload.payload.tool_name=5",))
    copy = edited_copy(letter, broken, operator="")
    with pytest.raises(click.ClickException, match="tool_name"):
        check(copy, letter, default_catalogue(), "dev")


def test_a_view_shows_no_secret_and_obeys_nobody(make_record):
    """Secrets are hidden in every part, and control characters are written as escapes."""
    token = "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"
    record = make_record(0, value=f'{{"a": "{token}", broken \x1b[2J'.encode())
    headers = [
        *record.headers,
        ("authorization", f"Bearer {token}".encode()),
        ("x-spile-dlq-error-message", f"failed at {token} \x1b]0;x\x07\u202e".encode()),
        ("x-spile-dlq-consumer-group", b"g\nforged"),
    ]
    letter = DeadLetter.of(msgspec.structs.replace(record, topic=QUEUE, headers=tuple(headers)))
    view = LetterView(default_redactor(), default_catalogue())
    line = view.line(letter)
    assert token not in line
    assert line.isprintable()
    fields = view.fields(letter)
    assert fields["group"] == "g\\nforged"
    assert fields["error_message"].isprintable()
    assert "broken \\x1b[2J" in fields["value"]
    assert escaped("a\u202eb\x07") == "a\\u202eb\\x07"
