"""The model card: true to the package, readable by hubs, and its examples run."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
import small_training
import soundfile as sf
import torch
import yaml
from recordings import tone

from avskrift.whisper.card import model_card
from avskrift.whisper.export import Provenance, export_package
from avskrift.whisper.package import DatasetSummary, EncoderContext, ModelPackage, PackageDescription, RoundTrip
from avskrift_pipelines.command import endpoint, transcribing

smallest = small_training.smallest_whisper
_threads_as_before = small_training.threads_as_before

BASE = PackageDescription(
    base_model="openai/whisper-small", base_model_sha256="b" * 64, languages=(), encoder_context=EncoderContext(), files={}
)
ADAPTED = replace(
    BASE,
    languages=("sv",),
    encoder_context=EncoderContext(policy="variable", minimum_frames=200),
    dataset_fingerprint="f" * 64,
    dataset=DatasetSummary(source="commonvoice:cv.tar.gz", licence="CC0-1.0", hours={"train": 9.5, "validation": 1.25}),
    training={"epochs": 2, "learning_rate": 5e-5},
    alignment_heads=((3, 1), (5, 6)),
    round_trip=RoundTrip(clips=20, words=180, different=1),
    code_version="0.1.0",
)


@pytest.fixture(scope="module")
def package(smallest: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    provenance = Provenance(
        base_model="smallest", base_model_sha256="0" * 64, encoder_context=EncoderContext(policy="variable"), languages=("sv",)
    )
    return export_package(smallest, tmp_path_factory.mktemp("card") / "package", provenance)


@pytest.mark.parametrize(
    "said",
    [
        "# Whisper for Swedish",
        "Fine-tuned for sv from `openai/whisper-small` by Avskrift 0.1.0",
        "b" * 64,
        "in steps of 0.5 s, at least 2.0 s",
        "dataset with fingerprint `" + "f" * 64,
        "- source: commonvoice:cv.tar.gz",
        "- licence: CC0-1.0",
        "- hours: train 9.50 h, validation 1.25 h",
        "The training data are under CC0-1.0.",
        "`ct2/` holds them in float16",
        "int8 on a CPU",
        "Of 180 words that `transformers` wrote of 20 clips, CTranslate2 wrote 1 differently",
        "(layer.head): 3.1, 5.6",
        "| learning_rate | 5e-05 |",
        "Languages other than sv, and translation, may be worse than in the base model.",
    ],
)
def test_the_card_says_what_the_package_is(said: str) -> None:
    assert said in model_card(ADAPTED)


def test_a_base_models_card_claims_no_training() -> None:
    card = model_card(BASE)
    assert "`openai/whisper-small`, not adapted." in card
    assert "Always 30 s" in card
    assert "The two were not compared on speech." in card
    assert "None of Avskrift's" in card
    for said in ("## Training", "Fine-tuned", "Languages other than", "(layer.head)", "training data"):
        assert said not in card


def test_without_an_evaluation_the_card_says_where_it_is_recorded_and_with_one_it_shows_it() -> None:
    assert "no figure is in here" in _section(model_card(ADAPTED), "Word error rate")
    lines = ["| protocol | WER | 95 % interval |", "|---|---|---|", "| sv-1 | 12.3 % | 11.0 to 13.9 % |"]
    assert _section(model_card(ADAPTED, lines), "Word error rate") == "\n".join(lines)


def test_a_card_without_the_datasets_summary_points_to_the_run() -> None:
    card = model_card(replace(ADAPTED, dataset=None))
    assert "Its card is among the artifacts of the MLflow run." in card
    assert "their own licence says" in card


def test_the_front_matter_means_to_yaml_what_it_says() -> None:
    card = model_card(replace(BASE, base_model="C: models #3", languages=("no", "sv")))
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["language"] == ["no", "sv"]
    assert front["base_model"] == "C: models #3"
    assert card.startswith("---\n")


def test_no_value_breaks_a_table_or_tells_a_secret() -> None:
    odd = {"note": "a | b\nc", "base": "s3://bucket?X-Amz-Signature=abc123"}
    card = model_card(replace(ADAPTED, base_model="https://me:secret@host/`whisper`", training=odd))
    assert "| note | a \\| b c |" in card
    assert "secret" not in card
    assert "abc123" not in card
    assert card.split("---\n", 2)[2].count("`") % 2 == 0


def test_sections_come_in_an_order_that_a_reader_needs() -> None:
    assert re.findall(r"^## (.*)$", model_card(ADAPTED), flags=re.MULTILINE) == [
        "How to call it",
        "Word error rate",
        "Data",
        "Encoder context",
        "Conversion and arithmetic",
        "Limits",
        "Licence",
        "Training",
    ]
    assert "\n\n\n" not in model_card(ADAPTED) + model_card(BASE)


@pytest.mark.parametrize("library", ["transformers", "ctranslate2", "mlflow"])
def test_the_examples_in_python_run_on_the_package_as_they_stand(
    package: ModelPackage, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    sf.write("recording.flac", tone(0.5, hertz=300.0), 16_000)
    card = (package.folder / "README.md").read_text(encoding="utf-8")
    (example,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
        if f"{library}." in block or library in block.split("\n")[1]
    )
    exec(compile(example.replace("PACKAGE", str(package.folder)), library, "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_commands_have_the_options_that_the_card_gives_them() -> None:
    lines = _section(model_card(ADAPTED), "How to call it").splitlines()
    for command in (transcribing.transcribe, endpoint.serve):
        (line,) = (line for line in lines if line.startswith(f"avskrift {command.__name__} "))
        assert set(re.findall(r"--(\w+)", line)) <= set(inspect.signature(command).parameters)
    assert any("/openai/v1/audio/transcriptions" in line for line in lines)


def _section(card: str, name: str) -> str:
    return card.split(f"\n## {name}\n")[1].split("\n## ")[0].strip()
