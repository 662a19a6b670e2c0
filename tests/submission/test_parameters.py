"""What a person gives a pipeline is held against its form: every value of a type is taken as it is, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_pipeline import PIPELINE

from avskrift.errors import UsageError
from avskrift_pipelines.pipeline_source import read_pipeline
from avskrift_pipelines.run_parameters import Field, read_parameters

_NAMES = {
    "STRING": "text",
    "NUMBER_INTEGER": "whole",
    "NUMBER_DOUBLE": "number",
    "BOOLEAN": "flag",
    "STRUCT": "struct",
    "LIST": "list",
}
FORM = {name: Field(name=name, kind=kind, needed=False) for kind, name in _NAMES.items()} | {
    "learning_rate": Field(name="learning_rate", kind="NUMBER_DOUBLE", needed=False)
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(*words: str, file: Path | None = None) -> dict[str, Any]:
    return read_parameters(FORM, words, file)


@given(st.text())
def test_any_text_is_a_text(text: str) -> None:
    assert read(f"text={text}") == {"text": text}


@given(st.integers(-(2**53), 2**53))
def test_any_whole_number_is_one(number: int) -> None:
    assert read(f"whole={number}") == {"whole": number}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_finite_number_is_one(number: float) -> None:
    assert read(f"number={number!r}") == {"number": number}


@given(st.dictionaries(st.text(), _JSON, max_size=4))
def test_any_json_object_is_one(value: dict[str, Any]) -> None:
    assert read(f"struct={json.dumps(value)}") == {"struct": value}


@given(st.lists(_JSON, max_size=4))
def test_any_json_list_is_one(value: list[Any]) -> None:
    assert read(f"list={json.dumps(value)}") == {"list": value}


@given(st.sampled_from(sorted(_NAMES)), st.text())
def test_a_word_is_a_value_of_its_type_or_a_sentence(kind: str, word: str) -> None:
    types = {"STRING": str, "NUMBER_INTEGER": int, "NUMBER_DOUBLE": int | float, "BOOLEAN": bool, "STRUCT": dict, "LIST": list}
    try:
        (value,) = read(f"{_NAMES[kind]}={word}").values()
    except UsageError as error:
        said = str(error)
    else:
        json.dumps(value, allow_nan=False)
        said = f"parameter {_NAMES[kind]} is " if isinstance(value, types[kind]) else repr(value)
    assert said.startswith(f"parameter {_NAMES[kind]} is ")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("whole=3.5", "parameter whole is '3.5', and must be a whole number"),
        ("whole=", "must be a whole number"),
        ("whole=true", "must be a whole number"),
        (f"whole={2**60}", "must be a whole number"),
        (f"whole={'9' * 6000}", "must be a whole number"),
        ("number=NaN", "must be a number"),
        ("number=inf", "must be a number"),
        ("number=1e999", "must be a number"),
        ("flag=yes", "must be true or false"),
        ("struct=[1]", "must be a JSON object"),
        ("struct={'lora_rank': 16}", "must be a JSON object"),
        ('struct={"a": NaN}', "must be a JSON object"),
        (f"struct={'[' * 100_000}", "must be a JSON object"),
        ("list={}", "must be a JSON list"),
        ("lerning_rate=1", "no parameter 'lerning_rate'; did you mean learning_rate?"),
        ("learning-rate=1", "did you mean learning_rate?"),
        ("zzz=1", "there are flag, learning_rate, list, number, struct, text, whole"),
        ("text", "--param 'text' has no value; write NAME=VALUE"),
        ("=1", "no parameter ''"),
    ],
)
def test_what_is_no_value_is_refused_in_a_sentence(word: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        read(word)
    assert says in str(error.value)
    assert len(str(error.value)) < 250


def test_a_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="names whole twice"):
        read("whole=1", "whole=2")


@pytest.mark.parametrize("word", ["3", "3.0", "3e0", " 3 "])
def test_a_whole_number_may_be_written_as_a_float(word: str) -> None:
    assert read(f"whole={word}") == {"whole": 3}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "text": st.text(),
            "whole": st.integers(-(2**53), 2**53),
            "number": st.floats(allow_nan=False, allow_infinity=False),
            "flag": st.booleans(),
            "struct": st.dictionaries(st.text(), _JSON, max_size=3),
            "list": st.lists(_JSON, max_size=3),
        },
    )
)
def test_a_file_in_json_gives_what_it_holds(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    file = tmp_path_factory.getbasetemp() / "parameters.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    assert read(file=file) == values


def test_a_file_in_yaml_gives_what_it_holds_and_a_word_wins_over_it(tmp_path: Path) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text("whole: 3\nflag: true\nlearning_rate: 1e-5\nstruct: {lora_rank: 16}\n", encoding="utf-8")
    assert read("whole=5", file=file) == {"whole": 5, "flag": True, "learning_rate": 1e-5, "struct": {"lora_rank": 16}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text: 3", "parameter text is '3', and must be text; put it in quotes"),
        ("whole: '3'", "must be a whole number"),
        ("whole: true", "must be a whole number"),
        ("struct: {day: 2026-11-29}", "must be a JSON object"),
        ("wole: 3", "parameters.yaml: the pipeline has no parameter 'wole'; did you mean whole?"),
        ("- whole", "holds no names"),
        ("whole: [", "neither YAML nor JSON (line"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        read(file=file)
    assert says in str(error.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"--params-file /nowhere/p\.yaml cannot be read \(No such file"):
        read(file=Path("/nowhere/p.yaml"))


def test_what_the_pipeline_needs_and_nobody_gave_is_named() -> None:
    with pytest.raises(UsageError, match=r"the pipeline needs source; give each as --param NAME=VALUE"):
        read_parameters({"source": Field(name="source", kind="STRING", needed=True)}, [])


def test_the_form_and_the_tasks_are_those_of_the_yaml(pipeline: Path) -> None:
    source = read_pipeline(str(pipeline))
    assert (source.name, source.text) == ("small-pipeline", PIPELINE)
    assert source.form["epochs"] == Field(name="epochs", kind="NUMBER_INTEGER", needed=False, default=3.0)
    assert set(source.tasks) == {"prepare", "fine-tune", "evaluate", "finalize"}


def test_without_a_cache_the_version_is_another(pipeline: Path) -> None:
    with_cache, without = read_pipeline(str(pipeline)), read_pipeline(str(pipeline), caching=False)
    assert with_cache.version_name != without.version_name == read_pipeline(str(pipeline), caching=False).version_name
    assert yaml.safe_load(without.text)["root"]["inputDefinitions"] == yaml.safe_load(PIPELINE)["root"]["inputDefinitions"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not YAML (line"),
        ("", "no pipeline in it"),
        ("- a", "no pipeline in it"),
        ("name: x", "not a compiled pipeline"),
        ("pipelineInfo: {name: x}\nroot: {dag: 3}", "not a compiled pipeline"),
        ("apiVersion: pipelines.kubeflow.org/v2beta1\nkind: PipelineVersion", "holds Kubernetes resources (PipelineVersion); apply them"),
    ],
)
def test_a_file_that_is_no_compiled_pipeline_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        read_pipeline(str(file))
    assert says in str(error.value)
