"""Data that a run used, in MLflow's own words: its page links to what it knows by them, and its API can load it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Dataset, InputTag
from mlflow.entities import DatasetInput as MlflowDatasetInput
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from avskrift.logs import redact
from avskrift.registry import tags
from avskrift.registry.protocol import DatasetInput

_LONGEST_NAME = 500  # MLflow's limits
_LONGEST_DIGEST = 36
_LONGEST_SOURCE = 10_000  # MLflow's limit is on its JSON, in which a character may take six
_REMOTE_SOURCE = re.compile(r"(?:[a-z]+:)?(?P<uri>(?P<scheme>https?|s3|hf)://(?P<path>[^?#]*).*)", re.DOTALL)


def as_dataset_input(used: DatasetInput) -> MlflowDatasetInput:
    """Names and sources longer than MLflow takes are cut, and credentials are cut out of them."""
    kind, source = _as_source([redact(uri)[:_LONGEST_SOURCE] for uri in used.sources])
    profile = {name: redact(value) if isinstance(value, str) else value for name, value in used.profile.items()}
    columns = [{"name": name, "type": of, "required": True} for name, of in used.columns.items()]
    dataset = Dataset(
        name=used.name[:_LONGEST_NAME],
        digest=used.digest[:_LONGEST_DIGEST],
        source_type=kind,
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": columns}) if columns else None,
        profile=json.dumps(profile, ensure_ascii=False),
    )
    return MlflowDatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, used.context)])


def _as_source(uris: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """MLflow's type of a source, and its fields."""
    if len(uris) != 1:
        return "code", {"tags": {tags.DATASET_SOURCE: " + ".join(uris)[:_LONGEST_SOURCE]}}
    match = _REMOTE_SOURCE.fullmatch(uris[0])
    if match is None:
        return "local", {"uri": uris[0]}
    if match["scheme"] == "hf":
        return "hugging_face", {"path": match["path"]}
    return ("s3", {"uri": match["uri"]}) if match["scheme"] == "s3" else ("http", {"url": match["uri"]})
