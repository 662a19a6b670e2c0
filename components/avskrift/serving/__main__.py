"""``python -m avskrift.serving --package DIR --port N``: what the local deployment and the serving image start."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from avskrift import logs
from avskrift.errors import AvskriftError

if TYPE_CHECKING:
    from avskrift.serving.model import OpenTranscriber


def main(arguments: Sequence[str] | None = None, *, open_transcriber: OpenTranscriber | None = None) -> int:
    """Serve until told to stop; the exit code, after one sentence on standard error if it is not 0.

    ``open_transcriber`` stands in for the CTranslate2 engine.
    """
    options = _parser().parse_args(arguments)
    try:
        logs.configure()
        from avskrift.serving.server import open_ctranslate2, serve  # KServe takes seconds to import: not for --help or a wrong option

        serve(
            options.package,
            name=options.name,
            host=options.host,
            port=options.port,
            grpc_port=options.grpc_port,
            model_version=options.model_version,
            package_sha256=options.package_sha256,
            open_transcriber=open_transcriber or open_ctranslate2,
        )
    except AvskriftError as error:
        print(f"avskrift.serving: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m avskrift.serving", description="Serve a model package through KServe's model server.", allow_abbrev=False
    )
    parser.add_argument("--package", type=Path, required=True, metavar="DIR", help="the model package: a folder with model.json")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="TCP port to listen on (default 8080; 0 takes a free one)")
    parser.add_argument(
        "--grpc-port", type=int, metavar="N", help="serve gRPC too, on this TCP port (KServe's is 8081; 0 takes a free one)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1; 0.0.0.0 in a container)")
    parser.add_argument("--name", default="avskrift", help="name of the model in URLs (default avskrift)")
    parser.add_argument("--model-version", default="", metavar="V", help="the registry's version, shown by /openai/v1/models")
    parser.add_argument(
        "--package-sha256", default="", metavar="SHA256", help="the sha256 that the registry holds of the package; another is not served"
    )
    return parser


def leave(code: int) -> NoReturn:
    """End the process at once: a transcription that outlived the grace period must neither hold it nor meet its tear-down in C++."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
