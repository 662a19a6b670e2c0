"""Bad input at the command's entrances: one clear sentence, an exit code of its own, no traceback, nothing half written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from running import AVSKRIFT, avskrift, environment


def recording(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.sin(np.arange(16_000) * 0.1) * 0.3, 16_000)
    return path


_NO_DATA = ("--dataset", "EMPTY", "--out", "OUT")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "--source", "/no/such/folder"], 10, ["/no/such/folder"]),
        (["run", "--source", "EMPTY"], 10, ["EMPTY"]),
        (["run", "--source", "ORPHANS"], 10, ["lonely.wav", "--on-missing skip"]),
        (["run", "--source", "TEXTS"], 10, ["lonely.txt", "--on-missing skip"]),
        (["run", "--language", "swedisch"], 12, ["swedisch", "sv (swedish)"]),
        (["run", "--base-model", "/no/such/model"], 20, ["/no/such/model", "package:whisper-base"]),
        (["run", "--base-model", "openai/whisper-small"], 20, ["openai/whisper-small", "package:whisper-base"]),
        (["run", "--base-model", "package:whisper-huge"], 20, ["package:whisper-base"]),
        (["run", "--base-model", "ftp://somewhere/model"], 2, ["ftp:", "s3"]),
        (["run", "--base-model", "EMPTY"], 20, ["config.json"]),
        (["run", "--source", "demo:", "--language", "en"], 10, ["Swedish", "--source"]),
        (["run", "--learning-rate", "-1"], 2, ["learning_rate"]),
        (["run", "--training", "lora_rnk=8"], 2, ["lora_rnk", "lora_rank"]),
        (["run", "--training", "lora_rank"], 2, ["NAME=VALUE"]),
        (["run", "--training", "lora_rank=8", "--training", "freeze_encoder=true"], 2, ["lora_rank", "freeze_encoder"]),
        (["run", "--training", "epochs=0"], 2, ["epochs is 0"]),
        (["run", "--checkpoints", "gs://bucket/prefix"], 2, ["gs://bucket/prefix", "s3://BUCKET/PREFIX"]),
        (["run", "--summary", "EMPTY"], 2, ["--summary"]),
        (["transcribe", "/no/such.wav"], 2, ["/no/such.wav"]),
        (["transcribe", "ORPHANS/lonely.wav", "--endpoint", "http://127.0.0.1:9"], 72, ["http://127.0.0.1:9"]),
        (["fine-tune", "--dataset", "EMPTY", "--out", "OUT"], 11, ["dataset.json", "avskrift prepare"]),
        # Options are looked at first: the dataset, which is none, is not read.
        (["fine-tune", *_NO_DATA, "--lora-rank", "8", "--freeze-encoder"], 2, ["lora_rank", "freeze_encoder"]),
        (["fine-tune", *_NO_DATA, "--lora-alpha", "16"], 2, ["lora_alpha", "lora_rank"]),
        (["fine-tune", *_NO_DATA, "--schedule", "square"], 2, ["schedule is 'square'", "linear or cosine"]),
        (["fine-tune", *_NO_DATA, "--label-smoothing", "2"], 2, ["label_smoothing is 2.0"]),
        (["fine-tune", *_NO_DATA, "--checkpoints", "gs://bucket/prefix"], 2, ["gs://bucket/prefix", "s3://BUCKET/PREFIX"]),
        (["evaluate", "--package", "EMPTY", "--dataset", "EMPTY", "--out", "OUT"], 11, ["dataset.json"]),
        (["gate", "EMPTY", "--package", "EMPTY", "--out", "OUT"], 22, ["model.json"]),
        (["deploy", "--version", "1", "--out", "OUT"], 2, ["models:/avskrift-sv/1"]),
        (["serve", "--package", "EMPTY"], 20, ["EMPTY"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value and value[0].islower() else "",
)
def test_bad_input_gets_one_sentence_and_its_own_exit_code(tmp_path: Path, arguments: list[str], code: int, words: list[str]) -> None:
    (tmp_path / "EMPTY").mkdir()
    recording(tmp_path / "ORPHANS" / "lonely.wav")
    (tmp_path / "TEXTS").mkdir()
    (tmp_path / "TEXTS" / "lonely.txt").write_text("Hej.", encoding="utf-8")
    ended = subprocess.run(
        [AVSKRIFT, *arguments], cwd=tmp_path, env=environment(tmp_path / "home"), capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == code, ended.stderr
    sentences = [line for line in ended.stderr.splitlines() if line.startswith("avskrift: ")]
    assert len(sentences) == 1, ended.stderr
    assert all(word in sentences[0] for word in words), sentences[0]
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "OUT").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    ended = avskrift(tmp_path / "home", "--debug", "run", "--source", "/no/such/folder")
    assert "Traceback" in ended.stderr


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    ended = avskrift(tmp_path / "home", "run", "--sauce", "demo:")
    assert ended.returncode == 2
    assert "--sauce" in ended.stderr


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=2m tmpfs "$1" && shift && "$@"; code=$?; find "$DISK" -name "*tmp-*"; exit $code'
    words = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        str(disk),
        AVSKRIFT,
        "prepare",
        "--out",
        str(disk / "dataset"),
    ]
    if shutil.which("unshare") is None or subprocess.run([*words[:4], "-c", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system gives no private mounts, so no small disk to fill")
    ended = subprocess.run(
        words, env=environment(tmp_path / "home", DISK=str(disk)), capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 31, ended.stderr
    assert "no space left" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout.strip() == ""
