"""``avskrift inspect``: what a dataset folder holds, in a terminal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from avskrift_pipelines.command.output import JsonFlag, print_result


def inspect(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder that prepare wrote.", show_default=False)],
    json_: JsonFlag = False,
) -> None:
    """Show what a dataset holds and what was left out of it. Plays nothing and changes nothing."""
    from avskrift.corpus.dataset import open_dataset
    from avskrift.corpus.statistics import statistics
    from avskrift_pipelines.inspection import WIDTH, show

    opened = open_dataset(dataset)
    figures = statistics(opened)
    if json_:
        print_result("", {"dataset": str(dataset), "description": asdict(opened.description), "statistics": asdict(figures)}, as_json=True)
    else:
        console = Console(highlight=False)
        console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
        show(opened, figures, console)
