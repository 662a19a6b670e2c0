"""What a candidate lost on a second dataset, against the model that it was trained from."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_models import Scripted, clip, dataset, engine, first_word, right

from avskrift import logs
from avskrift.errors import EvaluationError, IntegrityError, LanguageError, ModelUnavailableError
from avskrift.evaluation.hypothesis_cache import HypothesisCache
from avskrift.evaluation.retention import base_of, measure_retention
from avskrift.evaluation.subject import Subject
from avskrift.storage.manifest import digest_folder, manifest_digest
from avskrift.whisper.package import EncoderContext, PackageDescription, description_as_json, open_package


def package(folder: Path, *, weights: str = "weights", **described: Any) -> Subject:
    """A package whose weights are a word."""
    for part in ("ct2", "hf"):
        (folder / part).mkdir(parents=True)
        (folder / part / "model.bin").write_text(weights, encoding="utf-8")
    description = PackageDescription(
        **{"base_model": "", "base_model_sha256": "", "languages": (), "encoder_context": EncoderContext()} | described,
        files=digest_folder(folder),
    )
    (folder / "model.json").write_text(json.dumps(description_as_json(description)), encoding="utf-8")
    return Subject(uri=str(folder), package=open_package(folder))


@pytest.fixture
def base(tmp_path: Path) -> Subject:
    return package(tmp_path / "base", weights="base")


@pytest.fixture
def candidate(tmp_path: Path, base: Subject) -> Subject:
    return package(tmp_path / "candidate", base_model=base.uri, base_model_sha256=manifest_digest(digest_folder(base.package.transformers)))


def test_the_base_model_is_the_one_that_the_package_names(candidate: Subject, base: Subject) -> None:
    found = base_of(candidate)
    assert (found.uri, found.package.description.sha256) == (base.uri, base.package.description.sha256)


def test_the_loss_is_the_candidates_rate_minus_the_base_models(tmp_path: Path, candidate: Subject, base: Subject) -> None:
    data = dataset(tmp_path / "second", [clip(number) for number in range(30)], language="en", fingerprint="d" * 64)
    models = engine(base=Scripted(right), candidate=Scripted(first_word))
    found = measure_retention(candidate, base_of(candidate), data, models)
    assert (found.dataset_fingerprint, found.language, found.clips) == ("d" * 64, "en", 30)
    assert (found.base_uri, found.base_sha256) == (base.uri, base.package.description.sha256)
    assert (found.base.value, found.candidate.value) == (0, found.loss.value)
    assert found.loss.low > 0
    assert found.loss.wins == 0


def test_validation_clips_are_taken_where_there_are_no_test_clips(tmp_path: Path, candidate: Subject, base: Subject) -> None:
    data = dataset(tmp_path / "second", [clip(number) for number in range(5)], split="validation")
    assert measure_retention(candidate, base, data, engine(base=Scripted(right), candidate=Scripted(right))).clips == 5


def test_a_second_dataset_of_training_clips_alone_is_refused(tmp_path: Path, candidate: Subject, base: Subject) -> None:
    data = dataset(tmp_path / "second", [clip(0)], split="train")
    with pytest.raises(EvaluationError, match="neither test nor validation"):
        measure_retention(candidate, base, data, engine())


def test_what_both_models_heard_is_kept_and_used(tmp_path: Path, candidate: Subject, base: Subject) -> None:
    data, cache = dataset(tmp_path / "second", [clip(number) for number in range(5)]), HypothesisCache(tmp_path / "cache")
    first = measure_retention(candidate, base, data, engine(base=Scripted(right), candidate=Scripted(first_word), cache=cache))
    models = {"base": Scripted(right), "candidate": Scripted(first_word)}
    assert measure_retention(candidate, base, data, engine(**models, cache=cache)) == first
    assert [model.recordings for model in models.values()] == [0, 0]


def test_a_language_that_the_model_forgot_is_refused_with_its_name(tmp_path: Path, candidate: Subject, base: Subject) -> None:
    data = dataset(tmp_path / "second", [clip(0)], language="fi")
    with pytest.raises(LanguageError, match="the base model cannot be measured"):
        measure_retention(candidate, base, data, engine(base=Scripted(right), candidate=Scripted(right)))


@pytest.mark.parametrize(("named", "message"), [("", "does not name it"), ("nowhere/at-all", "nowhere/at-all")])
def test_a_base_model_that_cannot_be_had_says_so(tmp_path: Path, named: str, message: str) -> None:
    candidate = package(tmp_path / "candidate", base_model=named)
    with pytest.raises(ModelUnavailableError, match=f"the base model cannot be measured: .*{message}"):
        base_of(candidate)


def test_a_base_model_that_was_changed_is_refused(candidate: Subject, base: Subject) -> None:
    (base.package.ctranslate2 / "model.bin").write_text("bass", encoding="utf-8")
    with pytest.raises(IntegrityError, match="the base model cannot be measured"):
        base_of(candidate)


@pytest.mark.parametrize(("recorded", "events"), [("0" * 64, ["evaluation.base_model_differs"]), ("", [])])
def test_another_base_model_than_the_one_trained_from_is_logged(candidate: Subject, recorded: str, events: list[str]) -> None:
    described = replace(candidate.package.description, base_model_sha256=recorded)
    stream = io.StringIO()
    logs.configure(fmt="json", stream=stream)
    try:
        base_of(replace(candidate, package=replace(candidate.package, description=described)))
        assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == events
    finally:
        logs.configure()
