"""evaluate on real dataset and package folders; the weights are not real, and a scripted engine answers for them."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import yaml

from avskrift.corpus.dataset import CLIP_SCHEMA, Clip
from avskrift.errors import DatasetError, EvaluationError, IntegrityError, LanguageError, ModelUnavailableError, UsageError
from avskrift.evaluation.clip_results import read_clip_results
from avskrift.evaluation.evaluate import Load
from avskrift.evaluation.result import read_evaluation
from avskrift.steps.evaluate.step import Config, run, run_with
from avskrift.storage.manifest import digest_folder
from avskrift.whisper.package import EncoderContext, ModelPackage, PackageDescription, description_as_json
from avskrift.whisper.transcript import Audio, Options, Transcript

SENTENCE = "Det regnar i dag igen."


class Scripted:
    """Says the sentence's first words: as many as the package's weights say."""

    languages = frozenset({"sv", "en"})

    def __init__(self, package: ModelPackage) -> None:
        self._words = int((package.ctranslate2 / "model.bin").read_text(encoding="utf-8"))

    def identity(self) -> str:
        return "a scripted engine"

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        text = " ".join(SENTENCE.split()[: self._words])
        return [Transcript(text=text, language=options.language or "", duration_s=0.1) for _ in recordings]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    buffer = io.BytesIO()
    sf.write(buffer, np.zeros(1600, dtype=np.float32), 16_000, format="FLAC")
    clips = [Clip(clip_id=f"c{number}", audio=buffer.getvalue(), duration_s=0.1, text=SENTENCE) for number in range(25)]
    pq.write_table(pa.Table.from_pylist([clip.row() for clip in clips], schema=CLIP_SCHEMA), folder / "test-00000.parquet")
    splits = {"test": {"clips": 25, "hours": 0.0007, "speakers": 0}, "validation": {"clips": 0, "hours": 0.0, "speakers": 0}}
    names = ("licence", "source", "source_sha256", "normaliser")
    described = {"fingerprint": "f" * 64, "language": "sv", "splits": splits, "rejected": 0, **dict.fromkeys(names, "")}
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def package(folder: Path, words: int) -> Path:
    (folder / "ct2").mkdir(parents=True)
    (folder / "ct2" / "model.bin").write_text(str(words), encoding="utf-8")
    described = PackageDescription(
        base_model="", base_model_sha256="", languages=("sv",), encoder_context=EncoderContext(), files=digest_folder(folder)
    )
    (folder / "model.json").write_text(json.dumps(description_as_json(described)), encoding="utf-8")
    return folder


@pytest.fixture
def config(tmp_path: Path, dataset: Path) -> Config:
    return Config(
        package_uri=str(package(tmp_path / "candidate", 5)),
        dataset=dataset,
        baseline_uri=package(tmp_path / "baseline", 2).as_uri(),
        out=tmp_path / "evaluation",
    )


def changed(config: Config, **changes: Any) -> Config:
    return Config(**({name: getattr(config, name) for name in Config.__slots__} | changes))


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("dataset", "candidate", "baseline"))


def test_the_folder_holds_the_evaluation_the_clips_and_the_report(config: Config) -> None:
    result = run_with(config, Scripted)
    assert sorted(file.name for file in result.folder.iterdir()) == ["clips.jsonl", "evaluation.json", "report.html"]
    assert read_evaluation(result.folder) == result.evaluation
    assert result.evaluation.language == "sv"
    assert result.evaluation.candidate.wer.value == 0
    assert result.evaluation.baseline.wer.value == 0.6
    assert (result.evaluation.candidate.uri, result.evaluation.baseline.uri) == (config.package_uri, config.baseline_uri)
    clips = read_clip_results(result.folder)
    assert len(clips) == 25
    assert (clips[0].reference, clips[0].baseline, clips[0].candidate) == (SENTENCE, "Det regnar", SENTENCE)
    assert "60.0 %" in (result.folder / "report.html").read_text(encoding="utf-8")


def test_the_metrics_are_those_of_the_evaluation(config: Config) -> None:
    metrics = run_with(config, Scripted).metrics()
    assert (metrics["wer_before"], metrics["wer_after"], metrics["wer_difference"]) == (0.6, 0.0, -0.6)
    assert metrics["clips"] == 25
    assert all(isinstance(value, float) for value in metrics.values())


def test_the_report_is_copied_to_where_kubeflow_looks_for_it(config: Config, tmp_path: Path) -> None:
    result = run_with(config, Scripted)
    result.copy_report(str(tmp_path / "artifacts" / "report"))
    assert (tmp_path / "artifacts" / "report").read_bytes() == (result.folder / "report.html").read_bytes()


def test_a_language_may_be_named_in_english_and_stands_as_its_code(config: Config) -> None:
    assert run_with(changed(config, language="English"), Scripted).evaluation.language == "en"


def test_a_package_that_was_changed_after_export_is_not_measured(config: Config) -> None:
    (Path(config.package_uri) / "ct2" / "model.bin").write_text("4", encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"ct2/model\.bin"):
        run_with(config, Scripted)
    assert leftovers(Path(config.dataset).parent) == []


def test_a_second_evaluation_replaces_the_first(config: Config, tmp_path: Path) -> None:
    run_with(config, Scripted)
    better = package(tmp_path / "dataset" / "better", 4).as_uri()
    result = run_with(changed(config, baseline_uri=better), Scripted)
    assert read_evaluation(result.folder).baseline.uri == better
    assert leftovers(tmp_path) == ["evaluation"]


def test_a_failed_evaluation_leaves_the_older_one_whole(config: Config, tmp_path: Path) -> None:
    first = run_with(config, Scripted)

    def stopped(package: ModelPackage) -> Scripted:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_with(config, stopped)
    assert read_evaluation(first.folder) == first.evaluation
    assert leftovers(tmp_path) == ["evaluation"]


def test_what_a_killed_run_left_half_written_is_swept(config: Config, tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / f".evaluation.tmp-{gone}-0123abcd").mkdir()
    run_with(config, Scripted)
    assert leftovers(tmp_path) == ["evaluation"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"split": "tset"}, UsageError, "tset"),
        ({"batch_size": 0}, UsageError, "batch size 0"),
        ({"threads": -1}, UsageError, "threads -1"),
        ({"language": "swedisch"}, LanguageError, "swed"),
        ({"language": "is"}, LanguageError, "is"),
        ({"split": "validation"}, EvaluationError, "validation split is empty"),
        ({"dataset": "/nowhere/at/all"}, DatasetError, "/nowhere/at/all"),
        ({"package_uri": "/nowhere/at/all"}, ModelUnavailableError, "/nowhere/at/all"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(
    config: Config, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    class Strict(Scripted):
        def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
            if options.language not in self.languages:
                raise LanguageError(f"this model does not know {options.language}")
            return super().transcribe(recordings, options)

    load: Load = Strict
    with pytest.raises(error, match=message) as raised:
        run_with(changed(config, **change), load)
    assert "\n" not in str(raised.value)
    assert not Path(config.out).exists()


def test_run_opens_the_serving_engine_which_refuses_weights_that_are_none(config: Config) -> None:
    with pytest.raises(Exception, match="CTranslate2") as raised:
        run(config)
    assert type(raised.value).__name__ == "PackageError"
    assert not Path(config.out).exists()


def test_an_unknown_device_is_refused(config: Config) -> None:
    with pytest.raises(UsageError, match="abacus"):
        run(changed(config, device="abacus"))


def test_the_component_takes_and_gives_what_the_pipeline_connects(tmp_path: Path) -> None:
    from kfp import compiler

    from avskrift.steps.evaluate.component import evaluate

    compiler.Compiler().compile(evaluate, str(tmp_path / "evaluate.yaml"))
    specification = yaml.safe_load((tmp_path / "evaluate.yaml").read_text(encoding="utf-8"))["components"]["comp-evaluate"]
    inputs, outputs = specification["inputDefinitions"], specification["outputDefinitions"]["artifacts"]
    assert set(inputs["artifacts"]) == {"package", "dataset"}
    assert set(inputs["parameters"]) == {"baseline_uri", "language", "split", "device", "threads", "batch_size"}
    assert all(parameter["description"] for parameter in inputs["parameters"].values())
    kinds = {name: output["artifactType"]["schemaTitle"] for name, output in outputs.items()}
    assert kinds == {"evaluation": "system.Artifact", "report": "system.HTML", "metrics": "system.Metrics"}
