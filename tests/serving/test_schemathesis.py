"""The server holds to its own description, whatever is sent: no crash, no answer that the description does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from conftest import RunningServer, base64_recording, recording
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from avskrift.serving.openapi import description
from avskrift.serving.settings import Settings

_CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_EXAMPLES = 40  # of each route and kind
_ROUTES = [
    (path, method) for path, methods in description(model_name="avskrift", settings=Settings())["paths"].items() for method in methods
]
_HEARING = [(path, method) for path, method in _ROUTES if method == "post"]

few = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    derandomize=True,  # the same requests each time: a failure that comes and goes teaches nobody
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


@pytest.fixture(scope="session")
def described(server: RunningServer) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")


@pytest.fixture(autouse=True)
def nothing_fails(server: RunningServer) -> Iterator[None]:
    """The server is shared, and other tests make it fail on purpose."""
    before = server.log().count("request.failed")
    yield
    assert server.process.poll() is None
    assert server.log().count("request.failed") == before


@pytest.mark.parametrize(("path", "method"), _ROUTES)
def test_what_the_description_allows_is_answered_as_described(described: Any, path: str, method: str) -> None:
    @few
    @given(described[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def ask(case: Any) -> None:
        case.call_and_validate(checks=_CHECKS, timeout=60)

    ask()


@pytest.mark.parametrize(("path", "method"), _HEARING)
def test_what_the_description_does_not_allow_is_refused_as_described(described: Any, path: str, method: str) -> None:
    @few
    @given(described[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def ask(case: Any) -> None:
        case.call_and_validate(checks=[*_CHECKS, negative_data_rejection], timeout=60)

    ask()


@pytest.mark.parametrize(("path", "method"), _HEARING)
def test_a_real_recording_amid_made_up_fields_is_answered_as_described(described: Any, path: str, method: str) -> None:
    statuses = set()

    @few
    @given(described[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def ask(case: Any) -> None:
        _place_recording(case)
        statuses.add(case.call_and_validate(checks=_CHECKS, timeout=60).status_code)

    ask()
    assert 200 in statuses


def _place_recording(case: Any) -> None:
    """Put a second of tone where the case has made-up bytes, and our model's name in its path."""
    if case.path_parameters:
        case.path_parameters["model_name"] = "avskrift"
    match case.body:
        case {"file": _}:
            case.body["file"] = recording(1.0)
        case {"instances": [*instances]}:
            for instance in instances:
                wrapped = isinstance(instance["audio"], dict)
                instance["audio"] = {"b64": base64_recording(1.0)} if wrapped else base64_recording(1.0)
        case {"inputs": [tensor]}:
            tensor["data"] = [base64_recording(1.0)] * len(tensor["data"])
            tensor["shape"] = [len(tensor["data"])]
