"""The gate's options on the command line, made from :class:`Policy`'s fields: names, types, defaults and help stand there alone."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from avskrift.evaluation.policy import Policy

_PANEL = "What the package must show"
_PolicyFile = Annotated[
    Path | None,
    typer.Option(help="YAML file with bounds; docs/gate-policy.yaml holds them all. Options win over it.", rich_help_panel=_PANEL),
]


def with_policy_options(*, defaults: Policy) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command ``--policy FILE`` and an option for each bound in place of its parameter ``policy``, which it is called with.

    What neither an option nor the file names is as in ``defaults``. The policy is checked before the command begins.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def parsed(policy: Path | None, **given: Any) -> None:
            asked = {bound.name: given.pop(bound.name) for bound in dataclasses.fields(Policy)}
            bounds = {name: value for name, value in asked.items() if value is not None}
            command(policy=_policy(policy, bounds, defaults), **given)

        hints = get_type_hints(command, include_extras=True)
        own = [parameter.replace(annotation=hints[name]) for name, parameter in inspect.signature(command).parameters.items()]
        parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own if parameter.name != "policy"]
        parameters += _options(defaults)
        setattr(parsed, "__signature__", inspect.Signature(parameters))  # noqa: B010 - mypy knows no such attribute of a function
        parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return parsed

    return decorate


def _policy(file: Path | None, bounds: dict[str, Any], defaults: Policy) -> Policy:
    from avskrift.evaluation.policy_file import read_bounds

    return dataclasses.replace(defaults, **(read_bounds(file) if file else {}) | bounds)


def _options(defaults: Policy) -> list[inspect.Parameter]:
    hints = get_type_hints(Policy)
    options = [_option("policy", _PolicyFile)]
    for bound in dataclasses.fields(Policy):
        default = getattr(defaults, bound.name)
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        # None tells an option that was not given from one that was: a file may say otherwise.
        information = typer.Option(help=bound.metadata["help"], show_default=shown, rich_help_panel=_PANEL)
        options.append(_option(bound.name, Annotated[hints[bound.name] | None, information]))
    return options


def _option(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
