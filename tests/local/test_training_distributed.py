"""Two processes under torchrun train as one does: the step starts them, stops them, and leaves none behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import small_training
from dataset_folder import write_dataset
from running import processes_of, wait_until
from small_training import spoken
from torch.distributed.run import config_from_args, parse_args

from avskrift.corpus.dataset import Dataset
from avskrift.errors import DatasetError, PreemptedError, StepFailedError, UsageError
from avskrift.steps.fine_tune import launch
from avskrift.steps.fine_tune.step import Config, Result, run
from avskrift.training import planning
from avskrift.training.checkpoint import Checkpoints, Progress
from avskrift.training.config import TrainingConfig
from avskrift.training.distributed import World, world_of_environment
from avskrift.training.plan import BUCKETS, Plan, plan_run
from avskrift.training.report import CURVES_FILE

pytestmark = pytest.mark.runs

whisper = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before

# A rate at which Adam does not make whole steps of how sums are rounded, and nothing that is left to chance within a part.
ONE = TrainingConfig(
    epochs=2,
    learning_rate=1e-4,
    batch_seconds=8,
    previous_text_share=0.3,
    label_smoothing=0.1,
    ema_decay=0.9,
    validate_steps=2,
    checkpoint_minutes=0,
    device="cpu",
    threads=1,
    processes=1,
)
TWO = replace(ONE, processes=2)
LONG = 20  # epochs: some 150 steps, so that it is met while it trains

# A job that begins as a person's does and says where it stands.
STEP = """
import json, sys
from avskrift.steps.boundary import boundary
from avskrift.steps.fine_tune.step import Config, run
from avskrift.training import planning
from avskrift.training.checkpoint import Checkpoints, Progress
from avskrift.training.config import TrainingConfig

raw = json.loads(sys.argv[1])
with boundary("fine_tune"):
    run(Config(**raw | {"training": TrainingConfig(**raw["training"])}))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    held = [spoken(f"clip-{number}", seconds=0.6 + 0.1 * number) for number in range(18)]
    validation = [spoken(f"heard-{number}", seconds=0.4) for number in range(20)]  # a batch for each process
    return write_dataset(tmp_path_factory.mktemp("dataset"), {"train": held, "validation": validation})


@dataclass(frozen=True)
class Ran:
    config: Config
    result: Result

    @property
    def losses(self) -> list[float]:
        return [value for _, name, value in self.result.training.curve if name == "train_loss"]

    @property
    def wers(self) -> list[tuple[int, float]]:
        return [(step, value) for step, name, value in self.result.training.curve if name == "validation_wer"]


@pytest.fixture(scope="module")
def alone(whisper: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    config = _config(whisper, dataset, tmp_path_factory.mktemp("alone"), ONE)
    return Ran(config, run(config))


def test_two_processes_have_the_losses_and_the_error_rates_of_one(whisper: Path, dataset: Dataset, tmp_path: Path, alone: Ran) -> None:
    config = _config(whisper, dataset, tmp_path, TWO)
    together = Ran(config, run(config))
    assert (together.result.training.processes, alone.result.training.processes) == (2, 1)
    assert together.losses == pytest.approx(alone.losses, rel=1e-4)
    assert together.wers == alone.wers
    assert together.result.training.best_step == alone.result.training.best_step
    assert together.result.training.examples == alone.result.training.examples
    assert (Path(config.out) / "model.safetensors").is_file()
    assert len((Path(config.report) / CURVES_FILE).read_text(encoding="utf-8").splitlines()) == len(alone.result.training.curve)
    assert list(Path(str(config.checkpoints)).iterdir()) == []


@dataclass(frozen=True)
class Preempted:
    """A job of two processes whose parent got SIGTERM, what it said, and its checkpoints."""

    config: Config
    code: int
    said: str
    folder: Path
    left: list[int]

    @property
    def saved(self) -> int:
        return int(self.said.split("after step ")[1].split()[0])


@pytest.fixture(scope="module")
def preempted(whisper: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Preempted:
    folder = tmp_path_factory.mktemp("preempted")
    config, home = _config(whisper, dataset, folder, replace(TWO, epochs=LONG, validate_steps=0)), folder / "home"
    process = _start(config, home)
    try:
        wait_until(lambda: bool(_checkpoints(folder)), what="a checkpoint")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    return Preempted(config, process.returncode, said, folder, processes_of(home))


def test_sigterm_of_the_parent_saves_the_state_and_ends_all_processes(preempted: Preempted) -> None:
    assert preempted.code == PreemptedError.exit_code, preempted.said
    assert preempted.said.splitlines()[-1].startswith("avskrift fine_tune: stopped by SIGTERM after step")
    assert f"step-{preempted.saved:08}" in _checkpoints(preempted.folder)
    assert not Path(preempted.config.out).exists()
    assert preempted.left == []


def test_one_process_goes_on_from_a_checkpoint_of_two(preempted: Preempted, tmp_path: Path) -> None:
    before = _losses(preempted.folder)
    shutil.copytree(preempted.folder / "checkpoints", tmp_path / "checkpoints")
    training = replace(preempted.config.training, processes=1)
    again = Ran(preempted.config, run(replace(preempted.config, training=training, **_places(tmp_path))))
    assert again.losses[: preempted.saved] == before
    assert list((tmp_path / "checkpoints").iterdir()) == [], "the job was the same, and is done"

    whole = Ran(preempted.config, run(replace(preempted.config, training=training, **_places(tmp_path / "whole"))))
    assert len(again.losses) == len(whole.losses) > preempted.saved
    assert again.losses == pytest.approx(whole.losses, rel=1e-3)


def test_two_go_on_from_it_and_if_their_parent_is_killed_none_is_left_behind(preempted: Preempted, tmp_path: Path) -> None:
    shutil.copytree(preempted.folder / "checkpoints", tmp_path / "checkpoints")
    home, before = tmp_path / "home", _losses(preempted.folder)
    process = _start(replace(preempted.config, **_places(tmp_path)), home)
    try:
        wait_until(lambda: any(int(name[5:]) > preempted.saved for name in _checkpoints(tmp_path)), what="a later checkpoint")
        assert len(processes_of(home)) >= 4, "the parent, torchrun and two that train"
    finally:
        process.kill()
        _, said = process.communicate()
    assert f"checkpoint.resumed step={preempted.saved}" in said
    wait_until(lambda: processes_of(home) == [], what="none of its processes left")
    assert not (tmp_path / "model").exists()
    losses = _losses(tmp_path)
    assert losses[: preempted.saved] == before
    assert len(losses) > preempted.saved


def test_two_go_on_with_the_steps_of_a_machine_that_planned_others(
    whisper: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: Ran
) -> None:
    whole, stopped = (_config(whisper, dataset, tmp_path / name, ONE) for name in ("whole", "stopped"))
    with monkeypatch.context() as gpu:
        gpu.setattr(planning, "plan_run", _with_few_lengths)
        expected = Ran(whole, run(whole))
        gpu.setattr(Checkpoints, "save", _saves_until(3))
        with pytest.raises(KeyboardInterrupt):
            run(stopped)
    assert len(expected.losses) != len(alone.losses), "other settings, please: both machines plan the same"
    again = Ran(stopped, run(replace(stopped, training=TWO)))
    assert again.result.training.processes == 2
    assert again.losses[:3] == expected.losses[:3]
    assert again.losses == pytest.approx(expected.losses, rel=1e-4)
    assert again.wers == expected.wers


# A minute's checkpoint and torchrun's patience, thirty times as fast: 2 s to save, and of torchrun's own accord 1 s.
SLOW_TO_SAVE = """
import os, sys, time

if "RANK" in os.environ:
    from avskrift.training import checkpoint

    save = checkpoint.Checkpoints.save

    def slowly(self, *given, wait=False):
        if wait:
            time.sleep(2)
        save(self, *given, wait=wait)

    checkpoint.Checkpoints.save = slowly
elif "torch.distributed.run" in sys.orig_argv:
    from torch.distributed.elastic.multiprocessing.api import PContext

    close = PContext.close
    PContext.close = lambda self, death_sig=None, timeout=30: close(self, death_sig, timeout / 30)
"""


@pytest.mark.parametrize("told", ["the step", "the second process"])
def test_a_checkpoint_that_takes_longer_than_torchruns_patience_is_still_saved(
    whisper: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """The second process alone: another node is drained. torchrun of this one then finds that a process has left, and stops the first."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_TO_SAVE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv(launch.SHUTDOWN_VARIABLE, raising=False)
    home = tmp_path / "home"
    config = _config(whisper, dataset, tmp_path, replace(TWO, epochs=LONG))
    process = _start(config, home)
    try:
        wait_until(lambda: _checkpoints(tmp_path) != [], what="a first checkpoint")
        (process if told == "the step" else _process_of_rank(home, 1)).send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == PreemptedError.exit_code, said
    (step,) = re.findall(r"stopped by SIGTERM after step (\d+) of \d+, which is saved", said.splitlines()[-1])
    assert f"step-{int(step):08}" in _checkpoints(tmp_path)
    assert processes_of(home) == []


@pytest.mark.parametrize(("said", "waits"), [("", 110), ("7", 7)])
def test_torchrun_waits_nearly_as_long_as_a_pod_has_or_as_a_person_says(
    whisper: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, waits: int
) -> None:
    heard: list[int] = []
    real = subprocess.Popen

    def started(command: list[str], *, env: dict[str, str], start_new_session: bool) -> subprocess.Popen[bytes]:
        assert command[1:3] == ["-m", "torch.distributed.run"]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            heard.append(config_from_args(parse_args(command[3:]))[0].shutdown_timeout)
        return real(["true"])

    monkeypatch.delenv(launch.SHUTDOWN_VARIABLE, raising=False)
    if said:
        monkeypatch.setenv(launch.SHUTDOWN_VARIABLE, said)
    monkeypatch.setattr(subprocess, "Popen", started)
    launch.run_as_node(_config(whisper, dataset, tmp_path, TWO))
    assert heard == [waits]


def test_what_a_process_fails_of_arrives_with_its_class_and_its_message(whisper: Path, dataset: Dataset, tmp_path: Path) -> None:
    clips = list(dataset.clips("train"))
    torn = [replace(clip, audio=clip.audio[:40]) if clip.clip_id == "clip-7" else clip for clip in clips]
    broken = write_dataset(tmp_path / "broken", {"train": torn, "validation": clips[:1]})
    before = _children()  # an earlier test of this process may have left a helper of a library's
    with pytest.raises(DatasetError, match="clip clip-7: its audio cannot be decoded"):
        run(_config(whisper, broken, tmp_path, TWO))
    assert not (tmp_path / "model").exists()
    assert _children() <= before


def test_processes_that_end_without_a_word_are_said_to(
    whisper: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif 'RANK' in os.environ:\n    os._exit(9)\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(StepFailedError, match=r"torchrun ended with \d+ and no process said why"):
        run(_config(whisper, dataset, tmp_path, TWO))


@pytest.mark.parametrize(
    "others", [(130, "stopped before it was finished"), (1, "unexpected RuntimeError: Connection closed by peer; this is a bug")]
)
def test_of_several_failures_the_first_cause_is_told_and_not_what_it_did_to_the_others(tmp_path: Path, others: tuple[int, str]) -> None:
    for rank, (code, message) in enumerate([others, (130, "stopped"), (11, "clip seven")]):
        (tmp_path / launch.FAILURE_FILE.format(rank=rank)).write_text(json.dumps({"exit_code": code, "message": message}), encoding="utf-8")
    failure = launch._failure(tmp_path, 1)
    assert (type(failure), str(failure)) == (DatasetError, "clip seven")


@pytest.mark.parametrize(
    ("given", "world"),
    [
        ({}, World()),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, World(3, 4, 1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "1"}, World(0, 1, 0, 1)),
    ],
)
def test_the_environment_says_which_of_how_many_processes_this_is(
    given: dict[str, str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert world_of_environment() == world


@pytest.mark.parametrize("given", [{"RANK": "1"}, {"WORLD_SIZE": "2"}, {"RANK": "one", "WORLD_SIZE": "2"}])
def test_half_an_environment_is_refused(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"(RANK|WORLD_SIZE) is '.*'; torchrun sets it to a number"):
        world_of_environment()


def _config(base: Path, dataset: Dataset, folder: Path, training: TrainingConfig) -> Config:
    return Config(dataset=dataset.folder, base_model=str(base), training=training, **_places(folder))


def _places(folder: Path) -> dict[str, Any]:
    return {"out": folder / "model", "report": folder / "model-training", "checkpoints": folder / "checkpoints"}


def _start(config: Config, home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STEP, json.dumps(asdict(config), default=str)]
    environment = os.environ | {"AVSKRIFT_HOME": str(home)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _with_few_lengths(*given: Any, static: bool, buckets: int, **more: Any) -> Plan:
    """As a GPU plans that compiles."""
    return plan_run(*given, static=True, buckets=BUCKETS, **more)


def _saves_until(step: int) -> Callable[..., None]:
    """Saves, until the process is stopped."""
    save = Checkpoints.save

    def saved(self: Checkpoints, parts: Any, progress: Progress, settings: Any, *, wait: bool) -> None:
        save(self, parts, progress, settings, wait=True)
        if progress.step == step:
            raise KeyboardInterrupt

    return saved


def _process_of_rank(home: Path, rank: int) -> psutil.Process:
    """The process that trains as this rank."""
    processes = [psutil.Process(number) for number in processes_of(home)]
    (found,) = (one for one in processes if one.environ().get("RANK") == str(rank) and "avskrift.steps.fine_tune" in one.cmdline())
    return found


def _checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("*/step-*"))


def _losses(folder: Path) -> list[float]:
    newest = max((folder / "checkpoints").glob("*/step-*"))
    curve = json.loads((newest / "state.json").read_text(encoding="utf-8"))["progress"]["curve"]
    return [value for _, name, value in curve if name == "train_loss"]


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))
