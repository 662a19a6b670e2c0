"""Checkpoints in S3: against SeaweedFS, through a line that answers with errors, holds requests back, or is dead."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import test_storage_s3 as seaweedfs
import torch
from botocore.exceptions import ClientError
from s3_line import GONE, Line, line_to

from avskrift.errors import CheckpointError, StorageError
from avskrift.storage import objects
from avskrift.storage.objects import ObjectStore
from avskrift.storage.paths import cache
from avskrift.training.checkpoint import Checkpoints, Progress, Restored

store = seaweedfs.store
credentials = seaweedfs.credentials

JOB, OTHER_JOB = "a" * 64, "b" * 64
FOLDER = JOB[:16]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "ATTEMPTS", 3)


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test may have sent the logs elsewhere."""
    monkeypatch.setattr(logging.getLogger("avskrift"), "propagate", True)


@pytest.fixture
def place(store: seaweedfs.Store, request: pytest.FixtureRequest) -> str:
    """A prefix of the test's own, with letters that URIs and keys spell differently."""
    return f"s3://{seaweedfs._BUCKET}/{request.node.name.partition('[')[0]}/körning #1"


@pytest.fixture
def line(store: seaweedfs.Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    with line_to(store.endpoint) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", line.endpoint)
        yield line


def test_another_machine_goes_on_where_the_last_one_was_lost(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    large = torch.rand(3_000_000)  # more than one part of an upload
    with Checkpoints(place, JOB) as checkpoints:
        sha256 = checkpoints.save_best({"w": large}, 3)
        progress = Progress(step=4, best_wer=0.5, best_step=3, best_sha256=sha256)
        checkpoints.save({"weights": {"w": large + 1}, "optimizer": {"0.step": torch.tensor(4.0)}}, progress, {"scale": 2.0})
    assert next((cache() / "checkpoints").rglob("step-*")).parent.name == FOLDER

    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "another-machine"))
    checkpoints = Checkpoints(place, JOB)
    restored = checkpoints.resume()
    assert restored is not None
    assert (restored.progress, restored.settings) == (progress, {"scale": 2.0})
    assert torch.equal(restored.parts["weights"]["w"], large + 1)
    assert torch.equal(restored.parts["optimizer"]["0.step"], torch.tensor(4.0))
    assert torch.equal(checkpoints.best(progress)["w"], large)


def test_an_empty_store_has_nothing_to_resume(place: str) -> None:
    assert Checkpoints(place, JOB).resume() is None


def test_the_store_keeps_the_newest_and_the_best_that_they_name_and_what_belongs_to_others(place: str) -> None:
    _save(Checkpoints(place, OTHER_JOB), 1)
    with Checkpoints(place, JOB) as checkpoints:
        progress = Progress()
        for step in (1, 2, 3, 4):
            if step < 4:
                progress = Progress(best_wer=0.5, best_step=step, best_sha256=checkpoints.save_best(_parts(step)["weights"], step))
            checkpoints.save(_parts(step), replace(progress, step=step))
    assert _stored(place) == [
        "best-00000003.safetensors",
        *(f"step-0000000{step}/{name}" for step in (3, 4) for name in ("optimizer.safetensors", "state.json", "weights.safetensors")),
    ]
    assert Checkpoints(place, OTHER_JOB).resume() is not None


def test_of_both_places_the_newest_is_used(place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: Line) -> None:
    _save(Checkpoints(place, JOB), 1)
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "another-machine"))
    _save(Checkpoints(place, JOB), 2)
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "avskrift-home"))
    assert _resumed(place).progress.step == 2
    line.rule = lambda method, path: GONE if method == "PUT" else 0
    _save(Checkpoints(place, JOB), 3)
    line.rule = lambda method, path: 0
    assert _resumed(place).progress.step == 3


def test_what_is_broken_here_is_fetched_from_the_store(place: str) -> None:
    with Checkpoints(place, JOB) as checkpoints:
        sha256 = checkpoints.save_best(_parts(2)["weights"], 2)
        checkpoints.save(_parts(2), Progress(step=2, best_wer=0.5, best_step=2, best_sha256=sha256))
    for name in ("step-00000002/weights.safetensors", "best-00000002.safetensors"):
        file = next(cache().rglob(name))
        os.truncate(file, file.stat().st_size // 2)
    restored = _resumed(place)
    assert restored.progress.step == 2
    assert torch.equal(restored.parts["weights"]["w"], torch.full((2, 2), 2.0))
    best = next(cache().rglob("best-00000002.safetensors"))
    best.unlink()
    assert torch.equal(Checkpoints(place, JOB).best(restored.progress)["w"], torch.full((2, 2), 2.0))


@pytest.mark.parametrize("name", ["weights.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut short", "bit flipped", "deleted"])
def test_the_one_before_is_used_if_the_newest_in_the_store_is_damaged(
    store: seaweedfs.Store,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: str,
) -> None:
    place = f"{place}/{damage}/{name}"
    _save(Checkpoints(place, JOB), 1, 2)
    _damage(store, f"{_prefix(place)}/step-00000002/{name}", damage)
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "another-machine"))
    assert _resumed(place).progress.step == 1
    if (name, damage) != ("state.json", "deleted"):  # then it only is a copy that was cut short
        assert "checkpoint.unusable" in _warnings(caplog)
    assert {name.partition("/")[0] for name in _stored(place)} == {"step-00000001"}, "step 2 is done anew"


def test_best_weights_that_are_found_anew_after_a_resume_are_sent_anew(place: str) -> None:
    with Checkpoints(place, JOB) as checkpoints:
        _save(checkpoints, 1)
        for _ in range(2):
            sha256 = checkpoints.save_best(_parts(2)["weights"], 2)
            checkpoints.save(_parts(2), Progress(step=2, best_wer=0.5, best_step=2, best_sha256=sha256), wait=True)
            assert "best-00000002.safetensors" in _stored(place)
            for file in ("step-00000002/state.json", "step-00000002/weights.safetensors"):
                next(cache().rglob(file)).write_bytes(b"broken")
            ObjectStore(f"{place}/{FOLDER}").delete(["step-00000002/state.json"])
            restored = checkpoints.resume()
            assert restored is not None
            assert restored.progress.step == 1
            assert not [name for name in _stored(place) if "00000002" in name]


def test_no_whole_checkpoint_in_the_store_is_an_error_that_names_it(
    store: seaweedfs.Store, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _save(Checkpoints(place, JOB), 1, 2)
    for step in (1, 2):
        _damage(store, f"{_prefix(place)}/step-0000000{step}/weights.safetensors", "bit flipped")
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "another-machine"))
    with pytest.raises(CheckpointError, match=rf"{place}/{FOLDER} and .+: none of 2 checkpoints is whole; remove both") as refused:
        Checkpoints(place, JOB).resume()
    assert refused.value.exit_code == 41
    assert len(_stored(place)) == 6


@pytest.mark.parametrize("status", [500, 503, GONE])
@pytest.mark.parametrize("name", ["weights.safetensors", "state.json"])
def test_an_upload_that_is_refused_twice_is_tried_again(
    place: str, line: Line, caplog: pytest.LogCaptureFixture, status: int, name: str
) -> None:
    refusals = [status] * 2

    def rule(method: str, path: str) -> int:
        return refusals.pop() if method == "PUT" and path.endswith(name) and refusals else 0

    line.rule = rule
    _save(Checkpoints(f"{place}/{status}/{name}", JOB), 1)
    assert refusals == []
    assert len(_stored(f"{place}/{status}/{name}")) == 3
    assert _warnings(caplog) == []


@pytest.mark.parametrize("status", [503, 403, GONE])
def test_a_store_that_stays_away_while_training_is_said_and_gets_all_at_the_next_save(
    place: str, line: Line, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    place = f"{place}/{status}"
    with Checkpoints(place, JOB) as checkpoints:
        _save(checkpoints, 1)
        line.rule = lambda method, path: status
        sha256 = checkpoints.save_best(_parts(2)["weights"], 2)
        progress = Progress(step=2, best_wer=0.5, best_step=2, best_sha256=sha256)
        checkpoints.save(_parts(2), progress, wait=True)
        assert _warnings(caplog) == ["checkpoint.not_sent"]
        assert next(cache().rglob("step-00000002/state.json")).is_file()
        line.rule = lambda method, path: 0
        checkpoints.save(_parts(3), replace(progress, step=3), wait=True)
    assert {name.partition("/")[0] for name in _stored(place)} == {"step-00000002", "step-00000003", "best-00000002.safetensors"}
    assert _warnings(caplog) == ["checkpoint.not_sent"]


def test_a_store_that_is_gone_is_an_error_where_training_would_start(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(Checkpoints(place, JOB), 1)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(StorageError, match=r"the store did not list it \(\w+: .+\); check endpoint, credentials and path") as refused:
            Checkpoints(place, JOB).resume()
    assert refused.value.retryable


def test_a_store_that_goes_away_while_a_checkpoint_is_fetched_is_no_broken_checkpoint(
    place: str, line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _save(Checkpoints(place, JOB), 1)
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "another-machine"))
    line.rule = lambda method, path: GONE if path.endswith("weights.safetensors") else 0
    with pytest.raises(StorageError, match=r"weights\.safetensors: the store did not give it"):
        Checkpoints(place, JOB).resume()
    assert not [file for file in cache().rglob("*") if file.is_file()]
    line.rule = lambda method, path: 0
    assert _resumed(place).progress.step == 1


def test_wrong_keys_are_an_error_where_training_would_start(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match=r"the store did not list it \(ClientError: SignatureDoesNotMatch\)"):
        Checkpoints(place, JOB).resume()


SAVING = """
import sys, time, torch
from avskrift.training.checkpoint import Checkpoints, Progress

checkpoints = Checkpoints(sys.argv[1], sys.argv[2])
checkpoints.save({"weights": {"w": torch.ones(2, 2)}}, Progress(step=1), wait=True)
checkpoints.save({"weights": {"w": torch.zeros(3_000_000)}}, Progress(step=2))
time.sleep(600)
"""


@pytest.mark.parametrize("moment", ["partNumber=2", "step-00000002/state.json"])
def test_an_upload_whose_process_was_killed_half_way_is_not_resumed_and_swept(
    store: seaweedfs.Store, place: str, line: Line, moment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = f"{place}/{len(moment)}"
    reached, killed = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> int:
        if method != "PUT" or moment not in path:
            return 0
        reached.set()
        killed.wait(60)
        return GONE

    line.rule = hold
    process = subprocess.Popen([sys.executable, "-c", SAVING, place, JOB])
    try:
        while not reached.wait(0.05):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        killed.set()
    line.rule = lambda method, path: 0
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "another-machine"))
    assert _resumed(place).progress == Progress(step=1)
    assert {name.partition("/")[0] for name in _stored(place)} == {"step-00000001"}
    assert not store.client.list_multipart_uploads(Bucket=seaweedfs._BUCKET, Prefix=_prefix(place)).get("Uploads")


def test_a_store_that_does_not_show_unfinished_uploads_serves_all_the_same(
    place: str, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    _save(Checkpoints(place, JOB), 1)
    line.rule = lambda method, path: 403 if "?uploads" in path else 0
    assert _resumed(place).progress.step == 1
    assert _warnings(caplog) == ["storage.not_swept"]


def test_a_save_waits_for_the_one_before_and_none_is_left_out(place: str, line: Line, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="avskrift")
    reached, go_on = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> int:
        if method == "PUT" and "step-00000001/state.json" in path:
            reached.set()
            go_on.wait(60)
        return 0

    line.rule = hold
    with Checkpoints(place, JOB) as checkpoints:
        checkpoints.save(_parts(1), Progress(step=1))
        assert reached.wait(60)
        second = threading.Thread(target=checkpoints.save, args=(_parts(2), Progress(step=2)))
        second.start()
        while "checkpoint.waiting" not in [record.message for record in caplog.records]:
            time.sleep(0.01)
        assert not list(cache().rglob("*step-00000002*"))
        go_on.set()
        second.join()
    assert {name.partition("/")[0] for name in _stored(place)} == {"step-00000001", "step-00000002"}


def test_a_finished_job_leaves_nothing_in_either_place_and_touches_no_other(place: str, line: Line) -> None:
    for job in (JOB, OTHER_JOB):
        _save(Checkpoints(place, job), 1)
    with Checkpoints(place, JOB) as checkpoints:
        checkpoints.save_best(_parts(1)["weights"], 1)
    checkpoints.remove()
    assert _stored(place) == []
    assert not list(cache().rglob(FOLDER))
    assert Checkpoints(place, JOB).resume() is None
    assert Checkpoints(place, OTHER_JOB).resume() is not None


def test_a_store_that_is_gone_when_the_job_is_done_is_only_logged(place: str, line: Line, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(place, JOB)
    _save(checkpoints, 1)
    line.rule = lambda method, path: GONE
    checkpoints.remove()
    assert _warnings(caplog) == ["checkpoint.not_removed"]
    assert not list(cache().rglob(FOLDER))


def test_a_whole_bucket_may_hold_the_checkpoints(store: seaweedfs.Store) -> None:
    store.client.create_bucket(Bucket="checkpoints")
    _wait_until_it_takes_objects(store, "checkpoints")
    _save(Checkpoints("s3://checkpoints/", JOB), 1)
    assert Checkpoints("s3://checkpoints", JOB).resume() is not None
    assert len(_stored("s3://checkpoints")) == 3


def _parts(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"weights": {"w": torch.full((2, 2), float(value))}, "optimizer": {"0.exp_avg": torch.full((2, 2), float(value))}}


def _save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(_parts(step), Progress(step=step), wait=True)


def _resumed(place: str) -> Restored:
    restored = Checkpoints(place, JOB).resume()
    assert restored is not None
    return restored


def _stored(place: str) -> list[str]:
    return ObjectStore(f"{place}/{FOLDER}").names()


def _prefix(place: str) -> str:
    return f"{place.removeprefix(f's3://{seaweedfs._BUCKET}/')}/{FOLDER}"


def _damage(store: seaweedfs.Store, key: str, damage: str) -> None:
    if damage == "deleted":
        store.client.delete_object(Bucket=seaweedfs._BUCKET, Key=key)
        return
    content = bytearray(store.client.get_object(Bucket=seaweedfs._BUCKET, Key=key)["Body"].read())
    if damage == "bit flipped":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 :]
    store.put(key, bytes(content))


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name.startswith("avskrift") and record.levelname in ("WARNING", "ERROR")]


def _wait_until_it_takes_objects(store: seaweedfs.Store, bucket: str) -> None:
    """A new bucket has no room yet: the store makes some when it is first asked, which takes a while on a busy machine."""
    for _ in range(60):
        try:
            store.client.put_object(Bucket=bucket, Key="first", Body=b"x")
            store.client.delete_object(Bucket=bucket, Key="first")
        except ClientError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"{bucket} takes no objects")
