"""Options of the commands that speak to a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

ServiceName = Annotated[str, typer.Option(help="The model's name in URLs, and the InferenceService's name.")]
Namespace = Annotated[str, typer.Option(help="Namespace of the InferenceService; the kubeconfig's, or the pod's own, by default.")]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig; its current one by default.")]
Kubeconfig = Annotated[str, typer.Option(help="A kubeconfig; KUBECONFIG, `~/.kube/config` or the pod's own account by default.")]
ServiceUrl = Annotated[str, typer.Option(help="Where this machine reaches the service, in place of the URL that KServe gives it.")]
ReadyTimeout = Annotated[float, typer.Option(min=0, help="Seconds that each wait may take; 0 for 180 here and 900 on a cluster.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what somebody else changed on the InferenceService.")]
