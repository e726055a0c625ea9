"""SPILE_REGISTRY_*: which registry there is."""

from __future__ import annotations

import pytest

from spile.adapters.kafka import known_settings, load_settings
from spile.adapters.registry import FileSchemaRegistry, HttpSchemaRegistry, RegistrySettings
from spile.spi import ConfigurationError


@pytest.fixture
def settings(monkeypatch):
    """Read the settings from these variables only, named without their prefix."""

    def read(**variables: object) -> RegistrySettings:
        for name in known_settings():
            monkeypatch.delenv(name, raising=False)
        environment = variables.pop("environment", None)
        if environment:
            monkeypatch.setenv("SPILE_ENVIRONMENT", str(environment))
        for name, value in variables.items():
            monkeypatch.setenv(f"SPILE_REGISTRY_{name.upper()}", str(value))
        return load_settings(RegistrySettings)

    return read


def test_without_an_address_there_is_no_registry(settings):
    """Nothing set means none; an empty variable is as good as none."""
    assert settings().open() is None
    assert settings(url="", password="").open() is None


async def test_the_address_says_which_kind_it_is(settings, tmp_path):
    """http and https are a server, file a folder."""
    async with settings(url="https://registry.example.org/apis/ccompat/v7").open() as server:
        assert isinstance(server, HttpSchemaRegistry)
        assert repr(server) == "HttpSchemaRegistry('https://registry.example.org/apis/ccompat/v7')"
    async with settings(url=f"file://{tmp_path}/a%20b").open() as folder:
        assert isinstance(folder, FileSchemaRegistry)
        await folder.register_schema("s", {"type": "object"})
    assert (tmp_path / "a b" / "schemas").is_dir()


async def test_credentials_reach_the_registry(settings, guarded, tmp_path):
    """User name and password, or the file of the password, open the door."""
    secret = tmp_path / "password"
    secret.write_text("k33p-0ut\n", encoding="utf-8")
    for more in ({"password": "k33p-0ut"}, {"password_file": secret}):
        async with settings(url=guarded.url, username="writer", **more).open() as registry:
            await registry.subjects()


def test_secrets_are_not_shown(settings):
    """Neither the settings nor an error about them shows a password."""
    read = settings(url="https://registry", username="writer", password="s3cret")
    assert "s3cret" not in f"{read!r} {read} {read.open()!r} {vars(read.open())}"
    with pytest.raises(ConfigurationError) as caught:
        settings(url="https://registry", password="s3cret", token="s3cret", timeout_s="s3cret")
    assert "s3cret" not in str(caught.value)


def test_a_typing_error_is_named(settings, monkeypatch):
    """A variable that nobody knows stops the start, with the nearest name."""
    monkeypatch.setenv("SPILE_REGISTRY_URI", "https://registry")
    with pytest.raises(ConfigurationError, match="did you mean SPILE_REGISTRY_URL"):
        settings()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"url": "registry:8081"}, "SPILE_REGISTRY_URL: expected http.* or file:///folder"),
        ({"url": "https://a:s3cret@registry"}, "must not hold credentials"),
        ({"url": "file://relative/folder"}, "absolute path"),
        ({"url": "http://registry", "environment": "prod"}, "in prod use https"),
        ({"url": "http://registry", "username": "a", "password": "b"}, "unencrypted over http"),
        ({"username": "a", "password": "b"}, "no http or https address"),
        ({"url": "file:///a", "token": "b"}, "no http or https address"),
        ({"url": "https://registry", "username": "a"}, "go together"),
        ({"url": "https://registry", "password": "a"}, "go together"),
        ({"url": "https://registry", "token": "a", "username": "b"}, "keep one of them"),
        ({"url": "https://registry", "token": "a", "token_file": "/b"}, "TOKEN_FILE is set too"),
        ({"url": "https://registry", "token_file": "/missing"}, "there is no file /missing"),
        ({"url": "https://registry", "timeout_s": "0"}, "SPILE_REGISTRY_TIMEOUT_S"),
        ({"url": "https://registry", "timeout_s": "nan"}, "SPILE_REGISTRY_TIMEOUT_S"),
        ({"url": "https://registry", "retries": "-1"}, "SPILE_REGISTRY_RETRIES"),
    ],
)
def test_a_mistake_is_named_with_its_variable(settings, variables, reason):
    """Wrong and contradictory settings stop the start with a line that says what is wrong."""
    with pytest.raises(ConfigurationError, match=reason):
        settings(**variables)


def test_a_wrong_certificate_file_is_named(settings, tmp_path):
    """A file that is no certificate is refused when the registry is opened."""
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate", encoding="utf-8")
    for path in (wrong, tmp_path / "missing.pem"):
        with pytest.raises(ConfigurationError, match="SPILE_REGISTRY_CAFILE"):
            settings(url="https://registry", cafile=path).open()


def test_a_user_name_with_a_colon_is_refused(settings):
    """Basic authentication could not tell it from the password."""
    with pytest.raises(ConfigurationError, match="without a colon"):
        settings(url="https://registry", username="a:b", password="c").open()
