"""``avskrift run-pipeline``: any of the pipelines on this machine, by the form that it has on a cluster."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from avskrift.errors import UsageError
from avskrift.storage.paths import home
from avskrift_pipelines.command.output import JsonFlag, console, print_result


def run_pipeline(
    pipeline: Annotated[str, typer.Argument(help="fine_tune, sweep, evaluate_only or retrain.")],
    param: Annotated[list[str], typer.Option(help="A parameter of its form, as NAME=VALUE; lists and objects as JSON.")] = [],  # noqa: B006
    params_file: Annotated[Path | None, typer.Option(help="YAML or JSON file with parameters; --param wins over it.")] = None,
    json_: JsonFlag = False,
) -> None:
    """Run any of the pipelines on this machine, with the parameters that it has on a cluster.

    The endpoint is a local one, and training takes what this machine has. `avskrift run` is the main pipeline with options of its own.
    """
    from avskrift_pipelines.compiled import PIPELINES
    from avskrift_pipelines.meaning import check_meaning
    from avskrift_pipelines.pipeline_source import read_pipeline
    from avskrift_pipelines.run_parameters import read_parameters

    name = pipeline.replace("-", "_")
    if name not in PIPELINES:
        raise UsageError(f"no pipeline {pipeline!r}; there are {', '.join(sorted(PIPELINES))}")
    form = read_pipeline(name).form
    if name == "distributed":
        raise UsageError("distributed needs a cluster with Kubeflow Trainer; send it there with `avskrift submit`, or take fine_tune here")
    given = _on_this_machine(form) | read_parameters(form, param, params_file)
    check_meaning(form, given)
    from avskrift_pipelines.local import run_locally
    from avskrift_pipelines.narrator import Narrator

    out = console()
    out.print(f"Running the pipeline {PIPELINES[name].name}", highlight=False)
    run = run_locally(PIPELINES[name], given, Narrator(out))
    steps = {step: {"seconds": round(record.seconds, 1)} for step, record in run.steps.items()}
    told = {"run": run.folder.name, "folder": str(run.folder), "seconds": round(run.seconds, 1), "steps": steps}
    print_result(f"{run.folder.name} ended well after {run.seconds:.0f} s; what its steps wrote is in {run.folder}", told, as_json=json_)


def _on_this_machine(form: Collection[str]) -> dict[str, Any]:
    """What a form's defaults say of a cluster, for a machine without one."""
    local = {"gpus": "0", "deploy_target": "local", "checkpoints": str(home() / "checkpoints")}
    return {name: value for name, value in local.items() if name in form}
