"""Where commands write: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def console() -> Console:
    """For people, on standard error: standard output stays clean for programs."""
    return Console(stderr=True)


def print_result(text: str, value: Any, *, as_json: bool) -> None:
    """Print ``text`` for a person or ``value`` for a program."""
    try:
        print(json.dumps(value, ensure_ascii=False, indent=2) if as_json else text, flush=True)
    except BrokenPipeError:  # whoever read it has read enough; the work is done all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """A line for a person."""
    print(text, file=sys.stderr, flush=True)
