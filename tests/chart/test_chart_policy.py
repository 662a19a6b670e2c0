"""What the platform engineer answers for: pods are restricted, rights are few, networks are closed, secrets are elsewhere."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import CASES, DRIVER, Manifest, case_manifests, known_pods, manifests, namespace, of_kind, own_pods, predictor_labels, values

_COMPILED = Path(__file__).parents[2] / "pipelines" / "compiled"
_SECRET_NAME = re.compile(r"(?i)password|passwd|secret|token|credential|api_?key|access_?key")
_CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "Namespace", "CustomResourceDefinition", "PersistentVolume", "StorageClass"}


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_restricted_and_cannot_write_to_its_root(case: str) -> None:
    for name, _, spec in own_pods(case):
        assert _unrestricted(spec) == [], name


@pytest.mark.parametrize("case", CASES)
def test_the_predictors_container_is_restricted_whatever_the_pod_around_it_says(case: str) -> None:
    (runtime,) = of_kind(case, "ServingRuntime")
    (container,) = runtime["spec"]["containers"]
    assert _unrestricted_container(container) == []
    assert container["securityContext"]["runAsUser"] > 0
    for service in of_kind(case, "InferenceService"):
        predictor = service["spec"]["predictor"]
        assert _unrestricted_pod({**predictor, "containers": []}) == []


def test_the_check_of_restricted_pods_sees_what_is_loosened() -> None:
    _, _, spec = next(own_pods("defaults"))
    for path, value in (
        (("hostNetwork",), True),
        (("automountServiceAccountToken",), True),
        (("securityContext", "runAsNonRoot"), False),
        (("securityContext", "seccompProfile", "type"), "Unconfined"),
        (("containers", 0, "securityContext", "capabilities", "drop"), ["NET_RAW"]),
        (("containers", 0, "securityContext", "readOnlyRootFilesystem"), False),
        (("containers", 0, "resources", "limits"), {}),
        (("volumes", 0), {"name": "host", "hostPath": {"path": "/"}}),
    ):
        loose = json.loads(json.dumps(spec))
        place = loose
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert _unrestricted(loose), path


@pytest.mark.parametrize("case", CASES)
def test_no_account_mounts_its_token_and_no_pod_of_the_chart_does(case: str) -> None:
    accounts = of_kind(case, "ServiceAccount")
    assert {account["metadata"]["labels"]["avskrift/role"] for account in accounts} == {"data", "train", "serving", "ops"}
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    assert all(spec["automountServiceAccountToken"] is False for _, _, spec in own_pods(case))


@pytest.mark.parametrize("case", CASES)
def test_rights_are_named_one_by_one_and_end_at_the_namespace(case: str) -> None:
    assert not [manifest["kind"] for manifest in case_manifests(case) if manifest["kind"] in _CLUSTER_WIDE]
    for role in of_kind(case, "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"secrets", "roles", "rolebindings", "pods/exec"} & set(rule["resources"])
            assert not {"delete", "deletecollection", "escalate", "bind", "impersonate"} & set(rule["verbs"])


@pytest.mark.parametrize("case", CASES)
def test_only_ops_and_who_was_named_may_touch_inference_services_and_leases(case: str) -> None:
    bindings, given = of_kind(case, "RoleBinding"), values(case)["rbac"]
    assert len(bindings) == len(of_kind(case, "Role")) == int(given["create"])
    for binding in bindings:
        assert binding["roleRef"]["kind"] == "Role"
        subjects = [(subject["name"], subject["namespace"]) for subject in binding["subjects"]]
        named = [(subject["name"], subject["namespace"]) for subject in given["deploySubjects"]]
        assert subjects == [("avskrift-ops", namespace(case)), *named]


def test_by_default_nobody_but_ops_may_deploy() -> None:
    (role,) = of_kind("defaults", "Role")
    writes = {resource for rule in role["rules"] if {"create", "update", "patch"} & set(rule["verbs"]) for resource in rule["resources"]}
    assert writes == {"inferenceservices", "leases"}
    (binding,) = of_kind("defaults", "RoleBinding")
    assert [subject["name"] for subject in binding["subjects"]] == ["avskrift-ops"]


@pytest.mark.parametrize("asked", [False, True])
def test_only_where_it_is_asked_for_the_role_reaches_train_jobs_and_deletes_none(asked: bool) -> None:
    (role,) = (manifest for manifest in manifests({"rbac": {"trainJobs": asked}}) if manifest["kind"] == "Role")
    rules = [rule for rule in role["rules"] if "trainer.kubeflow.org" in rule["apiGroups"]]
    wanted = {"apiGroups": ["trainer.kubeflow.org"], "resources": ["trainjobs"], "verbs": ["get", "create", "patch"]}
    assert rules == ([wanted] if asked else [])


@pytest.mark.parametrize("case", CASES)
def test_no_secret_is_in_plain_text(case: str) -> None:
    assert of_kind(case, "Secret") == []
    for manifest in case_manifests(case):
        if manifest["kind"] in {"Pipeline", "PipelineVersion"}:
            assert not re.search(r"AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{20,}|-----BEGIN", json.dumps(manifest))
            continue
        for variable in _variables(manifest):
            if _SECRET_NAME.search(variable["name"]):
                assert set(variable) == {"name", "valueFrom"}, variable["name"]
            assert not re.search(r"://[^/@\s]+:[^/@\s]+@", str(variable.get("value", ""))), "a password in an address"


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_denied_by_default_both_ways(case: str) -> None:
    for name, labels in known_pods(case).items():
        denied = [
            policy["spec"]
            for policy in of_kind(case, "NetworkPolicy")
            if _selects(policy["spec"]["podSelector"], labels) and not ({"ingress", "egress"} & set(policy["spec"]))
        ]
        assert any(set(policy["policyTypes"]) == {"Ingress", "Egress"} for policy in denied), name


@pytest.mark.parametrize("case", CASES)
def test_where_the_namespace_is_ours_alone_even_unknown_pods_are_denied(case: str) -> None:
    selectors = [policy["spec"]["podSelector"] for policy in of_kind(case, "NetworkPolicy")]
    assert ({} in selectors) == (values(case)["networkPolicy"]["scope"] == "namespace")


# Who may reach whom: from, to, port, and whether. Where a case has no such pod, its line says nothing there.
FLOWS = [
    ("ops", "predictor", 8080, True),
    ("test", "predictor", 8080, True),
    ("data", "predictor", 8080, False),
    ("train", "predictor", 8080, False),
    ("predictor", "predictor", 8080, False),
    ("ops", "predictor", 9999, False),
    ("ops", "knative-predictor", 8012, False),
    ("data", "knative-predictor", 8012, False),
    ("train", "train", 29500, True),
    ("data", "train", 29500, False),
    ("ops", "mlflow", 5000, True),
    ("train", "mlflow", 5000, True),
    ("data", "mlflow", 5000, True),
    ("serving", "mlflow", 5000, True),
    ("driver", "mlflow", 5000, True),
    ("driver", "postgresql", 5432, False),
    ("driver", "predictor", 8080, False),
    ("predictor", "mlflow", 5000, False),
    ("test", "mlflow", 5000, False),
    ("mlflow", "postgresql", 5432, True),
    ("ops", "postgresql", 5432, False),
    ("train", "postgresql", 5432, False),
    ("object-store", "postgresql", 5432, False),
    ("mlflow", "object-store", 8333, True),
    ("data", "object-store", 8333, True),
    ("train", "object-store", 8333, True),
    ("serving", "object-store", 8333, True),
    ("ops", "object-store", 8333, True),
    ("predictor", "object-store", 8333, True),
    ("test", "object-store", 8333, False),
    ("postgresql", "object-store", 8333, False),
    ("object-store", "mlflow", 5000, False),
]


@pytest.mark.parametrize("case", CASES)
def test_pods_reach_whom_they_need_and_both_ends_deny_all_others(case: str) -> None:
    pods = {**known_pods(case), "driver": DRIVER}
    flows = [flow for flow in FLOWS if flow[0] in pods and flow[1] in pods]
    found = {(source, target, port): _ends(case, pods[source], pods[target], port) for source, target, port, _ in flows}
    wanted = {(source, target, port): (allowed, allowed) for source, target, port, allowed in flows}
    if values(case)["networkPolicy"]["scope"] == "ours":  # no policy is about drivers there: they leave for where they like
        wanted |= {flow: (True, enters) for flow, (_, enters) in wanted.items() if flow[0] == "driver"}
    assert found == wanted


@pytest.mark.parametrize("labels", [DRIVER, {**DRIVER, "avskrift/role": "data"}], ids=["driver", "launcher in a step without MLflow"])
def test_kubeflows_mlflow_plugin_reaches_an_mlflow_elsewhere(labels: dict[str, str]) -> None:
    found = manifests({"networkPolicy": {"mlflow": {"peers": [_ELSEWHERE], "ports": [5055]}}})
    assert 5055 in _open_ports(found, labels, "egress", _ELSEWHERE)


def test_deploy_and_the_helm_test_reach_the_gateway_that_the_values_name_and_nobody_else_does() -> None:
    found = manifests({"networkPolicy": {"gateway": {"peers": [_ELSEWHERE]}}})
    reached = {name: _open_ports(found, labels, "egress", _ELSEWHERE) for name, labels in known_pods("defaults").items()}
    everywhere = {80, 443, 8080, 8081, 8443, 10080, 10443}  # Istio's, Kourier's and Envoy Gateway's pods
    assert reached == {name: everywhere if name in {"ops", "test"} else set() for name in reached}
    narrow = manifests({"networkPolicy": {"gateway": {"peers": [_ELSEWHERE], "ports": [10080]}}})
    assert _open_ports(narrow, known_pods("defaults")["ops"], "egress", _ELSEWHERE) == {10080}


def test_without_a_gateway_no_rule_is_about_one() -> None:
    ports = {port for policy in of_kind("defaults", "NetworkPolicy") for rule in policy["spec"].get("egress", ()) for port in _ports(rule)}
    assert not {80, 8443, 10080} & ports


@pytest.mark.parametrize("case", [case for case in CASES if case not in {"defaults", "kserve-only"}])
def test_the_values_of_a_cluster_where_pipelines_deploy_name_its_gateway(case: str) -> None:
    (gateway,) = values(case)["networkPolicy"]["gateway"]["peers"]
    assert _open_ports(case_manifests(case), known_pods(case)["ops"], "egress", gateway)
    assert 8080 in _open_ports(case_manifests(case), known_pods(case)["predictor"], "ingress", gateway)


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
@pytest.mark.parametrize("name", ["gateway", "clients"])
def test_requests_reach_a_predictor_by_knatives_ports_where_knative_runs_it_and_else_by_its_own(name: str, mode: str) -> None:
    service = {"create": True, "storageUri": "s3://a/b", "deploymentMode": mode}
    found = manifests(
        {
            "serving": {"grpc": False},
            "endpoint": {"inferenceService": service},
            "networkPolicy": {name: {"peers": [_ELSEWHERE], **({"ports": [80]} if name == "gateway" else {})}},
        }
    )
    pods = known_pods("defaults")
    assert _open_ports(found, pods["predictor"], "ingress", _ELSEWHERE) == {8080}
    assert _open_ports(found, pods["knative-predictor"], "ingress", _ELSEWHERE) == {8080, 8012, 8013, 8112}
    assert _open_ports(found, {**pods["knative-predictor"], **predictor_labels("another")}, "ingress", _ELSEWHERE) == set()


def test_knatives_activator_and_autoscaler_reach_its_queue_proxy_alone() -> None:
    knative = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "knative-serving"}}}
    found, pods = case_manifests("defaults"), known_pods("defaults")
    assert _open_ports(found, pods["knative-predictor"], "ingress", knative) == {8012, 8013, 8112, 9090}
    assert _open_ports(found, pods["predictor"], "ingress", knative) == set()
    moved = manifests({"networkPolicy": {"knative": {"peers": [_ELSEWHERE]}}})
    assert _open_ports(moved, pods["knative-predictor"], "ingress", knative) == set()
    assert _open_ports(moved, pods["knative-predictor"], "ingress", _ELSEWHERE) == {8012, 8013, 8112, 9090}


def test_prometheus_reads_the_queue_proxys_figures_too() -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    pods = known_pods("defaults")
    assert _open_ports(case_manifests("defaults"), pods["predictor"], "ingress", monitoring) == {8080}
    assert _open_ports(case_manifests("defaults"), pods["knative-predictor"], "ingress", monitoring) == {8080, 9090, 9091}


def test_where_nobody_is_named_nobody_is_let_in() -> None:
    nobody: dict[str, Any] = {name: {"peers": []} for name in ("gateway", "clients", "knative", "prometheus")}
    nobody["gateway"]["ports"] = [80]
    found = [manifest["spec"] for manifest in manifests({"networkPolicy": nobody}) if manifest["kind"] == "NetworkPolicy"]
    assert all(rule["from"] for policy in found for rule in policy.get("ingress", ())), "a rule without a source lets everyone in"
    for name in ("predictor", "knative-predictor"):
        assert _open_ports(manifests({"networkPolicy": nobody}), known_pods("defaults")[name], "ingress", _ELSEWHERE) == set()


@pytest.mark.parametrize("case", CASES)
def test_the_internet_is_reached_only_where_the_values_say_so_and_never_by_ops_or_the_store(case: str) -> None:
    allowed = values(case)["networkPolicy"]["internet"]["enabled"]
    for name, labels in known_pods(case).items():
        rules = [rule for policy in _policies(case, labels) for rule in policy.get("egress", ())]
        public = any(_is_public(peer["ipBlock"]) for rule in rules for peer in rule.get("to", ()) if "ipBlock" in peer)
        assert public == (allowed and name in {"data", "train", "serving", "predictor", "knative-predictor"}), name
        assert all(rule.get("to") for rule in rules), "a rule without a destination lets everything out"


@pytest.mark.parametrize("case", CASES)
def test_every_selector_selects_a_pod_that_there_is(case: str) -> None:
    pods = known_pods(case)
    for where, selector in _selectors(case):
        assert [name for name, labels in pods.items() if _selects(selector, labels)], f"{where}: {selector}"


@pytest.mark.parametrize("case", CASES)
def test_budget_monitor_and_autoscaler_are_about_the_endpoint(case: str) -> None:
    service = values(case)["endpoint"]["name"]
    for manifest in of_kind(case, "PodDisruptionBudget", "ServiceMonitor"):
        selected = [name for name, labels in known_pods(case).items() if _selects(manifest["spec"]["selector"], labels)]
        assert selected == ["predictor", "knative-predictor"]
        assert not _selects(manifest["spec"]["selector"], predictor_labels(f"{service}-other"))
    for manifest in of_kind(case, "HorizontalPodAutoscaler", "ScaledObject"):
        assert manifest["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{service}-predictor"}
    for manifest in of_kind(case, "InferenceService"):
        external = manifest["metadata"]["annotations"].get("serving.kserve.io/autoscalerClass") == "external"
        assert external == (values(case)["autoscaling"]["mode"] != "none"), "two autoscalers would fight over one Deployment"


def test_the_labels_that_pipelines_give_their_steps_are_those_that_policies_select() -> None:
    roles: dict[str, tuple[str, str]] = {}
    for path in sorted(_COMPILED.glob("*.yaml")):
        specification, platforms = yaml.safe_load_all(path.read_text(encoding="utf-8"))
        of_pods = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for name, executor in specification["deploymentSpec"]["executors"].items():
            if "importer" in executor:  # Kubeflow's own, which runs nothing of ours
                continue
            image = re.search(r"avskrift/(data|train|serving|ops)[:@]", executor["container"]["image"])
            roles[f"{path.stem}: {name}"] = (image[1] if image else "", of_pods[name]["podMetadata"]["labels"]["avskrift/role"])
    assert {step: label for step, (_, label) in roles.items()} == {step: image for step, (image, _) in roles.items()}


_ELSEWHERE = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}


def _open_ports(found: Iterable[Manifest], labels: dict[str, str], direction: str, peer: dict[str, Any]) -> set[int]:
    """On which ports a pod with these labels may reach a peer of another namespace (egress), or be reached from there (ingress)."""
    policies = [manifest["spec"] for manifest in found if manifest["kind"] == "NetworkPolicy"]
    rules = [rule for policy in policies if _selects(policy["podSelector"], labels) for rule in policy.get(direction, ())]
    return {port for rule in rules if peer in rule["to" if direction == "egress" else "from"] for port in _ports(rule)}


def _ports(rule: dict[str, Any]) -> list[int]:
    return [entry["port"] for entry in rule.get("ports", ())]


def _policies(case: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    return [policy["spec"] for policy in of_kind(case, "NetworkPolicy") if _selects(policy["spec"]["podSelector"], labels)]


def _ends(case: str, source: dict[str, str], target: dict[str, str], port: int) -> tuple[bool, bool]:
    """Whether a connection may leave one pod, and whether it may enter the other; both are in the release's namespace."""
    outward = [policy for policy in _policies(case, source) if "Egress" in policy["policyTypes"]]
    leaves = not outward or any(_lets(rule, "to", target, port) for policy in outward for rule in policy.get("egress", ()))
    enters = any(_lets(rule, "from", source, port) for policy in _policies(case, target) for rule in policy.get("ingress", ()))
    return leaves, enters


def _lets(rule: dict[str, Any], direction: str, labels: dict[str, str], port: int) -> bool:
    if "ports" in rule and port not in [entry["port"] for entry in rule["ports"]]:
        return False
    peers = [peer for peer in rule[direction] if "podSelector" in peer and "namespaceSelector" not in peer]
    return any(_selects(peer["podSelector"], labels) for peer in peers)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """A label selector, as Kubernetes reads it."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        held = labels.get(expression["key"])
        fits = {"Exists": held is not None, "In": held in expression.get("values", ())}[expression["operator"]]
        if not fits:
            return False
    return True


def _selectors(case: str) -> list[tuple[str, dict[str, Any]]]:
    """Every selector of pods in the release's namespace."""
    found = []
    for manifest in case_manifests(case):
        spec, name = manifest.get("spec", {}), f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] == "NetworkPolicy":
            found.append((name, spec["podSelector"]))
            rules = [rule["from"] for rule in spec.get("ingress", ())] + [rule["to"] for rule in spec.get("egress", ())]
            peers = [peer for rule in rules for peer in rule]
            found += [(name, peer["podSelector"]) for peer in peers if "podSelector" in peer and "namespaceSelector" not in peer]
        elif manifest["kind"] == "Service":
            found.append((name, {"matchLabels": spec["selector"]}))
        elif "selector" in spec and manifest["kind"] != "PersistentVolumeClaim":
            found.append((name, spec["selector"]))
    return found


def _variables(value: Any) -> list[dict[str, Any]]:
    """Every entry of every ``env`` in a manifest."""
    if isinstance(value, list):
        return [found for entry in value for found in _variables(entry)]
    if not isinstance(value, dict):
        return []
    return [*value.get("env", ()), *(found for name, entry in value.items() if name != "env" for found in _variables(entry))]


def _is_public(block: dict[str, Any]) -> bool:
    """Whether a range holds public addresses that are no single host and no example."""
    network = ipaddress.ip_network(block["cidr"])
    return network.prefixlen == 0 or not network.is_private


def _unrestricted(spec: dict[str, Any]) -> list[str]:
    """What of a pod the "restricted" Pod Security Standard, or this project, does not allow."""
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    return _unrestricted_pod(spec) + [fault for container in containers for fault in _unrestricted_container(container)]


def _unrestricted_pod(spec: dict[str, Any]) -> list[str]:
    security = spec["securityContext"]
    allowed_volumes = {"name", "configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    faults = [name for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace") if spec.get(name)]
    faults += [volume["name"] for volume in spec.get("volumes", ()) if not set(volume) <= allowed_volumes]
    faults += [] if spec.get("automountServiceAccountToken") is False else ["a token is mounted"]
    faults += [] if security.get("runAsNonRoot") is True and security.get("runAsUser", 0) > 0 else ["may run as root"]
    return faults + ([] if security.get("seccompProfile") == {"type": "RuntimeDefault"} else ["seccomp"])


def _unrestricted_container(container: dict[str, Any]) -> list[str]:
    security, resources = container["securityContext"], container["resources"]
    wanted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    faults = [name for name, value in wanted.items() if security.get(name) != value]
    faults += ["privileged"] if security.get("privileged") else []
    faults += ["hostPort"] if any("hostPort" in port for port in container.get("ports", ())) else []
    faults += [] if {"cpu", "memory"} <= set(resources["requests"]) and {"cpu", "memory"} <= set(resources["limits"]) else ["resources"]
    return faults
