"""The ``avskrift`` command."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

import avskrift
from avskrift import logs
from avskrift.errors import AvskriftError, InterruptedRunError, UsageError
from avskrift.steps.boundary import DEBUG_VARIABLE, as_failure, interrupt
from avskrift.storage.paths import home

# These modules import what a command runs when it runs: `--help` and `status` must not wait for torch.
from avskrift_pipelines.command import (
    comparing,
    compiling,
    doctoring,
    endpoint,
    inspecting,
    listing,
    rehearsing,
    running,
    steps,
    submitting,
    transcribing,
)
from avskrift_pipelines.command.output import say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Fine-tune Whisper for a language, prove that it is better, register it, serve it.\n\n"
    "`avskrift run` does all of it on this machine; the other commands do one step each. "
    "State lives in `.avskrift/`, or in `$AVSKRIFT_HOME`.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(avskrift.__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Show a traceback when something fails.")] = False,
    _version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"  # the steps of a run inherit it
    logs.configure()
    if home().exists() and not home().is_dir():
        raise UsageError(f"the state folder {home()} is a file; name a folder in AVSKRIFT_HOME")


_WHOLE, _STEPS, _MODEL, _LOOK = "The whole pipeline", "One step", "The model at work", "Looking around"
_CLUSTER = "On a cluster"
app.command("run", rich_help_panel=_WHOLE)(running.run)
app.command("run-pipeline", rich_help_panel=_WHOLE)(rehearsing.run_pipeline)
app.command("compile", rich_help_panel=_WHOLE)(compiling.compile_pipelines)
app.command("submit", rich_help_panel=_CLUSTER)(submitting.submit)
app.command("prepare", rich_help_panel=_STEPS)(steps.prepare)
app.command("fine-tune", rich_help_panel=_STEPS)(steps.fine_tune)
app.command("export", rich_help_panel=_STEPS)(steps.export)
app.command("evaluate", rich_help_panel=_STEPS)(steps.evaluate)
app.command("gate", rich_help_panel=_STEPS)(steps.gate)
app.command("register", rich_help_panel=_STEPS)(steps.register)
app.command("deploy", rich_help_panel=_STEPS)(steps.deploy)
app.command("transcribe", rich_help_panel=_MODEL)(transcribing.transcribe)
app.command("serve", rich_help_panel=_MODEL)(endpoint.serve)
app.command("stop", rich_help_panel=_MODEL)(endpoint.stop)
app.command("rollback", rich_help_panel=_MODEL)(endpoint.rollback)
app.command("status", rich_help_panel=_LOOK)(endpoint.status)
app.command("runs", rich_help_panel=_LOOK)(listing.runs)
app.command("compare", rich_help_panel=_LOOK)(comparing.compare)
app.command("inspect", rich_help_panel=_LOOK)(inspecting.inspect)
app.command("doctor", rich_help_panel=_LOOK)(doctoring.doctor)


def main() -> None:
    """Run a command; a failure is one sentence and an exit code of its own (see :mod:`avskrift.errors`)."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        app()
    except (AvskriftError, OSError) as error:
        failure = as_failure(error)
        if os.environ.get(DEBUG_VARIABLE) or failure is None:
            raise
        _leave(failure)
    except SystemExit as ended:
        # The CLI library takes Ctrl-C for itself and leaves with 130, without a word.
        if ended.code == InterruptedRunError.exit_code:
            _leave(InterruptedRunError("stopped before it was finished; give the same command again"))
        raise


def _leave(failure: AvskriftError) -> NoReturn:
    say(f"avskrift: {failure}")
    sys.exit(failure.exit_code)
