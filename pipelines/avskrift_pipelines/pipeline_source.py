"""A pipeline that is to be sent to a server: its YAML, its form, and its tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from avskrift.errors import UsageError
from avskrift_pipelines.run_parameters import Field

_DIGEST_CHARACTERS = 12
_YAML_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSource:
    """A compiled pipeline. ``tasks`` are the names of those that do work; a loop's or a branch's own are left out."""

    name: str
    description: str
    text: str
    form: Mapping[str, Field]
    tasks: tuple[str, ...]

    @property
    def version_name(self) -> str:
        """See :func:`version_name`."""
        return version_name(self.name, self.text)


def version_name(pipeline: str, text: str) -> str:
    """Named by the content: the same bytes have the same name, whoever sends them, and whether the chart installs them or submit does.

    It is a name that Kubernetes takes, and holds the pipeline's: where KFP keeps versions as Kubernetes resources, those of all
    pipelines share a namespace.
    """
    return f"{pipeline}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]}"


def read_pipeline(named: str, *, caching: bool = True) -> PipelineSource:
    """A pipeline of ours by its name, or any by its YAML file; without ``caching``, one none of whose tasks reuses earlier results.

    Raises:
        UsageError: neither, or a file that is no compiled pipeline.
    """
    documents, text = _documents(named)
    if not caching:
        for task in _every_task(documents[0]):
            # KFP's own client changes the outermost tasks alone, so nothing inside an exit handler.
            task["cachingOptions"] = {}
        text = yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True)
    specification = documents[0]
    information = specification["pipelineInfo"]
    inputs = specification["root"].get("inputDefinitions", {}).get("parameters", {})
    return PipelineSource(
        name=str(information["name"]),
        description=str(information.get("description", "")),
        text=text,
        form={name: Field.of(name, entry) for name, entry in inputs.items()},
        tasks=tuple(_names_of_work(specification)),
    )


def _documents(named: str) -> tuple[list[dict[str, Any]], str]:
    if named.endswith(_YAML_ENDINGS) or "/" in named:
        text = _file(Path(named))
        return _parsed(text, named), text
    from avskrift_pipelines.compiled import PIPELINES, compiled  # imports kfp, which who gives a file need not wait for

    ours = PIPELINES.get(named.replace("-", "_"))
    if ours is None:
        raise UsageError(f"no pipeline {named!r}; there are {', '.join(sorted(PIPELINES))}, or give a compiled YAML file")
    text = compiled(ours)
    return _parsed(text, named), text


def _file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; `avskrift compile` writes our pipelines into pipelines/compiled") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read as text ({getattr(error, 'strerror', None) or 'not UTF-8'}); give a pipeline's YAML"
        ) from error


def _parsed(text: str, named: str) -> list[dict[str, Any]]:
    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "it"
        raise UsageError(f"{named}: not YAML ({where} cannot be read); compile the pipeline again") from error
    if not documents or not all(isinstance(one, dict) for one in documents):
        raise UsageError(f"{named}: no pipeline in it; give what `avskrift compile` or kfp's compiler wrote")
    if "kind" in documents[0]:
        raise UsageError(f"{named} holds Kubernetes resources ({documents[0]['kind']}); apply them with kubectl, or give the plain YAML")
    try:
        whole = isinstance(documents[0]["pipelineInfo"]["name"], str) and isinstance(documents[0]["root"]["dag"]["tasks"], dict)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise UsageError(f"{named}: not a compiled pipeline; give what `avskrift compile` or kfp's compiler wrote")
    return documents


def _every_task(specification: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for component in (specification["root"], *specification.get("components", {}).values()):
        yield from component.get("dag", {}).get("tasks", {}).values()


def _names_of_work(specification: Mapping[str, Any]) -> Iterator[str]:
    """Names of the tasks that a pod runs, each once, the outer before the inner."""
    components = specification.get("components", {})
    seen: set[str] = set()
    waiting = [specification["root"]]
    while waiting:
        tasks = waiting.pop(0).get("dag", {}).get("tasks", {})
        for name in tasks:
            component = components.get(tasks[name].get("componentRef", {}).get("name"), {})
            if "dag" in component:
                waiting.append(component)
            elif name not in seen:
                seen.add(name)
                yield name
