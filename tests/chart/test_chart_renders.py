"""What the chart renders is what was reviewed, and what an API server takes that refuses unknown fields.

``AVSKRIFT_REGENERATE_GOLDEN=1 pytest tests/chart/test_chart_renders.py`` writes the golden files anew.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from golden.test_deployment_manifest import faults
from rendering import CASES, CHART, case_manifests, manifests, namespace, of_kind, texts, values

_GOLDEN = Path(__file__).parent / "golden"
_SHARED = Path(__file__).parents[3] / "shared" / "crds"
_PIPELINES = Path(__file__).parents[2] / "pipelines" / "compiled"
_KUBERNETES = "1.36"
_BUILT_IN = {"v1", "apps/v1", "policy/v1", "autoscaling/v2", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"}
# Published schemas of these are not at hand: a golden file holds them as they were reviewed.
_UNCHECKED = {"ExternalSecret", "ScaledObject", "ServiceMonitor"}
_LOWEST_WARNING = 2


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_no_fault(case: str) -> None:
    report = helm_python.lint(CHART, CASES[case], strict=True, namespace=namespace(case), kube_version=f"v{_KUBERNETES}.0")
    assert [message for message in report["messages"] if message["severity"] >= _LOWEST_WARNING] == []
    assert not report["errors"]


@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_every_built_in_kind(case: str) -> None:
    checked = [manifest for manifest in case_manifests(case) if manifest["apiVersion"] in _BUILT_IN]
    assert checked
    for manifest in checked:
        kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)


def test_the_check_of_built_in_kinds_sees_an_unknown_field() -> None:
    manifest = {**of_kind("defaults", "PodDisruptionBudget")[0], "spek": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="spek"):
        kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_every_custom_resource_passes_its_published_schema(case: str) -> None:
    custom = [manifest for manifest in case_manifests(case) if manifest["apiVersion"] not in _BUILT_IN]
    for manifest in custom:
        if manifest["kind"] not in _UNCHECKED:
            assert faults(manifest, _published(manifest["apiVersion"], manifest["kind"]), "") == []


@pytest.mark.parametrize("case", CASES)
def test_no_resource_is_named_twice(case: str) -> None:
    names = [(m["apiVersion"], m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in case_manifests(case)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", CASES)
def test_all_is_in_the_releases_namespace_but_pipelines_that_were_asked_elsewhere(case: str) -> None:
    elsewhere = {m["kind"] for m in case_manifests(case) if m["metadata"].get("namespace", namespace(case)) != namespace(case)}
    assert elsewhere == ({"Pipeline", "PipelineVersion"} if values(case)["pipelines"]["namespace"] else set())


@pytest.mark.parametrize("case", CASES)
def test_the_notes_name_the_endpoint_and_how_to_try_it(case: str) -> None:
    notes = texts(CASES[case], namespace(case))["NOTES.txt"]
    assert values(case)["endpoint"]["name"] in notes
    assert f"helm test avskrift --namespace {namespace(case)}" in notes


@pytest.mark.parametrize("case", CASES)
def test_no_claim_is_made_that_nobody_mounts_unless_it_is_asked_for(case: str) -> None:
    assert of_kind(case, "PersistentVolumeClaim") == []


def test_a_claim_that_is_asked_for_is_kept_and_the_notes_say_that_no_pipeline_mounts_it() -> None:
    asked = {"workspace": {"enabled": True, "size": "10Gi", "accessModes": ["ReadWriteMany"]}}
    (claim,) = (manifest for manifest in manifests(asked) if manifest["kind"] == "PersistentVolumeClaim")
    kubernetes_validate.validate(claim, _KUBERNETES, strict=True)
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"] == {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
    assert f"The claim {claim['metadata']['name']} is there. No pipeline mounts it" in texts(asked)["NOTES.txt"]
    mounted = [volume for path in _PIPELINES.glob("*.yaml") for volume in re.findall(r"pvcMount|pvcName", path.read_text(encoding="utf-8"))]
    assert mounted == [], "then the notes and the value's comment are wrong"


@pytest.mark.parametrize("named", ["gateway", "clients"])
def test_the_notes_say_who_cannot_call_the_endpoint_until_a_gateway_is_named(named: str) -> None:
    assert "No gateway is named (networkPolicy.gateway.peers)" in texts({})["NOTES.txt"]
    assert "Nobody but ops and the helm test may call the endpoint" in texts({})["NOTES.txt"]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}
    notes = texts({"networkPolicy": {named: {"peers": [peer]}}})["NOTES.txt"]
    assert ("No gateway is named" in notes) == (named == "clients")
    assert "Nobody but ops" not in notes


def test_the_defaults_are_the_reviewed_ones() -> None:
    rendered = "".join(f"# {name}\n{text.strip()}\n\n" for name, text in texts({}).items())
    assert rendered == _golden("defaults.yaml", rendered)


def test_what_is_held_against_no_schema_is_as_it_was_reviewed() -> None:
    found = of_kind("kubeflow-multi-user", *_UNCHECKED)
    assert {manifest["kind"] for manifest in found} == _UNCHECKED
    text = yaml.safe_dump_all(found, sort_keys=False, width=120)
    assert text == _golden("unchecked.yaml", text)


def test_every_compiled_pipeline_is_in_the_chart_as_it_was_compiled_but_for_the_images() -> None:
    compiled = {path.stem: list(yaml.safe_load_all(path.read_text(encoding="utf-8"))) for path in sorted(_PIPELINES.glob("*.yaml"))}
    versions = {version["spec"]["pipelineName"]: version for version in of_kind("kubeflow-multi-user", "PipelineVersion")}
    assert set(versions) == {documents[0]["pipelineInfo"]["name"] for documents in compiled.values()}
    for documents in compiled.values():
        version = versions[documents[0]["pipelineInfo"]["name"]]["spec"]
        assert _without_registry(version["pipelineSpec"]) == documents[0]
        assert [version[key] for key in ("platformSpec",) if key in version] == documents[1:]


def test_a_version_of_a_pipeline_is_named_by_its_content() -> None:
    def names(values: dict[str, Any]) -> set[str]:
        found = yaml.safe_load_all(texts({"pipelines": {"enabled": True}, **values})["pipelines.yaml"])
        return {manifest["metadata"]["name"] for manifest in found if manifest["kind"] == "PipelineVersion"}

    assert names({}) == names({"serving": {"gpus": 1}})
    kept = names({}) & names({"images": {"train": {"tag": "0.2.0"}}})
    assert {name.rpartition("-")[0] for name in kept} == {"avskrift-evaluate"}, "the only one that trains nothing"
    digests = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in _PIPELINES.glob("*.yaml")}
    assert {name.rpartition("-")[2] for name in names({})} == set(digests.values()), "as `avskrift compile --manifests` and submit name it"


def test_one_value_moves_every_image_to_another_registry() -> None:
    text = "\n".join(texts(CASES["air-gapped"]).values())
    references = {line.split()[-1] for line in text.splitlines() if re.search(r"^\s*(- )?image: ", line)}
    assert len(references) > len({"data", "train", "serving", "ops"})
    assert {reference for reference in references if not reference.startswith("registry.example/mirror/")} == set()
    paths = {reference.removeprefix("registry.example/mirror/").rpartition("/")[0] for reference in references}
    assert [path for path in paths if "." in path] == [], "no registry is left inside a name"
    assert not re.search(r"avskrift/(data|train|serving|ops):", text), "a digest decides, whatever the tag says"


@pytest.mark.parametrize("name", ["on", "null", "12", "1e3"])
def test_names_that_yaml_would_read_as_something_else_stay_names(name: str) -> None:
    word = f"n{name}" if name[0].isdigit() else name  # what must begin with a letter
    found = manifests(
        {
            "imagePullSecrets": [name],
            "serviceAccounts": {role: {"name": name + role} for role in ("data", "train", "serving", "ops")} | {"ops": {"name": name}},
            "rbac": {"deploySubjects": [{"name": name, "namespace": name}]},
            "secrets": {"objectStore": name, "hub": f"{name}-hub"},
            "endpoint": {"name": word, "inferenceService": {"create": True, "storageUri": "s3://a/b"}},
            "fullnameOverride": word,
            "workspace": {"enabled": True, "storageClass": name},
            "mlflow": {"enabled": True, "postgresql": {"existingSecret": name, "storageClass": name}, "bucket": "123"},
            "quota": {"enabled": True, "hard": {"pods": 10}},
        },
        namespace=name,
    )
    for manifest in found:
        if manifest["apiVersion"] in _BUILT_IN:
            kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)
        else:
            assert faults(manifest, _published(manifest["apiVersion"], manifest["kind"]), "") == []
        assert isinstance(manifest["metadata"]["name"], str)


def test_the_packaged_chart_renders_the_same_pipelines_and_all(tmp_path: Path) -> None:
    """The folder has a link to the compiled pipelines; the archive holds the files themselves."""
    archive = helm_python.package(CHART, destination=tmp_path)
    with helm_python.Chart.load(archive) as chart:
        rendered = chart.render(CASES["air-gapped"], name="avskrift", namespace="speech")
    found = {name.removeprefix("avskrift/templates/"): text for name, text in rendered.items() if text.strip()}
    assert found == texts(CASES["air-gapped"])


def _golden(name: str, text: str) -> str:
    path = _GOLDEN / name
    if os.environ.get("AVSKRIFT_REGENERATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")


@functools.cache
def _published(api_version: str, kind: str) -> dict[str, Any]:
    """The schema of a custom resource, which the project does not copy."""
    group, _, name = api_version.partition("/")
    path = Path(os.environ.get("AVSKRIFT_CRDS") or _SHARED) / f"{group}_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is not here: set AVSKRIFT_CRDS to a folder with the CRDs of KServe and Kubeflow Pipelines")
    crd = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (schema,) = (version["schema"]["openAPIV3Schema"] for version in crd["spec"]["versions"] if version["name"] == name)
    return dict(schema)


def _without_registry(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_registry(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_registry(entry) for entry in value]
    return value.replace("registry.example/speech/", "") if isinstance(value, str) else value
