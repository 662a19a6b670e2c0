"""What goes wrong while a dataset is written leaves no half of it, and the next run works."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from avskrift.corpus.dataset import open_dataset
from avskrift.errors import DiskFullError, StorageError
from avskrift.steps.prepare.step import Config, run

STEP = """
import sys
from avskrift.steps.boundary import boundary
from avskrift.steps.prepare.step import Config, run
with boundary("prepare"):
    run(Config(source=sys.argv[1], out=sys.argv[2]))
"""


def can_mount() -> bool:
    unshare = shutil.which("unshare")
    return (
        unshare is not None
        and subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False).returncode == 0
    )


def start(source: str, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", STEP, source, str(out)], stderr=subprocess.PIPE, text=True)


def wait_until_it_reads(process: subprocess.Popen[str], folder: Path) -> None:
    while process.poll() is None and not any(folder.glob("avskrift-home/prepare/*/*.parquet")):
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be stopped"


@pytest.mark.skipif(not can_mount(), reason="needs to mount a small file system in a namespace of its own")
@pytest.mark.parametrize("kilobytes", [64, 700, 1400, 2600])
def test_a_disk_that_is_really_full_leaves_nothing_but_a_sentence(kilobytes: int, tmp_path: Path) -> None:
    # In turn: no room for anything, for a first split, for later ones.
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$1" && "$2" -c "$3" demo:tiny "$1/out"; code=$?; ls -A "$1"; exit $code'
    ended = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script, "bash", str(disk), sys.executable, STEP], capture_output=True, text=True, check=False
    )
    assert ended.returncode == DiskFullError.exit_code, ended.stderr
    assert ended.stdout == ""
    assert f"no space left on the disk that holds {disk}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_full_disk_while_a_shard_is_written_keeps_the_older_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    before = run(Config(source="demo:tiny", out=out, max_clips=5)).fingerprint

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(pq.ParquetWriter, "write_table", no_space)
        with pytest.raises(DiskFullError, match="free some and run the same command again"):
            run(Config(source="demo:tiny", out=out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["avskrift-home", "out"]
    assert open_dataset(out).description.fingerprint == before
    assert run(Config(source="demo:tiny", out=out)).fingerprint != before


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_step_that_is_stopped_leaves_nothing(stop: signal.Signals, tmp_path: Path) -> None:
    process = start("demo", tmp_path / "out")
    wait_until_it_reads(process, tmp_path)
    process.send_signal(stop)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["avskrift-home"]
    assert not list(tmp_path.rglob("*.tmp-*"))


def test_what_a_killed_step_leaves_is_swept_by_the_next(tmp_path: Path) -> None:
    process = start("demo:", tmp_path / "out")
    wait_until_it_reads(process, tmp_path)
    process.kill()
    process.communicate()
    (tmp_path / f".out.tmp-{process.pid}-0123abcd").mkdir()  # as if it had been killed while it wrote the dataset
    run(Config(source="demo:", out=tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["avskrift-home", "out"]
    assert not list((tmp_path / "avskrift-home" / "prepare").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*/file: Not a directory"):
        run(Config(source="demo:tiny", out=tmp_path / "file" / "out"))
