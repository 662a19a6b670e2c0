"""Many promote at once and one wins: MLflow has no compare-and-set, so ours must be one."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow_server import MlflowServer

from avskrift.errors import ConflictError, RegistryError
from avskrift.registry import promotion, tags
from avskrift.registry.mlflow_registry import MlflowRegistry, open_registry
from avskrift.registry.promotion import PromotionLock, file_lock, promote
from avskrift.registry.protocol import CHALLENGER, CHAMPION, ModelVersion, RunKey

THREADS, ROUNDS = 50, 4


@pytest.fixture
def registry(server: MlflowServer) -> MlflowRegistry:
    return open_registry()


@pytest.fixture
def name(registry: MlflowRegistry, request: pytest.FixtureRequest) -> str:
    """A model of the test's own with three versions; the first one is champion."""
    name = str(request.node.name).replace("[", "-").replace("]", "")
    run_id = registry.open_run(RunKey(pipeline_run_id="promotions", experiment="swedish"))
    for number in range(3):
        registry.register(name, "s3://bucket/package", run_id, {tags.PIPELINE_RUN_ID: f"run-{number}"})
    registry.set_alias(name, CHAMPION, "1")
    return name


def champion(registry: MlflowRegistry, name: str, alias: str = CHAMPION) -> str:
    found = registry.version_of_alias(name, alias)
    return found.version if found else ""


def waiting_lock(_: Path) -> PromotionLock:
    """A lock for which one waits: all fifty come in, one after the other."""
    mutex = threading.Lock()

    @contextmanager
    def lock(_: str) -> Iterator[None]:
        with mutex:
            yield

    return lock


@pytest.mark.parametrize("made_lock", [file_lock, waiting_lock])
def test_of_fifty_that_promote_at_once_one_wins_each_time(
    registry: MlflowRegistry, name: str, tmp_path: Path, made_lock: Callable[[Path], PromotionLock]
) -> None:
    """Fifty runs have each compared their version with the champion that stands, and want to take its place."""
    run_id = registry.open_run(RunKey(pipeline_run_id="promotions", experiment="swedish"))
    made = [registry.register(name, "s3://b/p", run_id, {tags.PIPELINE_RUN_ID: f"of-fifty-{number}"}).version for number in range(THREADS)]
    lock, barrier = made_lock(tmp_path), threading.Barrier(THREADS)

    def take(version: str, expected: str) -> str | None:
        barrier.wait()
        try:
            promote(registry, name, version, expected=expected, lock=lock)
        except ConflictError:
            return None
        return version

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(ROUNDS):
            before = champion(registry, name)
            candidates = [version for version in made if version != before]
            candidates += ["2"] * (THREADS - len(candidates))
            random.Random(before).shuffle(candidates)
            winners = [version for version in pool.map(lambda one, seen=before: take(one, seen), candidates) if version]
            assert len(winners) == 1
            assert champion(registry, name) == winners[0] != before


def test_of_several_processes_one_wins(registry: MlflowRegistry, name: str, tmp_path: Path) -> None:
    code = (
        "import sys; from avskrift.registry.mlflow_registry import open_registry; from avskrift.steps.boundary import boundary\n"
        "from avskrift.registry.promotion import *; from pathlib import Path\n"
        "registry = open_registry(); registry.aliases(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
        "with boundary('deploy'): promote(registry, sys.argv[1], sys.argv[2], expected='1', lock=file_lock(Path(sys.argv[3])))"
    )
    command = [sys.executable, "-c", code, name]
    processes = [
        subprocess.Popen([*command, version, str(tmp_path)], stdin=-1, stdout=-1, stderr=-1, text=True) for version in ("2", "3", "2")
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    said = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    won = [version for version, (_, code_) in zip(("2", "3", "2"), said, strict=True) if code_ == 0]
    # The same version twice may succeed twice: the second finds its work done.
    assert won in (["2"], ["3"], ["2", "2"])
    assert champion(registry, name) == won[0]
    for stderr, code_ in said:
        assert code_ in (0, ConflictError.exit_code)
        assert code_ == 0 or "avskrift deploy: " in stderr


def test_a_champion_that_another_run_made_meanwhile_is_left_alone_and_named(registry: MlflowRegistry, name: str, tmp_path: Path) -> None:
    assert promote(registry, name, "2", expected="1", lock=file_lock(tmp_path))
    with pytest.raises(ConflictError, match=r"champion of .* is version 2, not version 1: .* version 3 .* models:/.*@champion") as lost:
        promote(registry, name, "3", expected="1", lock=file_lock(tmp_path))
    assert lost.value.exit_code == 61
    assert champion(registry, name) == "2"


def test_a_first_champion_needs_that_there_is_none(registry: MlflowRegistry, name: str, tmp_path: Path) -> None:
    assert promote(registry, name, "2", expected="", lock=file_lock(tmp_path), alias=CHALLENGER)
    with pytest.raises(ConflictError, match="is version 2, not no version"):
        promote(registry, name, "3", expected="", lock=file_lock(tmp_path), alias=CHALLENGER)


def test_a_promotion_that_is_repeated_has_nothing_to_do(registry: MlflowRegistry, name: str, tmp_path: Path) -> None:
    assert promote(registry, name, "2", expected="1", lock=file_lock(tmp_path))
    assert not promote(registry, name, "2", expected="1", lock=file_lock(tmp_path))


def test_going_back_is_a_promotion_too(registry: MlflowRegistry, name: str, tmp_path: Path) -> None:
    promote(registry, name, "2", expected="1", lock=file_lock(tmp_path))
    promote(registry, name, "1", expected="2", lock=file_lock(tmp_path))
    assert champion(registry, name) == "1"


def test_a_version_that_is_not_there_moves_nothing(registry: MlflowRegistry, name: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError):
        promote(registry, name, "99", expected="1", lock=file_lock(tmp_path))
    assert champion(registry, name) == "1"
    assert promote(registry, name, "2", expected="1", lock=file_lock(tmp_path)), "the lock was not left"


def test_while_somebody_holds_the_lock_nothing_is_read_or_moved(registry: MlflowRegistry, name: str, tmp_path: Path) -> None:
    with file_lock(tmp_path)(name), pytest.raises(ConflictError, match=r"another promotion of .* is under way on this machine"):
        promote(registry, name, "2", expected="1", lock=file_lock(tmp_path))
    assert champion(registry, name) == "1"
    with file_lock(tmp_path)("another/model"):
        assert promote(registry, name, "2", expected="1", lock=file_lock(tmp_path))


def test_one_that_was_paused_beyond_its_lease_does_not_believe_that_it_won(registry: MlflowRegistry, name: str) -> None:
    """The lock is lost while it is held, and another moves the alias right after us."""

    @contextmanager
    def lost(_: str) -> Iterator[None]:
        yield

    class Overtaken(MlflowRegistry):
        def set_alias(self, name: str, alias: str, version: str) -> None:
            super().set_alias(name, alias, version)
            super().set_alias(name, alias, "3")

    lock: PromotionLock = lost
    overtaken = Overtaken(registry.uri)
    with pytest.raises(ConflictError, match="is version 3, not version 2"):
        promote(overtaken, name, "2", expected="1", lock=lock)
    assert champion(registry, name) == "3"


class Unsure(MlflowRegistry):
    """Its answers get lost: to ``lost`` requests to move an alias, which are carried out, and to ``unseen`` questions after the first."""

    lost, unseen, put_back = 0, 0, True
    asked: str = ""

    def set_alias(self, name: str, alias: str, version: str) -> None:
        if self.asked and not self.put_back:
            raise RegistryError("MLflow is away")
        super().set_alias(name, alias, version)
        self.asked = self.asked or version
        if self.lost:
            self.lost -= 1
            raise RegistryError("no answer")

    def version_of_alias(self, name: str, alias: str) -> ModelVersion | None:
        if self.asked and self.unseen:
            self.unseen -= 1
            raise RegistryError("MLflow is away")
        return super().version_of_alias(name, alias)


@pytest.fixture
def unsure(registry: MlflowRegistry, monkeypatch: pytest.MonkeyPatch) -> Unsure:
    monkeypatch.setattr(promotion, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(promotion, "_PAUSE_SECONDS", 0.01)
    return Unsure(registry.uri)


@pytest.mark.parametrize("unseen", [0, 3])
def test_an_answer_that_was_lost_is_no_failure_where_the_alias_has_moved(unsure: Unsure, name: str, tmp_path: Path, unseen: int) -> None:
    unsure.lost, unsure.unseen = 1, unseen
    assert promote(unsure, name, "2", expected="1", lock=file_lock(tmp_path))
    assert champion(unsure, name) == "2"


def test_a_request_that_is_carried_out_after_its_answer_was_given_up_is_no_failure(
    registry: MlflowRegistry, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(MlflowRegistry):
        def set_alias(self, name: str, alias: str, version: str) -> None:
            threading.Timer(0.3, super().set_alias, (name, alias, version)).start()
            raise RegistryError("no answer")

    monkeypatch.setattr(promotion, "_PAUSE_SECONDS", 0.05)
    assert promote(Late(registry.uri), name, "2", expected="1", lock=file_lock(tmp_path))
    assert champion(registry, name) == "2"


def test_an_alias_that_cannot_be_seen_is_put_back_and_the_error_says_so(unsure: Unsure, name: str, tmp_path: Path) -> None:
    unsure.lost, unsure.unseen = 1, 10_000
    with pytest.raises(RegistryError, match=r"no answer; whether champion of \S+ had moved could not be seen, .* put back to version 1"):
        promote(unsure, name, "2", expected="1", lock=file_lock(tmp_path))
    unsure.unseen = 0
    assert champion(unsure, name) == "1"


def test_a_first_alias_that_cannot_be_seen_is_taken_away_again(unsure: Unsure, name: str, tmp_path: Path) -> None:
    unsure.lost, unsure.unseen = 1, 10_000
    with pytest.raises(RegistryError, match="put back to no version"):
        promote(unsure, name, "2", expected="", lock=file_lock(tmp_path), alias=CHALLENGER)
    unsure.unseen = 0
    assert champion(unsure, name, CHALLENGER) == ""
    unsure.remove_alias(name, CHALLENGER)


def test_an_alias_that_can_neither_be_seen_nor_put_back_is_told_with_where_to_look(unsure: Unsure, name: str, tmp_path: Path) -> None:
    unsure.lost, unsure.unseen, unsure.put_back = 1, 10_000, False
    with pytest.raises(
        RegistryError, match=r"no answer; champion of \S+ was version 1 and may be version 2 now.*look at models:/\S+@champion"
    ):
        promote(unsure, name, "2", expected="1", lock=file_lock(tmp_path))


def test_a_move_that_mlflow_confirmed_is_believed_where_it_cannot_be_seen(unsure: Unsure, name: str, tmp_path: Path) -> None:
    unsure.unseen = 10_000
    assert promote(unsure, name, "2", expected="1", lock=file_lock(tmp_path))
    unsure.unseen = 0
    assert champion(unsure, name) == "2"


def test_a_third_version_that_stands_there_after_a_lost_answer_is_a_conflict(registry: MlflowRegistry, name: str, tmp_path: Path) -> None:
    class Overtaken(MlflowRegistry):
        def set_alias(self, name: str, alias: str, version: str) -> None:
            super().set_alias(name, alias, "3")
            raise RegistryError("no answer")

    with pytest.raises(ConflictError, match="is version 3, not version 2"):
        promote(Overtaken(registry.uri), name, "2", expected="1", lock=file_lock(tmp_path))
