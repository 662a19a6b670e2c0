"""evaluate on real dataset and package folders; the weights are not real, and a scripted engine answers for them."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import yaml
from evaluations import evaluation as complete_evaluation

from avskrift.corpus.dataset import Clip, clip_table
from avskrift.errors import (
    DatasetError,
    EvaluationError,
    IntegrityError,
    LanguageError,
    ModelUnavailableError,
    PackageError,
    StorageError,
    UsageError,
)
from avskrift.evaluation.check_names import CHECKS
from avskrift.evaluation.clip_audio import read_audio
from avskrift.evaluation.clip_results import read_clip_results
from avskrift.evaluation.report_clips import EXAMPLES, most_changed
from avskrift.evaluation.result_figures import figures
from avskrift.evaluation.result_file import read_evaluation
from avskrift.evaluation.subject import Load
from avskrift.steps.evaluate.step import Config, Result, run, run_with
from avskrift.storage.manifest import digest_folder
from avskrift.whisper.package import EncoderContext, ModelPackage, PackageDescription, description_as_json, open_package
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
        heard = (text if _is_clip(recording) else "" for recording in recordings)
        return [Transcript(text=one, language=options.language or "", duration_s=0.1) for one in heard]


def _is_clip(recording: Audio) -> bool:
    return float(recording.max()) == 0.0


class Unasked(Scripted):
    """Is loaded, and must not be asked."""

    def transcribe(self, recordings: Sequence[Audio], options: Options) -> list[Transcript]:
        raise AssertionError("what is kept was transcribed again")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset")


def write_dataset(folder: Path, language: str = "sv") -> Path:
    folder.mkdir()
    buffer = io.BytesIO()
    sf.write(buffer, np.zeros(1600, dtype=np.float32), 16_000, format="FLAC")
    clips = [Clip(clip_id=f"c{number}", audio=buffer.getvalue(), duration_s=0.1, text=SENTENCE) for number in range(25)]
    pq.write_table(clip_table(clips), folder / "test-00000.parquet")
    splits = {"test": {"clips": 25, "hours": 0.0007, "speakers": 0}, "validation": {"clips": 0, "hours": 0.0, "speakers": 0}}
    texts = dict.fromkeys(("licence", "source", "source_sha256", "normaliser", "speaker_salt_check"), "")
    described = {"version": 2, "fingerprint": "f" * 64, "language": language, "splits": splits, "rejected": 0, "sources": [], **texts}
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def package(folder: Path, words: int, **described: Any) -> Path:
    for part in ("ct2", "hf"):
        (folder / part).mkdir(parents=True)
    (folder / "ct2" / "model.bin").write_text(str(words), encoding="utf-8")
    usual = {"base_model": "", "base_model_sha256": "", "languages": ("sv",), "encoder_context": EncoderContext()}
    description = PackageDescription(**usual | described, files=digest_folder(folder))
    (folder / "model.json").write_text(json.dumps(description_as_json(description)), encoding="utf-8")
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
    return sorted(path.name for path in folder.iterdir() if path.name not in ("dataset", "candidate", "baseline", "avskrift-home"))


def test_what_evaluate_did_not_write_is_never_replaced(config: Config, dataset: Path) -> None:
    Path(config.out).mkdir()
    (Path(config.out) / "important.txt").write_text("mine", encoding="utf-8")

    def never(*_: Any, **__: Any) -> Any:
        pytest.fail("it is refused before any clip is transcribed")

    with pytest.raises(StorageError, match=r"evaluation holds files and no evaluation\.json"):
        run_with(config, never)
    with pytest.raises(StorageError, match=r"holds files and no evaluation\.json"):
        run_with(changed(config, out=dataset), never)
    assert (Path(config.out) / "important.txt").read_text(encoding="utf-8") == "mine"


def test_the_folder_holds_the_evaluation_the_clips_and_the_report(config: Config) -> None:
    result = run_with(config, Scripted)
    written = ["audio", "clips.jsonl", "evaluation.json", "model_card.md", "report.html"]
    assert sorted(file.name for file in result.folder.iterdir()) == written
    assert read_evaluation(result.folder) == result.evaluation
    assert "## Word error rate\n\n25 clips" in (result.folder / "model_card.md").read_text(encoding="utf-8")
    assert result.evaluation.language == "sv"
    assert result.evaluation.candidate.wer.value == 0
    assert result.evaluation.baseline.wer.value == 0.6
    assert (result.evaluation.candidate.uri, result.evaluation.baseline.uri) == (config.package_uri, config.baseline_uri)
    clips = read_clip_results(result.folder, sha256=result.evaluation.clips_sha256)
    assert len(clips) == 25
    assert (clips[0].reference, clips[0].baseline, clips[0].candidate) == (SENTENCE, "Det regnar", SENTENCE)
    assert "60.0 %" in (result.folder / "report.html").read_text(encoding="utf-8")


def test_the_clips_that_the_report_shows_can_be_listened_to_in_it(config: Config) -> None:
    result = run_with(config, Scripted)
    clips = read_clip_results(result.folder)
    audio = read_audio(result.folder, clips)
    assert sorted(audio) == sorted(clip.clip_id for clip in most_changed(clips))
    assert {flac[:4] for flac in audio.values()} == {b"fLaC"}
    assert len(list((result.folder / "audio").iterdir())) == EXAMPLES
    report = (result.folder / "report.html").read_text(encoding="utf-8")
    assert report.count("<audio controls") == EXAMPLES
    assert "media-src data:" in report


def test_the_metrics_are_those_of_the_evaluation(config: Config) -> None:
    metrics = run_with(config, Scripted).metrics()
    assert (metrics["wer_before"], metrics["wer_after"], metrics["wer_difference"]) == (0.6, 0.0, -0.6)
    assert (metrics["wer_raw_before"], metrics["wer_utterance_mean_before"]) == (0.6, 0.6)
    assert (metrics["clips"], metrics["wins"], metrics["looped"]) == (25, 1.0, 0)
    assert (metrics["hallucinated_words_a_minute"], metrics["context_loss"]) == (0, 0)
    assert metrics["latency_p95_s"] >= metrics["latency_p50_s"] > 0
    assert {"long_form_loss", "retention_loss"}.isdisjoint(metrics), "it was too short to join, and no second dataset was given"
    assert all(isinstance(value, float) for value in metrics.values())


def test_every_part_that_was_measured_has_its_metrics() -> None:
    measured = complete_evaluation()
    metrics, recorded = Result(folder=Path(), evaluation=measured).metrics(), figures(measured)
    beside = {"hallucinated_words_a_minute", "long_form_loss", "timestamp_error_s", "context_loss", "latency_p50_s", "latency_p95_s"}
    both = beside | {"looped", "wins", "retention_loss", "wer_difference", "wer_difference_low", "wer_difference_high"}
    protocols = {"wer_raw", "cer_raw", "wer_utterance_mean", "cer_utterance_mean"}
    assert both | {f"{name}_{when}" for name in protocols for when in ("before", "after")} <= set(metrics)
    assert both | protocols | {f"baseline_{name}" for name in protocols} <= set(recorded)
    assert {f"baseline_{name}" for name in beside - {"context_loss"}} <= set(recorded)
    assert (recorded["wer"], recorded["wer_raw"], recorded["baseline_wer"]) == (0.15, 0.25, 0.45)
    assert (recorded["long_form_loss"], recorded["context_loss"], recorded["retention_loss"]) == (0.02, 0.01, 0.01)


def test_other_models_stand_beside_the_two(config: Config, tmp_path: Path) -> None:
    more = [str(package(tmp_path / "dataset" / name, words)) for name, words in (("three", 3), ("four", 4))]
    result = run_with(changed(config, others=more), Scripted)
    assert [(score.uri, score.wer.value) for score in result.evaluation.others] == [(more[0], 0.4), (more[1], 0.2)]
    assert read_clip_results(result.folder)[0].others == ("Det regnar i", "Det regnar i dag")


def test_only_the_checks_that_are_named_are_measured(config: Config) -> None:
    candidate = run_with(changed(config, checks=("short-context",)), Scripted).evaluation.candidate
    assert candidate.short_context is not None
    assert (candidate.hallucination, candidate.speed.latency_clips) == (None, 0)


def test_a_second_evaluation_uses_what_was_kept_unless_it_is_told_not_to(config: Config) -> None:
    first = run_with(config, Scripted).evaluation
    assert run_with(config, Unasked).evaluation == first
    with pytest.raises(AssertionError, match="transcribed again"):
        run_with(changed(config, use_cache=False), Unasked)


def test_without_a_cache_nothing_is_kept(config: Config, tmp_path: Path) -> None:
    run_with(changed(config, use_cache=False), Scripted)
    assert not list((tmp_path / "avskrift-home").rglob("*.json"))


def test_a_second_dataset_says_what_was_lost_of_the_base_model(config: Config, tmp_path: Path) -> None:
    base = package(tmp_path / "dataset" / "base", 4)
    candidate = package(tmp_path / "dataset" / "fine-tuned", 3, base_model=str(base))
    second = write_dataset(tmp_path / "dataset" / "second", language="en")
    found = run_with(changed(config, package_uri=str(candidate), retention_dataset=second.as_uri()), Scripted).evaluation
    assert found.retention is not None
    assert (found.retention.language, found.retention.base.value, found.retention.candidate.value) == ("en", 0.2, 0.4)
    assert found.retention.loss.value == pytest.approx(0.2)


def test_a_base_model_that_cannot_be_had_is_said_before_anything_is_transcribed(config: Config, dataset: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"the base model cannot be measured: .*does not name it"):
        run_with(changed(config, retention_dataset=dataset), Unasked)


def test_a_second_dataset_that_is_none_is_refused(config: Config) -> None:
    with pytest.raises(DatasetError, match="retention dataset /nowhere/at/all"):
        run_with(changed(config, retention_dataset="/nowhere/at/all"), Unasked)


@pytest.mark.parametrize("model", ["candidate", "baseline", "other 2"])
def test_a_model_that_cannot_be_had_is_named(config: Config, model: str) -> None:
    missing = "/nowhere/at/all"
    change = {
        "candidate": {"package_uri": missing},
        "baseline": {"baseline_uri": missing},
        "other 2": {"others": [config.package_uri, missing]},
    }
    with pytest.raises(ModelUnavailableError, match=f"the {model} cannot be measured: {missing}"):
        run_with(changed(config, **change[model]), Unasked)


@pytest.mark.parametrize("model", ["candidate", "baseline"])
@pytest.mark.parametrize("file", ["ct2/model.bin", "model.json"])
def test_a_flipped_byte_in_a_package_is_refused_and_says_whose(config: Config, tmp_path: Path, model: str, file: str) -> None:
    path = tmp_path / model / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises((IntegrityError, PackageError), match=f"the {model} cannot be measured: "):
        run_with(config, Unasked)
    assert leftovers(tmp_path) == []


def test_a_baseline_that_is_not_the_one_on_record_is_refused(config: Config, tmp_path: Path) -> None:
    on_record = open_package(tmp_path / "baseline").description.sha256
    assert run_with(changed(config, baseline_sha256=on_record), Scripted).evaluation.baseline.package_sha256 == on_record
    with pytest.raises(IntegrityError, match=f"the baseline cannot be measured: .*{on_record}, and {'0' * 64} is on record"):
        run_with(changed(config, baseline_sha256="0" * 64), Unasked)


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
        ({"checks": ("loudness",)}, UsageError, "check 'loudness' is none of"),
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
    with pytest.raises(PackageError, match=r"the baseline cannot be measured: .*CTranslate2"):
        run(config)
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
    parameters = inputs["parameters"]
    more = {"baseline_sha256", "others", "checks", "retention_dataset", "use_cache"}
    assert set(parameters) == {"baseline_uri", "language", "split", "device", "threads", "batch_size"} | more
    assert all(parameter["description"] for parameter in parameters.values())
    assert parameters["checks"]["defaultValue"] == ",".join(CHECKS)
    assert all(parameters[name]["isOptional"] for name in more)
    kinds = {name: output["artifactType"]["schemaTitle"] for name, output in outputs.items()}
    assert kinds == {"evaluation": "system.Artifact", "report": "system.HTML", "metrics": "system.Metrics"}
