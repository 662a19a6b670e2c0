"""A registered version is a plain folder in S3, and `transformers`, CTranslate2, KServe and `mlflow.pyfunc` each load it as it lies."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ctranslate2
import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
import seaweedfs
from deployment_material import free_port, make_material
from mlflow_server import MlflowServer
from recordings import encoded, tone
from seaweedfs import BUCKET, Store
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from avskrift.audio.decode import decode
from avskrift.errors import AudioError, IntegrityError, UsageError
from avskrift.registry.mlflow_registry import open_registry
from avskrift.steps.register.step import Config, run
from avskrift.storage.door import fetch
from avskrift.storage.manifest import digest_folder
from avskrift.whisper.package import ModelPackage, open_package
from avskrift.whisper.transcriber import load_transcriber
from avskrift.whisper.transcript import Options

NAME, URI = "loaded", "models:/loaded@challenger"
# What a file of Python's own serialisation, or PyTorch's, begins with.
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


@pytest.fixture(scope="module")
def registered(tiny_package: ModelPackage, server: MlflowServer, store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the version's package lies: below the store for packages, put there from this machine."""
    with pytest.MonkeyPatch.context() as patch:
        seaweedfs.use_keys(patch, store.endpoint)
        patch.setenv("AVSKRIFT_PACKAGE_STORE", f"s3://{BUCKET}/packages/")
        material = make_material(tmp_path_factory.mktemp("material"), package=tiny_package)
        run(
            Config(
                package_uri=str(tiny_package.folder),
                evaluation=material.evaluation,
                gate=material.decision,
                training=material.training,
                model_name=NAME,
                experiment="swedish",
                pipeline_run_id="loaders",
                tracking_uri=server.uri,
            )
        )
    found = open_registry(server.uri).version_of_alias(NAME, "challenger")
    assert found is not None
    return found.source_uri


@pytest.fixture
def clip() -> bytes:
    return encoded(tone(1.0, hertz=300.0), container="FLAC")


@pytest.fixture
def expected(tiny_package: ModelPackage, clip: bytes) -> str:
    """What the engine hears in the package that was exported."""
    (heard,) = load_transcriber(tiny_package).transcribe([decode(clip)], Options())
    return heard.text


def test_the_version_is_a_plain_folder_in_the_store_byte_for_byte(
    registered: str, tiny_package: ModelPackage, server: MlflowServer
) -> None:
    assert registered.startswith(f"s3://{BUCKET}/packages/{NAME}/")
    folder = fetch(URI)
    assert digest_folder(folder) == digest_folder(tiny_package.folder)
    open_package(folder).verify()


def test_nothing_in_it_is_pickled(registered: str, server: MlflowServer) -> None:
    for path in fetch(URI).rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith(_PICKLES), path.name


def test_transformers_loads_it(registered: str, server: MlflowServer, clip: bytes) -> None:
    folder = fetch(URI) / "hf"
    model, loaded = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(loaded.values())
    processor = WhisperProcessor.from_pretrained(folder)
    features = processor(decode(clip), sampling_rate=16_000, return_tensors="pt").input_features
    (tokens,) = model.generate(features, language="sv", task="transcribe", max_new_tokens=8)
    assert processor.decode(tokens, skip_special_tokens=True)


def test_ctranslate2_loads_it(registered: str, server: MlflowServer, clip: bytes, expected: str) -> None:
    package = open_package(fetch(URI))
    assert ctranslate2.models.Whisper(str(package.ctranslate2), compute_type="int8").is_multilingual
    (heard,) = load_transcriber(package).transcribe([decode(clip)], Options())
    assert heard.text == expected


@pytest.fixture
def mounted(registered: str, store: Store, tmp_path: Path) -> Path:
    """What KServe's storage initializer puts at /mnt/models: every object below the URI, under its name relative to it."""
    prefix = registered.removeprefix(f"s3://{BUCKET}/") + "/"
    for entry in store.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
        file = tmp_path / "models" / entry["Key"].removeprefix(prefix)
        file.parent.mkdir(parents=True, exist_ok=True)
        store.client.download_file(BUCKET, entry["Key"], str(file))
    return tmp_path / "models"


def test_kserve_serves_it_from_what_its_storage_initializer_fetches(mounted: Path, clip: bytes, expected: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "avskrift.serving", "--package", str(mounted), "--port", str(port), "--host", "127.0.0.1"]
    with subprocess.Popen([*command, "--name", "avskrift"], stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                _wait(lambda: client.get("/v1/models/avskrift").json()["ready"], process)
                asked = {"instances": [{"audio": {"b64": base64.b64encode(clip).decode()}}]}
                answer = client.post("/v1/models/avskrift:predict", json=asked).json()
                assert answer["predictions"][0]["text"] == expected
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def pyfunc(registered: str, server: MlflowServer, store: Store) -> Iterator[Any]:
    """The model as MLflow loads it by its alias, with every unpickling refused."""
    with pytest.MonkeyPatch.context() as patch:
        seaweedfs.use_keys(patch, store.endpoint)
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        yield mlflow.pyfunc.load_model(URI)


def test_mlflow_loads_it_by_its_alias(pyfunc: Any, clip: bytes, expected: str) -> None:
    assert pyfunc.predict(pd.DataFrame({"audio": [clip, clip]})) == [expected, expected]


@pytest.mark.parametrize(
    "shape",
    [
        lambda clip, file: clip,
        lambda clip, file: [clip],
        lambda clip, file: base64.b64encode(clip).decode(),
        lambda clip, file: f"data:audio/flac;base64,{base64.b64encode(clip).decode()}",
        lambda clip, file: file,
        lambda clip, file: {"audio": [base64.b64encode(clip).decode()]},
        lambda clip, file: pd.DataFrame({"audio": [file]}),
        lambda clip, file: pd.DataFrame({"whatever": [base64.b64encode(clip).decode()]}),
        lambda clip, file: pd.DataFrame({"audio": [bytearray(clip)], "language": [None], "id": [7]}),
        lambda clip, file: np.array([clip], dtype=object),
    ],
)
def test_it_takes_recordings_in_these_shapes(
    pyfunc: Any, clip: bytes, expected: str, tmp_path: Path, shape: Callable[[bytes, Path], Any]
) -> None:
    file = tmp_path / "clip.flac"
    file.write_bytes(clip)
    assert pyfunc.predict(shape(clip, file)) == [expected]


def test_the_order_stays_where_languages_and_lengths_are_mixed(pyfunc: Any, tiny_package: ModelPackage) -> None:
    clips = [encoded(tone(0.2 + 0.02 * number, hertz=200.0 + 50 * number), container="FLAC") for number in range(18)]
    languages = [("sv", "en", None)[number % 3] for number in range(18)]
    engine = load_transcriber(tiny_package)
    alone = [engine.transcribe([decode(one)], Options(language=of))[0].text for one, of in zip(clips, languages, strict=True)]
    assert pyfunc.predict(pd.DataFrame({"audio": clips, "language": languages})) == alone


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"audio": ["Ä!"]}, UsageError, r"row 0: text that is not base64"),
        ({"audio": [b"no recording"]}, AudioError, r"row 0: "),
        ({"audio": [3]}, UsageError, r"row 0: int is no recording; give bytes, base64 or a pathlib\.Path"),
        ({"a": [b""], "b": [b""]}, UsageError, r"no column 'audio' or 'path' among a, b"),
        ({"path": ["/etc/hostname"]}, UsageError, r"row 0: paths as text are read only after load_model\(.*'read_paths': True"),
    ],
)
def test_what_is_no_recording_is_named_with_its_row(pyfunc: Any, given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        pyfunc.predict(pd.DataFrame(given))


def test_paths_as_text_are_read_where_that_was_asked_for(tiny_package: ModelPackage, clip: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "clip.flac").write_bytes(clip)
    model = mlflow.pyfunc.load_model(str(tiny_package.folder), model_config={"read_paths": True})
    assert model.predict(pd.DataFrame({"path": [str(tmp_path / "clip.flac")]})) == [expected]


def test_a_package_that_was_changed_is_not_loaded(mounted: Path) -> None:
    content = bytearray((mounted / "ct2" / "model.bin").read_bytes())
    content[-1] ^= 1
    (mounted / "ct2" / "model.bin").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"ct2/model\.bin has sha256"):
        mlflow.pyfunc.load_model(str(mounted))


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    import time

    for _ in range(600):
        assert process.poll() is None, "the server ended"
        try:
            if ready():
                return
        except (httpx.HTTPError, KeyError, ValueError):
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not become ready")
