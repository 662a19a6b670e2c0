"""export: what the package says of its data, and that CTranslate2 kept the model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import small_training
import torch
from dataset_folder import write_dataset
from recordings import encoded, tone
from transformers import WhisperForConditionalGeneration

from avskrift.corpus.dataset import Clip, Dataset, open_dataset
from avskrift.errors import PackageError, UsageError
from avskrift.steps.export.step import Config, run
from avskrift.training.report import TrainingReport, write_report
from avskrift.whisper import export as exporting
from avskrift.whisper.package import RoundTrip, open_package
from avskrift.whisper.transformers_folder import copy_companions

model = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before


@pytest.fixture(autouse=True)
def _one_thread(_threads_as_before: None) -> None:
    """More of them wait for one another where tests share the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    names = [f"{number:02}" for number in range(30)]
    return _dataset(tmp_path_factory.mktemp("data") / "dataset", train=["t"], validation=names[:9], test=names[9:])


@pytest.fixture
def config(model: Path, dataset: Dataset, tmp_path: Path) -> Config:
    return Config(model=model, training=_training(tmp_path / "training", dataset), dataset=dataset.folder, out=tmp_path / "package")


def test_the_converted_model_writes_what_the_model_writes_and_the_package_says_so(config: Config) -> None:
    package = run(config).package
    package.verify()
    compared = package.description.round_trip
    assert compared is not None
    assert compared.clips == 20, "all nine of validation, then of test"
    assert compared.words > 10
    assert compared.different <= 0.01 * compared.words
    assert f"Of {compared.words} words that `transformers` wrote of 20 clips" in (package.folder / "README.md").read_text(encoding="utf-8")


def test_a_model_of_demo_speech_is_kept_too(tiny_whisper: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    training = _training(tmp_path / "training", open_dataset(tiny_dataset))
    compared = run(
        Config(model=tiny_whisper, training=training, dataset=tiny_dataset, out=tmp_path / "package")
    ).package.description.round_trip
    assert compared is not None
    assert compared.words > 100
    assert compared.different <= 0.01 * compared.words


def test_the_package_says_what_it_was_trained_on(config: Config, dataset: Dataset) -> None:
    package = run(config).package.description
    assert package.dataset is not None
    assert (package.dataset.source, package.dataset.licence) == (dataset.description.source, dataset.description.licence)
    assert package.dataset.hours == {split: held.hours for split, held in dataset.description.splits.items()}


def test_without_a_dataset_nothing_is_compared_and_the_card_says_so(config: Config) -> None:
    package = run(dataclasses.replace(config, dataset=None)).package
    assert (package.description.round_trip, package.description.dataset) == (None, None)
    assert "The two were not compared on speech." in (package.folder / "README.md").read_text(encoding="utf-8")


def test_a_dataset_that_the_model_was_not_trained_on_is_refused(config: Config, tmp_path: Path) -> None:
    other = _dataset(tmp_path / "other", validation=["a"], fingerprint="0" * 64)
    with pytest.raises(UsageError, match=r"other is dataset 0{64}, and the model was trained on f{64}; give that one, or none"):
        run(dataclasses.replace(config, dataset=other.folder))
    assert not Path(config.out).exists()


def test_a_converter_that_makes_another_model_ends_the_export_with_the_shares_and_leaves_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    another = _another_model(Path(config.model), tmp_path / "another")
    convert = exporting._convert
    monkeypatch.setattr(exporting, "_convert", lambda transformers, out: convert(another, out))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PackageError, match=r"CTranslate2 wrote \d+ of \d+ words otherwise than transformers, in 20 clips; at most 1% may"):
        run(config)
    assert sorted(tmp_path.iterdir()) == before


def test_a_package_that_could_not_be_converted_leaves_the_one_before(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = run(config).sha256
    another = _another_model(Path(config.model), tmp_path / "another")
    convert = exporting._convert
    monkeypatch.setattr(exporting, "_convert", lambda transformers, out: convert(another, out))
    with pytest.raises(PackageError):
        run(config)
    after = open_package(Path(config.out))
    after.verify()
    assert after.description.sha256 == before


def test_a_dataset_without_a_clip_that_was_held_out_compares_nothing(config: Config, tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "dataset", train=["t"])
    assert run(dataclasses.replace(config, dataset=dataset.folder)).package.description.round_trip is None


def test_secrets_in_the_datas_address_do_not_come_along(config: Config, tmp_path: Path) -> None:
    dataset = _dataset(tmp_path / "dataset", validation=["a"], source="https://me:secret@example.org/cv.tar.gz?X-Amz-Signature=abc123")
    package = run(dataclasses.replace(config, dataset=dataset.folder)).package
    for name in ("model.json", "README.md"):
        text = (package.folder / name).read_text(encoding="utf-8")
        assert "secret" not in text
        assert "abc123" not in text
        assert "example.org/cv.tar.gz" in text


def test_a_weight_beyond_float16_is_refused_since_the_package_could_not_hold_it(config: Config, tmp_path: Path) -> None:
    broken = _another_model(Path(config.model), tmp_path / "broken", weight=1e6)
    with pytest.raises(PackageError, match=r"fc1\.weight holds weights beyond float16"):
        run(dataclasses.replace(config, model=broken))
    assert not Path(config.out).exists()


def test_a_package_from_before_the_round_trip_can_be_opened(config: Config, tmp_path: Path) -> None:
    package = run(config).package
    old = Path(shutil.copytree(package.folder, tmp_path / "old"))
    raw = json.loads((old / "model.json").read_text())
    for name in ("dataset", "quantisation", "alignment_heads", "round_trip", "sha256"):
        del raw[name]
    (old / "model.json").write_text(json.dumps(raw))
    opened = open_package(old)
    opened.verify()
    assert opened.description.sha256 == package.description.sha256
    assert (opened.description.round_trip, opened.description.quantisation) == (None, "float16")


def test_what_was_compared_is_read_back_from_the_package(config: Config) -> None:
    package = run(config).package
    raw = json.loads((package.folder / "model.json").read_text())
    assert open_package(package.folder).description.round_trip == RoundTrip(**raw["round_trip"])
    assert raw["alignment_heads"] == json.loads((package.ctranslate2 / "config.json").read_text())["alignment_heads"] == [[0, 0]]


def _training(folder: Path, dataset: Dataset) -> Path:
    report = TrainingReport(
        base_model="package:whisper-base",
        base_model_sha256="b" * 64,
        dataset_fingerprint=dataset.description.fingerprint,
        language="sv",
        parameters={"epochs": 2},
        result={},
    )
    write_report(folder, report, [])
    return folder


def _dataset(folder: Path, *, source: str = "folder:recordings", fingerprint: str = "f" * 64, **splits: list[str]) -> Dataset:
    clips = {split: [_clip(name, number) for number, name in enumerate(names)] for split, names in splits.items()}
    return write_dataset(folder, clips, source=source, fingerprint=fingerprint)


def _clip(name: str, number: int) -> Clip:
    samples: Any = tone(0.5, hertz=200.0 + 31 * number)
    return Clip(clip_id=name, audio=encoded(samples, container="FLAC"), duration_s=0.5, text="ett ord")


def _another_model(source: Path, folder: Path, weight: float | None = None) -> Path:
    """The model with a layer of its decoder turned round, or with one ``weight`` of it set."""
    model = WhisperForConditionalGeneration.from_pretrained(source)
    with torch.no_grad():
        layer = model.model.decoder.layers[0].fc1.weight
        layer.copy_(layer.flip(0))
        if weight is not None:
            layer[0, 0] = weight
    model.save_pretrained(folder)
    copy_companions(source, folder)
    return folder
