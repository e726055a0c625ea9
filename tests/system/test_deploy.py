"""Dockerfile, compose file and alert rules agree with the program; no container engine needed."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from prometheus_client.parser import text_string_to_metric_families

from spile.adapters.kafka import KafkaSettings
from spile.adapters.kafka._environment import _variable
from spile.adapters.publishing import AuditSettings, RedactionSettings
from spile.services.archiver.stores import ArchiveSettings
from spile.services.command._catalogue import CatalogueSettings
from spile.services.command._run import _WORKERS
from spile.services.runtime import WorkerSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MEMBERS = ("spi", "topics", "adapters", "testkit", "services")
SHARED_STAGES = {"build", "base"}
PINNED = re.compile(r"^(?P<name>[\w./-]+):(?P<tag>[\w.-]+)(@sha256:[0-9a-f]{64})?$")
STORES = {"SPILE_ARCHIVE", "SPILE_STORE"}
OURS = re.compile(r"^(spile|events|processing)_")


class Stage:
    """One FROM of the Dockerfile with the instructions that follow it."""

    def __init__(self, name, parent):
        self.name = name
        self.parent = parent
        self.instructions = []

    def all(self, keyword):
        """Return the arguments of an instruction, those of the parent stage first."""
        inherited = self.parent.all(keyword) if isinstance(self.parent, Stage) else []
        return inherited + [text for word, text in self.instructions if word == keyword]

    @property
    def environment(self):
        """Return ENV as a dictionary."""
        found = {}
        for text in self.all("ENV"):
            found |= dict(pair.split("=", 1) for pair in text.split())
        return found


def read_stages():
    """Parse deploy/Dockerfile: comments out, continued lines joined."""
    lines = [
        line
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    stages, arguments = {}, {}
    for line in filter(None, map(str.strip, "\n".join(lines).replace("\\\n", " ").split("\n"))):
        word, text = line.split(None, 1)
        if word == "FROM":
            source, _, name = text.partition(" AS ")
            for argument, value in arguments.items():
                source = source.replace(f"${{{argument}}}", value)
            stage = stages[name] = Stage(name, stages.get(source, source))
        elif word == "ARG" and not stages:
            argument, _, value = text.partition("=")
            arguments[argument] = value
        else:
            stage.instructions.append((word, text))
    return stages


STAGES = read_stages()
TARGETS = [name for name in STAGES if name not in SHARED_STAGES]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OWN = [name for name, service in SERVICES.items() if service["image"].startswith("spile-")]


def pinned(path):
    """Return the packages of a lock file: name to version and hashes."""
    entries = re.findall(r"^([\w.-]+)==((?:.*\\\n)+.*)$", path.read_text(), re.MULTILINE)
    return dict(entries)


@pytest.mark.parametrize("worker", _WORKERS)
def test_every_worker_has_an_image_that_runs_it(worker):
    """Each worker of `spile run` is a target of the Dockerfile and a service of compose.yaml."""
    assert json.loads(STAGES[worker].all("ENTRYPOINT")[-1]) == ["spile", "run", worker]
    assert SERVICES[worker]["build"]["target"] == worker


@pytest.mark.parametrize("target", TARGETS)
def test_images_run_as_a_numbered_user(target):
    """Kubernetes can check `runAsNonRoot` only on a number."""
    assert STAGES[target].all("USER")[-1] == "10001:10001"
    assert "HEALTHCHECK" in [word for word, _ in STAGES[target].instructions]


def test_images_download_only_what_a_hash_names():
    """No ADD, no remote file, and every pip either checks hashes or stays offline."""
    for stage in STAGES.values():
        assert not stage.all("ADD")
        assert not [text for text in stage.all("COPY") if "://" in text]
        for command in (c for text in stage.all("RUN") for c in text.split("&&") if "/pip " in c):
            assert "--require-hashes" in command or "--no-index" in command, command
        if not isinstance(stage.parent, Stage):
            assert PINNED.match(stage.parent), stage.parent


def test_images_hold_no_secret_and_no_tests():
    """What is copied is in the allow list, and no ARG or ENV is named like a secret."""
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert allowed[1] == "*"
    assert not [line for line in allowed if line.startswith("!") and "test" in Path(line).parts]
    for stage in STAGES.values():
        for text in stage.all("ARG") + stage.all("ENV"):
            assert not re.search(r"PASSWORD|SECRET|TOKEN|_KEY\b", text.upper())
        for text in stage.all("COPY"):
            sources = text.split()[:-1]
            if not sources[0].startswith("--from="):
                listed = {line[1:].split("/")[0] for line in allowed if line.startswith("!")}
                assert {source.split("/")[0] for source in sources} <= listed


@pytest.mark.parametrize("target", TARGETS)
def test_images_write_below_var_lib_spile_only(target):
    """Home, working directory, store and volumes lie where the read-only root is writable."""
    stage = STAGES[target]
    paths = [*stage.all("VOLUME"), stage.all("WORKDIR")[-1], stage.environment["HOME"]]
    paths += [value for name, value in stage.environment.items() if name in STORES]
    assert all(Path(path).is_relative_to("/var/lib/spile") for path in paths)


def test_dockerfile_passes_hadolint():
    """Hadolint finds nothing, not even a hint."""
    hadolint = Path(sys.executable).parent / "hadolint"
    ran = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_image_lock_is_the_closure_of_the_services():
    """What the five distributions need at run time is in the lock, and nothing else."""
    wanted, queue = set(), [Requirement("spile-services")]
    while queue:
        asked = queue.pop()
        for text in importlib.metadata.requires(asked.name) or []:
            requirement = Requirement(text)
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ["", *asked.extras]):
                if name not in wanted or requirement.extras:
                    queue.append(requirement)
                wanted.add(name)
    wanted = {name for name in wanted if not name.startswith("spile-")}
    locked = pinned(DEPLOY / "requirements.lock")
    conditional = {name for name, text in locked.items() if ";" in text.split("\n")[0]}
    assert wanted <= set(locked)
    assert set(locked) <= wanted | conditional


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_image_locks_have_hashes_and_no_host(name):
    """The images get what the developers tested: same versions, same hashes."""
    text = (DEPLOY / name).read_text()
    assert "://" not in text
    locked, developed = pinned(DEPLOY / name), pinned(ROOT / "requirements.lock")
    assert locked
    for package, entry in locked.items():
        assert "--hash=sha256:" in entry
        assert package not in developed or entry == developed[package]


def test_every_command_runs_on_the_image_lock():
    """No module behind the `spile` command needs a package that the images do not have."""
    program = """
import importlib, json, pkgutil, sys
import spile.services.archiver.__main__
import spile.services.command, spile.services.persistence.__main__
for module in pkgutil.iter_modules(spile.services.command.__path__):
    importlib.import_module(f"spile.services.command.{module.name}")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    packages = importlib.metadata.packages_distributions()
    used = {
        re.sub(r"[-_.]+", "-", name).lower()
        for module in json.loads(ran.stdout)
        for name in packages.get(module, ())[:1]
    }
    used = {name for name in used if not name.startswith("spile")}
    assert "aiokafka" in used
    # Imported where they happen to be, by rich and by httpx.
    welcome = {"setuptools", "attrs", "zstandard"}
    assert used <= set(pinned(DEPLOY / "requirements.lock")) | welcome


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_hardened(name):
    """Non-root, no capabilities, no new privileges, bounded memory, a tag, loopback ports."""
    service = SERVICES[name]
    assert int(service["user"].split(":")[0]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not {"privileged", "network_mode", "pid", "cap_add"} & set(service)
    # Redpanda writes its own configuration at each start.
    assert name == "redpanda" or service["read_only"] is True
    assert PINNED.match(service["image"])["tag"] != "latest"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_own_images_carry_the_version_of_the_project():
    """A release does not reuse the tag of the one before."""
    version = tomllib.loads((ROOT / "services" / "pyproject.toml").read_text())["project"][
        "version"
    ]
    assert {SERVICES[name]["image"].split(":")[1] for name in OWN} == {version}


def test_services_start_in_order():
    """Broker healthy, topics made, worker up: a worker never meets a cluster without topics."""
    assert SERVICES["topics"]["command"] == ["topics", "apply"]
    for name in (name for name in SERVICES if SERVICES[name].get("restart") == "unless-stopped"):
        assert "healthcheck" in SERVICES[name], name
    for worker in _WORKERS:
        conditions = SERVICES[worker]["depends_on"]
        assert conditions["topics"]["condition"] == "service_completed_successfully"
        assert SERVICES[worker]["networks"][0] == "bus"
    assert SERVICES["topics"]["depends_on"]["redpanda"]["condition"] == "service_healthy"
    assert COMPOSE["networks"]["bus"]["internal"] is True
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            awaited = how["condition"] == "service_healthy"
            assert not awaited or "healthcheck" in SERVICES[other], f"{name} waits for {other}"


@pytest.mark.parametrize("name", OWN)
def test_settings_of_services_are_accepted(name):
    """The program itself loads the environment of the image and of the compose file."""
    service = SERVICES[name]
    given = STAGES[service["build"]["target"]].environment | service["environment"]
    given = {key: str(value) for key, value in given.items() if key.startswith("SPILE_")}
    load = (
        "import spile.services.command._run as m; m.load_process_settings()"
        if name in _WORKERS
        else "import spile.services.command._topics as m; m.KafkaSettings.load()"
    )
    outside = {key: value for key, value in os.environ.items() if not key.startswith("SPILE_")}
    ran = subprocess.run(
        [sys.executable, "-c", load],
        env=outside | given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.splitlines()[-3:]


def test_prometheus_scrapes_every_worker():
    """The targets are the services of the compose file at the port that their image serves."""
    jobs = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    targets = {
        target
        for job in jobs
        if job["job_name"] == "spile"
        for static in job["static_configs"]
        for target in static["targets"]
    }
    ports = {worker: STAGES[worker].environment["SPILE_HTTP_PORT"] for worker in _WORKERS}
    assert targets == {f"{worker}:{port}" for worker, port in ports.items()}
    for worker, port in ports.items():
        assert STAGES[worker].all("EXPOSE") == [port]


def read_rules():
    """Return the alert rules."""
    groups = yaml.safe_load((DEPLOY / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_rules_say_what_to_do():
    """Each alert has a unique name, a known severity, a summary and a description."""
    rules = read_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_promtool_agrees_where_it_is():
    """The unit tests name real alerts; where promtool is, they pass and the rest is valid."""
    units = yaml.safe_load((ROOT / "tests" / "system" / "rules.test.yaml").read_text())
    tried = set(re.findall(r"Spile\w+", json.dumps(units)))
    assert tried <= {rule["alert"] for rule in read_rules()}
    for arguments in (
        ["check", "config", "deploy/prometheus.yaml"],
        ["test", "rules", "tests/system/rules.test.yaml"],
    ):
        if promtool := shutil.which("promtool"):
            ran = subprocess.run(
                [promtool, *arguments],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def worker_metrics(kafka, tmp_path_factory):
    """Return what a real worker process shows at /metrics, and stop it."""
    environment = os.environ | {
        "SPILE_BOOTSTRAP_SERVERS": kafka,
        "SPILE_ENVIRONMENT": "test",
        "SPILE_STORE": str(tmp_path_factory.mktemp("store") / "events.db"),
        "SPILE_LOG_FORMAT": "json",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "spile.services.persistence"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = next(json.loads(line)["http"] for line in process.stderr if '"http"' in line)
            with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
                yield list(text_string_to_metric_families(answer.read().decode()))
        finally:
            process.terminate()
            process.stderr.read()
            process.wait(30)


def own_names(families):
    """Return our metric names as Prometheus stores them: name to (type, sample names)."""
    names = {}
    for family in families:
        if OURS.match(family.name) and not family.name.endswith("_created"):
            names[family.name + "_total" * (family.type == "counter")] = family.type
    return names


def test_rules_use_metrics_that_workers_show(worker_metrics):
    """Every name is a metric of a running worker or of the audit, or Prometheus' own `up`."""
    known = set(documented("Audit"))
    for name, kind in own_names(worker_metrics).items():
        series = [f"{name}_{end}" for end in ("bucket", "sum", "count")]
        known.update(series if kind == "histogram" else [name])
    used = set()
    for rule in read_rules():
        found = set(re.findall(r"\b(?:spile|events|processing)_\w+", rule["expr"]))
        assert found or rule["expr"].startswith("up{"), rule["alert"]
        used |= found
    assert used <= known


def test_workers_show_readiness_without_being_asked(worker_metrics):
    """`spile_ready` has a value at the first scrape, also where nobody calls /readyz."""
    samples = [family.samples for family in worker_metrics if family.name == "spile_ready"]
    assert [sample.labels for sample in samples[0]] == [{"group": "persistence"}]


def documented(heading):
    """Return the rows of the table below a heading of docs/deploy.md, by first cell."""
    section = (
        (ROOT / "docs" / "deploy.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    )
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1].strip("`") for row in rows}


def test_every_metric_is_documented(worker_metrics):
    """docs/deploy.md lists the metrics of a running worker, no more and no less."""
    assert set(documented("Metrics")) == set(own_names(worker_metrics))


def test_every_setting_is_documented():
    """docs/deploy.md lists each variable with its default."""
    expected = {}
    kinds = (
        KafkaSettings,
        RedactionSettings,
        AuditSettings,
        WorkerSettings,
        ArchiveSettings,
        CatalogueSettings,
    )
    for kind in kinds:
        for name, field in kind.model_fields.items():
            default = field.default
            text = str(default).lower() if isinstance(default, bool) else str(default)
            expected[_variable(kind, name)] = "" if default is None else text
    assert documented("Environment variables") == expected
