"""A pipeline's parameters: the form in the KFP UI. Each stands once, with its type, default and description, for all pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent
from kfp.dsl.graph_component import GraphComponent
from kfp.dsl.pipeline_channel import PipelineChannel


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One field of the form. ``kind`` is a type that Kubeflow knows: str, int, float, bool, dict or list."""

    name: str
    default: Any
    help: str
    kind: Any = None

    @property
    def annotation(self) -> Any:
        return self.kind or type(self.default)


Group = tuple[Parameter, ...]


class Given:
    """What a run was given: its parameters as attributes, each a channel that tasks take as an argument."""

    def __init__(self, channels: Mapping[str, PipelineChannel]) -> None:
        self._channels = channels

    def __getattr__(self, name: str) -> PipelineChannel:
        try:
            return self._channels[name]
        except KeyError:
            raise AttributeError(f"the pipeline has no parameter {name!r}") from None

    def to(self, component: BaseComponent, *, but: Collection[str] = ()) -> dict[str, PipelineChannel]:
        """Those parameters that ``component`` has under the same name: what is called alike is the same, ``but`` for these."""
        taken = set(component.component_spec.inputs or {}) - set(but)
        return {name: channel for name, channel in self._channels.items() if name in taken}


def group(*parameters: Parameter) -> Group:
    """Parameters that belong together."""
    return parameters


def but(parameters: Iterable[Parameter], **defaults: Any) -> Group:
    """The same parameters with other defaults. A default of None takes the parameter out.

    Raises:
        KeyError: there is no such parameter.
    """
    known = {parameter.name: parameter for parameter in parameters}
    changed = {name: replace(known[name], default=default) for name, default in defaults.items() if default is not None}
    left_out = {known[name].name for name, default in defaults.items() if default is None}
    return tuple(changed.get(name, parameter) for name, parameter in known.items() if name not in left_out)


def pipeline(name: str, *groups: Group, config: dsl.PipelineConfig | None = None) -> Callable[[Callable[[Given], None]], GraphComponent]:
    """Make a pipeline of a function that builds tasks from a :class:`Given`. The function's docstring describes the pipeline."""

    def decorate(build: Callable[[Given], None]) -> GraphComponent:
        fields = [parameter for each in groups for parameter in each]

        def built(*channels: PipelineChannel) -> None:
            build(Given({field.name: channel for field, channel in zip(fields, channels, strict=True)}))

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        arguments = [inspect.Parameter(one.name, kind, default=one.default, annotation=one.annotation) for one in fields]
        setattr(built, "__signature__", inspect.Signature(arguments))  # noqa: B010 - mypy knows no such attribute of a function
        built.__name__ = build.__name__
        summary = " ".join((inspect.getdoc(build) or "").split("\n\n")[0].split())
        built.__doc__ = "\n".join([summary, "", "Args:", *(f"    {one.name}: {one.help}" for one in fields)])
        made = dsl.pipeline(name=name, description=summary, pipeline_config=config)(built)
        assert isinstance(made, GraphComponent)
        return made

    return decorate
