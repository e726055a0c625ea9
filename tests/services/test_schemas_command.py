"""`spile schemas`: what it writes, finds, freezes and prints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from spile.services.command._schemas import schemas
from spile.topics import default_catalogue
from spile.topics.events import MODELS
from spile.topics.schemas import FAMILIES, asyncapi


@pytest.fixture(scope="module")
def spile():
    """Run `spile schemas ...`."""

    def run(*arguments):
        return CliRunner().invoke(schemas, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="module")
def _made(tmp_path_factory, spile):
    home = tmp_path_factory.mktemp("schemas")
    assert spile("generate", "--folder", home).exit_code == 0
    assert spile("release", "--folder", home).exit_code == 0
    return home


@pytest.fixture
def folder(tmp_path, _made):
    """Return a folder of current schemas, all released."""
    return Path(shutil.copytree(_made, tmp_path / "schemas"))


def _read_yaml(text):
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def test_generate_writes_only_what_differs(folder, spile):
    """A second run has nothing to do; a file that is wrong is written, a stray one deleted."""
    assert spile("generate", "--folder", folder).output == "nothing to do\n"
    (folder / "envelope.json").write_text("{}")
    (folder / "stray.json").write_text("{}")
    lines = spile("generate", "--folder", folder).output.splitlines()
    assert lines == [
        f"{folder}/envelope.json: written",
        f"{folder}/stray.json: deleted, no model stands behind it",
    ]


def test_check_says_that_all_is_well(folder, spile):
    """Without a finding it ends with 0 and one line."""
    done = spile("check", "--folder", folder)
    assert (done.exit_code, done.output) == (0, f"{len(FAMILIES)} families checked, 0 findings\n")


def test_check_names_what_is_wrong_and_the_way_out(folder, spile):
    """A stale file and a touched release end it with 1, each with what to do."""
    (folder / "envelope.json").write_text("{}\n")
    frozen = folder / "releases" / "session_events" / "1.0" / "session_events.json"
    frozen.write_text(frozen.read_text() + "\n")
    done = spile("check", "--folder", folder)
    assert done.exit_code == 1
    assert done.output.splitlines() == [
        "envelope.json: not what the models make",
        "releases/session_events/1.0/session_events.json: changed after its release",
        "    way out: run `spile schemas generate` and commit the files",
        "    way out: restore it from version control: releases never change",
        f"{len(FAMILIES)} families checked, 2 findings",
    ]


def test_check_compares_with_the_last_release(folder, spile):
    """A field that the release has and the model has not is named with its event type."""
    home = folder / "releases" / "observability_events" / "1.1.0"
    path = home / "observability_events.json"
    schema = json.loads(path.read_text())
    payload = schema["$defs"]["PRE_TOOL_USE"]["properties"]["payload"]
    payload["properties"]["colour"] = {"type": "string"}
    path.write_text(json.dumps(schema))
    done = spile("check", "--folder", folder)
    assert done.exit_code == 1
    assert (
        "PRE_TOOL_USE: payload.colour: removed: a breaking change needs a new major, "
        "released is 1.1.0, now 1.1.0" in done.output.splitlines()
    )


def test_check_without_a_folder_is_wrong_usage(tmp_path, spile):
    """Where there is no folder, the error says how to name one, and it ends with 2."""
    done = spile("check", "--folder", tmp_path / "none")
    assert done.exit_code == 2
    assert "say which by --folder" in done.output


def test_release_freezes_once(folder, spile):
    """A version that is released is said to be, and no file changes."""
    done = spile("release", "--folder", folder, "session_events")
    assert done.output == "session_events 1.0: released before\n"
    done = spile("release", "--folder", folder, "nope")
    assert done.exit_code == 2
    assert "no family 'nope', there are envelope, observability_events" in done.output


@pytest.mark.parametrize("command", ["generate", "release"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, spile, command):
    """One clear line, no traceback, ends with 1."""
    (tmp_path / "file").write_text("")
    done = spile(command, "--folder", tmp_path / "file" / "below")
    assert done.exit_code == 1
    (line,) = done.output.splitlines()
    assert line.startswith(f"Error: cannot write '{tmp_path}/file/below")
    assert line.endswith("Not a directory")


def test_export_refuses_another_format(spile):
    """The error lists the formats there are."""
    done = spile("export", "--format", "xml")
    assert done.exit_code == 2
    assert "'xml' is not one of 'json', 'yaml', 'avro', 'asyncapi'" in done.output


def test_export_to_a_place_that_cannot_be_written(tmp_path, spile):
    """A file below a file is named, whether it is to be a file or a folder."""
    (tmp_path / "file").write_text("")
    for name in ("a.json", "folder"):
        done = spile("export", "--format", "json", "-o", tmp_path / "file" / name)
        assert done.exit_code == 1
        assert f"cannot write '{tmp_path}/file" in done.output


def test_export_of_json_schema_into_a_folder(tmp_path, spile):
    """One file a family, each a valid schema."""
    assert spile("export", "--format", "json", "-o", tmp_path).exit_code == 0
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(FAMILIES)
    for path in tmp_path.iterdir():
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_export_of_yaml_is_the_same_schema(tmp_path, spile):
    """YAML says what JSON says, in a folder as in one document."""
    assert spile("export", "--format", "yaml", "-o", tmp_path).exit_code == 0
    whole = _read_yaml(spile("export", "--format", "yaml").output)
    assert whole == json.loads(spile("export", "--format", "json").output)
    for name, schema in whole.items():
        assert _read_yaml((tmp_path / f"{name}.yaml").read_text()) == schema


def test_export_of_avro_has_every_event_type(tmp_path, spile):
    """One file an event type."""
    assert spile("export", "--format", "avro", "-o", tmp_path).exit_code == 0
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(MODELS)


@pytest.mark.parametrize("name", ["api.json", "api.yaml", "new/folder"])
def test_export_of_asyncapi(tmp_path, spile, name):
    """The ending of the file says JSON or YAML; a folder gets asyncapi.yaml."""
    target: Path = tmp_path / name
    assert spile("export", "--format", "asyncapi", "-s", "shop", "-o", target).exit_code == 0
    text = (target if target.suffix else target / "asyncapi.yaml").read_text()
    found = json.loads(text) if target.suffix == ".json" else _read_yaml(text)
    assert found == asyncapi(default_catalogue(["shop"]))


def test_export_of_a_wrong_service_is_wrong_usage(spile):
    """A service that is no segment of a topic name is named."""
    done = spile("export", "--format", "asyncapi", "-s", "Bad Name")
    assert done.exit_code == 2
    assert "bad name" in done.output
