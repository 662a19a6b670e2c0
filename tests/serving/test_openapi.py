"""``/openapi.json`` is valid, names every route that is offered, and its examples are what it says they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from conftest import RunningServer
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from kserve import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.v1_endpoints import register_v1_endpoints
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
from openapi_spec_validator import OpenAPIV31SpecValidator

from avskrift.serving import answers
from avskrift.serving.formats import FORMATS
from avskrift.serving.openapi import description
from avskrift.serving.openapi_schemas import schemas
from avskrift.serving.routes import FIELDS, MEDIA_TYPES, router
from avskrift.serving.settings import Settings

# Routes of KServe's that answer only that they are not offered.
CLOSED = re.compile(r":explain$|/versions/|^/v2/repository/")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return description(model_name="avskrift", settings=Settings())


def media_types(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body and answer under a name for it."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for where, body in bodies.items():
                for media_type, content in body.get("content", {}).items():
                    yield f"{method} {path} {where} {media_type}", content


def test_the_description_is_valid_openapi(described: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(described).validate()


def test_every_route_that_is_offered_is_described_and_no_other(described: dict[str, Any]) -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    plane = DataPlane(ModelRepository())
    register_v1_endpoints(app, plane, None)
    register_v2_endpoints(app, plane, None)
    app.include_router(router(cast(Any, None)))
    offered = {path for path in paths_of(app) if not CLOSED.search(path)}
    assert offered | {"/", "/metrics"} == set(described["paths"])


def paths_of(app: FastAPI) -> set[str]:
    return set(app.openapi()["paths"])


def test_every_closed_route_is_closed(server: RunningServer) -> None:
    for path in ("/v2/repository/models/avskrift/load", "/v2/repository/models/avskrift/unload"):
        assert server.client.post(path).status_code == 404
    assert server.client.post("/v1/models/avskrift:explain", json={"instances": []}).status_code == 501
    assert server.client.get("/v2/models/avskrift/versions/1/ready").status_code == 501


def test_every_example_is_what_its_schema_says(described: dict[str, Any]) -> None:
    checked = 0
    for where, content in media_types(described):
        schema = content["schema"] | {"components": described["components"]}
        for name, example in content.get("examples", {}).items():
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(example["value"])]
            assert not errors, f"{where} {name}"
            checked += 1
    assert checked > 50


def test_requests_that_are_given_as_examples_are_answered_as_described(server: RunningServer, described: dict[str, Any]) -> None:
    for path in ("/v1/models/{model_name}:predict", "/v2/models/{model_name}/infer"):
        operation = described["paths"][path]["post"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"] | {"components": described["components"]}
        for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
            answer = server.client.post(path.format(model_name="avskrift"), json=example["value"])
            assert answer.status_code == 200, answer.text
            Draft202012Validator(schema).validate(answer.json())


def test_forms_have_the_fields_that_the_routes_read() -> None:
    described = schemas("avskrift")
    assert tuple(described["TranscriptionForm"]["properties"]) == FIELDS["transcribe"]
    assert tuple(described["TranslationForm"]["properties"]) == FIELDS["translate"]


def test_every_format_is_described_with_its_media_type(described: dict[str, Any]) -> None:
    content = described["paths"]["/openai/v1/audio/transcriptions"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream", *MEDIA_TYPES.values()}
    shown = {name for one in content.values() for name in one["examples"]}
    assert shown == {*FORMATS, "delta", "done"}


def test_errors_have_the_shape_of_their_protocol(described: dict[str, Any]) -> None:
    for path, methods in described["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    shape = "OpenAIError" if path.startswith(answers.OPENAI_PREFIXES) else "Error"
                    assert answer["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{shape}"}


def test_the_server_gives_its_own_names_and_limits(server: RunningServer) -> None:
    given = server.client.get("/openapi.json").json()
    assert given == description(model_name="avskrift", settings=Settings(max_upload_mb=1, max_audio_seconds=10))


def test_there_is_no_page_that_needs_another_host(server: RunningServer) -> None:
    assert server.client.get("/docs").status_code == 404
    assert server.client.get("/redoc").status_code == 404
