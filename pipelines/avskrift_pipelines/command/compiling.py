"""``avskrift compile``: the pipelines as YAML for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avskrift.errors import UsageError
from avskrift_pipelines.command.output import JsonFlag, print_result

_COMMITTED = Path("pipelines/compiled")


def compile_pipelines(
    out: Annotated[Path, typer.Option(help="Folder for the YAML.")] = _COMMITTED,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 2 if the YAML there differs from what would be written.")
    ] = False,
    release: Annotated[bool, typer.Option("--release", help="Refuse an image that is not named by digest.")] = False,
    as_manifests: Annotated[
        bool, typer.Option("--manifests", help="Write Pipeline and PipelineVersion resources, for Kubeflow in Kubernetes-native mode.")
    ] = False,
    json_: JsonFlag = False,
) -> None:
    """Compile the pipelines to YAML, for `kfp` or the KFP page to take."""
    from avskrift_pipelines.compiled import PIPELINES, compile_into

    if as_manifests and out == _COMMITTED:
        raise UsageError(f"{_COMMITTED} holds what kfp takes; name another folder for the manifests with --out")
    if check and not out.is_dir():
        raise UsageError(f"{out}: there is no such folder here; run this in the repository, or name the folder with --out")
    written = compile_into(out, check=check, release=release, as_manifests=as_manifests)
    drifted = [path for path, differs in written.items() if differs]
    if check and drifted:
        raise UsageError(f"{', '.join(map(str, drifted))}: not what the code says; run `avskrift compile --out {out}`")
    print_result("\n".join(str(path) for path in written), {"pipelines": list(PIPELINES), "files": list(map(str, written))}, as_json=json_)
