"""What holds for every InferenceService that is rendered at all."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from avskrift.deployment.render import Resources, Service, render, storage_uri, to_yaml
from avskrift.errors import UsageError

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_dns = st.from_regex(r"[a-z]([-a-z0-9]{0,18}[a-z0-9])?", fullmatch=True)
_text = st.text(string.ascii_letters + string.digits + " åäö:#'\"{}[]-_", min_size=1, max_size=30)
_services = st.builds(
    Service,
    name=_dns,
    namespace=_dns,
    storage_uri=_text.map("s3://models/{}".format),
    image=_text,
    model_name=_text,
    version=st.integers(1, 10**6).map(str),
    package_sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
    resources=st.builds(Resources, cpu=st.sampled_from(["1", "500m"]), memory=st.sampled_from(["2Gi"]), gpus=st.integers(0, 8)),
    min_replicas=st.integers(0, 3),
    max_replicas=st.integers(3, 5),
    service_account=st.one_of(st.just(""), _dns),
    mode=st.just("standard"),
    autoscaler=st.sampled_from(["", "external", "none"]),
    grpc=st.booleans(),
)


@given(_services)
def test_yaml_reads_back_as_what_was_rendered_and_rendering_is_pure(service: Service) -> None:
    assert yaml.safe_load(to_yaml(render(service))) == render(service)


@given(_services)
def test_labels_are_ones_that_kubernetes_takes_and_the_sha256_is_kept_whole(service: Service) -> None:
    metadata = render(service)["metadata"]
    assert all(_LABEL_VALUE.fullmatch(value) for value in metadata["labels"].values())
    assert metadata["annotations"]["avskrift/package-sha256"] == service.package_sha256


@given(_services)
def test_every_predictor_is_confined(service: Service) -> None:
    predictor = render(service)["spec"]["predictor"]
    (container,) = predictor["containers"]
    confined = container["securityContext"]
    assert confined["allowPrivilegeEscalation"] is False
    assert confined["readOnlyRootFilesystem"] is True
    assert confined["capabilities"] == {"drop": ["ALL"]}
    for context in (predictor["securityContext"], confined):
        assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 65532)
    assert predictor["automountServiceAccountToken"] is False
    assert container["resources"]["limits"] == container["resources"]["requests"]


@pytest.mark.parametrize("name", ["", "Avskrift", "1st", "a_b", "-a", "a-", "a.b", "å", "a" * 60, "a\n"])
def test_a_name_that_kubernetes_refuses_is_refused_here(name: str) -> None:
    with pytest.raises(UsageError):
        render(_service(name=name))


@given(_services, _services)
def test_two_services_have_one_revision_exactly_if_their_pods_are_alike(one: Service, other: Service) -> None:
    more = replace(one, min_replicas=one.min_replicas + 1, max_replicas=one.max_replicas + 1)
    assert _revision(more) == _revision(one)
    assert (_revision(other) == _revision(one)) == (_pod(other) == _pod(one))


def _revision(service: Service) -> str:
    return str(render(service)["spec"]["predictor"]["labels"]["avskrift/revision"])


def _pod(service: Service) -> dict[str, object]:
    apart = ("labels", "minReplicas", "maxReplicas")
    return {name: value for name, value in render(service)["spec"]["predictor"].items() if name not in apart}


@given(_services)
def test_the_predictor_is_told_the_sha256_that_the_registry_holds(service: Service) -> None:
    (container,) = render(service)["spec"]["predictor"]["containers"]
    assert f"--package-sha256={service.package_sha256}" in container["args"]


@given(_services)
def test_grpc_is_offered_where_it_was_asked_for(service: Service) -> None:
    (container,) = render(service)["spec"]["predictor"]["containers"]
    assert [port["containerPort"] for port in container["ports"]] == ([8080, 8081] if service.grpc else [8080])
    assert ("--grpc-port=8081" in container["args"]) == service.grpc


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "serverless"}, "use standard or knative"),
        ({"mode": "knative", "grpc": True}, "one port"),
        ({"autoscaler": "moon"}, "use hpa"),
    ],
)
def test_a_mode_or_an_autoscaler_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        render(replace(_service(), **changes))


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (2, 1), (0, 0)])
def test_replicas_that_cannot_be_are_refused(low: int, high: int) -> None:
    with pytest.raises(UsageError, match="replicas"):
        render(_service(min_replicas=low, max_replicas=high))


@pytest.mark.parametrize(
    "uri", ["/home/anna/package", "file:///package", "models:/whisper-sv/1", "package:whisper-base", "ftp://host/x", ""]
)
def test_a_package_that_a_cluster_cannot_read_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="KServe cannot read a package from there"):
        storage_uri(uri)


def test_kfps_own_store_is_an_s3_store() -> None:
    assert storage_uri("minio://mlpipeline/v2/artifacts/x") == "s3://mlpipeline/v2/artifacts/x"
    assert storage_uri("pvc://models/x") == "pvc://models/x"


def _service(*, name: str = "avskrift", min_replicas: int = 1, max_replicas: int = 1) -> Service:
    return Service(
        name=name,
        namespace="speech",
        storage_uri="s3://models/x",
        image="serving",
        model_name="whisper-sv",
        version="1",
        package_sha256="0" * 64,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
    )
