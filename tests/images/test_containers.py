"""Each image on its own: nothing in it that a step has no use for, nothing writable, and its work done without a network."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from built_images import ROLES, ROOT, Built
from containers import HARDENED, UID, logs, output, python
from docker_engine import Engine, EngineError

from avskrift.whisper.package import ModelPackage

pytestmark = pytest.mark.images

_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^ ;\\]+)", re.MULTILINE)
_COMPILERS = "gcc g++ cc c++ c89 c99 clang tcc ld as make cmake rustc cargo go nvcc"
_INSTALLERS = "pip pip3 easy_install uv"
_READY_SECONDS = 60

of_each_role = pytest.mark.parametrize("role", ROLES)


@of_each_role
def test_an_image_runs_as_nobody_and_only_tmp_is_writable(engine: Engine, built: Built, role: str) -> None:
    look = "id -u; find / -xdev ! -type l -writable ! -path '/proc/*' ! -path '/dev/*' ! -path '/sys/*' 2>/dev/null; true"
    assert engine.run("run", "--rm", "--network", "none", built.references[role], "sh", "-c", look).split() == [UID, "/tmp"]


@of_each_role
def test_an_image_holds_no_compiler_no_installer_and_no_way_to_become_root(engine: Engine, built: Built, role: str) -> None:
    programs, pip = f"command -v {_COMPILERS} {_INSTALLERS}", "find / -xdev -path '*-packages/pip' -o -path '*-packages/pip-*'"
    look = f"{programs}; find / -xdev -type f -perm /6000; {pip}; true"
    assert output(engine, built.references[role], "sh", "-c", look, user="0") == ""


@of_each_role
def test_an_image_holds_what_was_locked_and_nothing_else(engine: Engine, built: Built, role: str) -> None:
    requirements = ROOT / "images" / role / ("requirements-cpu.txt" if role == "train" else "requirements.txt")
    locked = {_canonical(name): version for name, version in _PIN.findall(requirements.read_text(encoding="utf-8"))}
    code = "import importlib.metadata as m, json; print(json.dumps([(d.name, d.version) for d in m.distributions()]))"
    installed = {_canonical(name): version for name, version in json.loads(python(engine, built.references[role], code))}
    assert installed.pop("avskrift")
    assert installed == locked


@of_each_role
def test_every_step_of_an_image_can_be_started_by_kubeflow_as_any_user(engine: Engine, built: Built, role: str) -> None:
    components = sorted((ROOT / "components" / "avskrift" / "steps").glob("*/component.py"))
    steps = [path.parent.name for path in components if f'image("{role}")' in path.read_text(encoding="utf-8")]
    assert steps
    code = f"""
import getpass, importlib, os
os.environ["_KFP_RUNTIME"] = "true"
import kfp.dsl.executor_main
for step in {steps}:
    importlib.import_module(f"avskrift.steps.{{step}}.step")
print(getpass.getuser(), os.path.expanduser("~"))"""
    assert python(engine, built.references[role], code, user="12345:0") == "avskrift /tmp"


def test_data_reads_and_splits_the_demo_recordings(engine: Engine, built: Built) -> None:
    code = """
from avskrift.steps.prepare.step import Config, run
metrics = run(Config(source="demo:tiny", out="/tmp/dataset")).metrics()
print(metrics["train_clips"], metrics["test_clips"], metrics["rejected_clips"])"""
    assert python(engine, built.references["data"], code).splitlines()[-1] == "24.0 8.0 0.0"


def test_data_has_neither_torch_nor_what_speaks_to_a_cluster_or_a_registry(engine: Engine, built: Built) -> None:
    code = "import importlib.util as u; print([n for n in ('torch', 'kubernetes', 'mlflow') if u.find_spec(n)])"
    assert python(engine, built.references["data"], code) == "[]"


def test_train_trains_and_does_without_a_compiler_where_one_is_asked_for(
    engine: Engine, built: Built, readable_whisper: Path, tiny_dataset: Path
) -> None:
    code = """
from avskrift.steps.fine_tune.step import Config, run
from avskrift.training.config import TrainingConfig
training = TrainingConfig(max_steps=2, batch_seconds=4.0, compile="whole")
result = run(Config(dataset="/dataset", base_model="/model", out="/tmp/out", report="/tmp/report", training=training))
print(result.figures()["steps"])"""
    mounts = {readable_whisper: "/model", tiny_dataset: "/dataset"}
    assert float(python(engine, built.references["train"], code, mounts=mounts).splitlines()[-1]) == 2


def test_ops_finds_the_baseline_in_a_registry_of_its_own(engine: Engine, built: Built) -> None:
    code = """
from avskrift.steps.find_baseline.step import Config, run
print(run(Config(base_model="openai/whisper-small", model_name="avskrift-sv", tracking_uri="sqlite:////tmp/mlflow.db")).uri)"""
    assert python(engine, built.references["ops"], code).splitlines()[-1] == "openai/whisper-small"


@pytest.fixture(scope="module")
def served(engine: Engine, built: Built, tiny_package: ModelPackage) -> Iterator[str]:
    """A container of the serving image that has just been told to serve the tiny model."""
    volume = f"{tiny_package.folder}:/mnt/models:ro"
    container = engine.run("run", "--detach", *HARDENED, "--user", UID, "--volume", volume, built.references["serving"]).strip()
    yield container
    engine.run("rm", "--force", container)


def test_serving_becomes_ready_transcribes_and_stops_when_told(engine: Engine, served: str) -> None:
    ready = "import httpx; httpx.get('http://127.0.0.1:8080/v2/health/ready').raise_for_status()"
    deadline = time.monotonic() + _READY_SECONDS
    while not _succeeds(engine, served, ready):
        assert time.monotonic() < deadline, logs(engine, served)
        time.sleep(0.5)
    transcribe = """
import httpx, io, numpy, soundfile
recording = io.BytesIO()
soundfile.write(recording, numpy.zeros(16_000), 16_000, format="WAV")
asked = {"model": "avskrift", "language": "sv"}
files = {"file": ("a.wav", recording.getvalue())}
answer = httpx.post("http://127.0.0.1:8080/openai/v1/audio/transcriptions", files=files, data=asked, timeout=60)
print(answer.status_code, "text" in answer.json())"""
    assert engine.run("exec", served, "python", "-c", transcribe).split() == ["200", "True"]
    engine.run("stop", "--time", "30", served)
    assert engine.run("inspect", "--format", "{{.State.ExitCode}}", served).strip() == "0", logs(engine, served)


def _succeeds(engine: Engine, container: str, code: str) -> bool:
    try:
        engine.run("exec", container, "python", "-c", code)
    except EngineError:
        return False
    return True


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
