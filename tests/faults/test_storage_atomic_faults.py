"""Whatever stops a writer, a reader sees a whole artifact, the old or the new, and nothing of the attempt stays."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from avskrift.errors import DiskFullError, StorageError
from avskrift.storage import atomic
from avskrift.storage.atomic import atomic_file, atomic_folder, sweep, write_json

_FULL_DISK = Path("/dev/full")  # Linux refuses every write to it with ENOSPC
_HANG = """
import sys, time
from pathlib import Path
from avskrift.storage.atomic import atomic_file, atomic_folder
with {writer}(Path(sys.argv[1])) as temporary:
    ((temporary / "part") if temporary.is_dir() else temporary).write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one older artifact of either kind."""
    place = tmp_path / "place"
    (place / "package").mkdir(parents=True)
    (place / "package" / "weights").write_bytes(b"old")
    (place / "report.json").write_bytes(b"old")
    return place


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OLD = {"package/weights": b"old", "report.json": b"old"}


def write_file_and_fail(path: Path, error: BaseException) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"new")
        raise error


def write_folder_and_fail(path: Path, error: BaseException) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "weights").write_bytes(b"new")
        raise error


def write_to_a_full_disk(temporary: Path) -> None:
    temporary.symlink_to(_FULL_DISK)
    temporary.write_bytes(b"new")


@pytest.mark.parametrize("error", [RuntimeError("crash"), KeyboardInterrupt(), SystemExit(3)])
def test_a_crash_leaves_the_old_artifact_and_nothing_else(folder: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        write_file_and_fail(folder / "report.json", error)
    with pytest.raises(type(error)):
        write_folder_and_fail(folder / "package", error)
    assert content(folder) == OLD
    assert len(list(folder.iterdir())) == len(OLD)


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one_in_place(folder: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(folder / "package") as temporary:
        temporary.rmdir()  # what is to be renamed is gone
    assert content(folder) == OLD


@pytest.mark.parametrize(("writer", "name"), [("atomic_file", "report.json"), ("atomic_folder", "package")])
def test_what_a_killed_process_left_is_swept_and_the_old_artifact_stays(folder: Path, writer: str, name: str) -> None:
    with subprocess.Popen([sys.executable, "-c", _HANG.format(writer=writer), str(folder / name)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        assert sweep(folder) == [], "it is being written"
        process.send_signal(signal.SIGKILL)
    assert {key: value for key, value in content(folder).items() if not key.startswith(".")} == OLD
    removed = sweep(folder)
    assert [entry.name.startswith(f".{name}.tmp-{process.pid}-") for entry in removed] == [True]
    assert content(folder) == OLD
    assert len(list(folder.iterdir())) == len(OLD)


def test_what_a_killed_process_left_is_swept_before_its_parent_has_reaped_it(folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    (folder / f".package.tmp-{process.pid}-0123abcd").mkdir()
    assert len(sweep(folder)) == 1
    process.wait()


def test_what_an_earlier_process_of_the_same_number_left_is_swept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted container: everything runs again under the numbers of before."""
    entry = folder / f".package.tmp-{os.getpid()}-0123abcd"
    entry.mkdir()
    assert sweep(folder) == [], "this process may be writing it"
    # A process cannot be given a number, so the clock is moved: as if the entry were an hour older than this process.
    seconds_before = time.time() - psutil.Process().create_time() + 3600
    monkeypatch.setattr(atomic, "_CLOCK_SECONDS", -seconds_before)
    assert sweep(folder) == [entry]


def test_an_artifact_that_was_moved_aside_by_a_killed_process_is_put_back(folder: Path) -> None:
    """Killed between the two renames: the new one has not taken the name, and the old one lost it."""
    gone = _dead_process()
    (folder / "package").rename(folder / f".package.old-{gone}-0123abcd")
    (folder / f".package.tmp-{gone}-89abcdef").mkdir()
    sweep(folder)
    assert content(folder) == OLD
    assert sorted(path.name for path in folder.iterdir()) == ["package", "report.json"]


def test_an_artifact_that_was_replaced_before_the_kill_is_swept(folder: Path) -> None:
    gone = _dead_process()
    shutil.copytree(folder / "package", folder / f".package.old-{gone}-0123abcd")
    (folder / "package" / "weights").write_bytes(b"new")
    assert len(sweep(folder)) == 1
    assert content(folder) == {**OLD, "package/weights": b"new"}


def test_sweeping_touches_nothing_that_a_person_named(folder: Path) -> None:
    for name in (".hidden", ".package.tmp-x-0123abcd", "package.tmp-1-0123abcd", ".package.tmp-1-0123abc"):
        (folder / name).write_bytes(b"mine")
    assert sweep(folder) == []


def test_a_full_disk_is_named_while_a_file_is_written(folder: Path) -> None:
    with (
        pytest.raises(DiskFullError, match=r"no space left on the disk that holds .*place; free some"),
        atomic_file(folder / "report.json") as temporary,
    ):
        write_to_a_full_disk(temporary)
    assert content(folder) == OLD


def test_a_full_disk_is_named_while_a_folder_is_written(folder: Path) -> None:
    with pytest.raises(DiskFullError) as refused, atomic_folder(folder / "package") as temporary:
        write_to_a_full_disk(temporary / "weights")
    assert refused.value.exit_code == 31
    assert content(folder) == OLD


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named_whatever_the_library_that_met_it_calls_it(small_disk: Path, tmp_path: Path) -> None:
    weights = {"weights": np.zeros(1_000_000, dtype=np.float32)}
    with pytest.raises(DiskFullError), atomic_folder(small_disk / "package") as temporary:
        save_file(weights, temporary / "model.safetensors")
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "model").mkdir()
    (tmp_path / "model.safetensors").rename(tmp_path / "model" / "model.safetensors")
    with pytest.raises(DiskFullError), atomic_folder(small_disk / "package") as temporary:
        shutil.copytree(tmp_path / "model", temporary / "hf")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_may_not_be_written_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match=r"cannot write .*summary\.json: Read-only file system"):
        write_json(small_disk / "summary.json", {})


def test_a_limit_on_file_sizes_is_not_called_a_full_disk(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large") as refused:
            write_json(tmp_path / "large.json", "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not isinstance(refused.value, DiskFullError)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"mine")
    with pytest.raises(StorageError, match=r"cannot write .*taken: Not a directory"), atomic_folder(tmp_path / "taken"):
        pytest.fail("it must be refused before anything is done")
    with pytest.raises(StorageError, match=r"cannot write .*taken/inside: "), atomic_file(tmp_path / "taken" / "inside"):
        pytest.fail("it must be refused before anything is done")
    assert content(tmp_path) == {"taken": b"mine"}


def test_a_folder_where_a_file_should_be_is_named(folder: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*package: Is a directory"):
        write_json(folder / "package", {})
    assert content(folder) == OLD


def test_a_source_that_may_not_be_read_is_not_blamed_on_the_target(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*out: Not a directory at /dev/null/weights"), atomic_folder(tmp_path / "out"):
        Path("/dev/null/weights").read_bytes()


def test_a_bug_in_the_body_is_not_dressed_up_as_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "out"):
        (tmp_path / "never written").read_bytes()


def _dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        pass
    assert process.pid != os.getpid()
    return process.pid
