"""What went wrong between us and a Kubeflow Pipelines server, in a sentence that says what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import urllib3

from avskrift.errors import AccessError, KubeflowError
from avskrift.logs import redact
from avskrift_pipelines.kfp_access import TOKEN_VARIABLE, Access

_LONGEST_REASON = 300
_FRESH = f"give a fresh one with {TOKEN_VARIABLE}, --existing-token or --token-file"


def refusal(error: BaseException, what: str, access: Access) -> KubeflowError:
    """The error tree's word for what the client raised when it should have done ``what``. Nothing secret is in it."""
    status = getattr(error, "status", None)
    if status == 0:
        return _without_an_answer(str(getattr(error, "reason", error)), urllib3.exceptions.SSLError(), access)
    if isinstance(status, int):
        return _by_status(status, error, what, access)
    cause = getattr(error, "reason", None)
    return _without_an_answer(str(error), cause if isinstance(cause, BaseException) else error, access)


def _by_status(status: int, error: Any, what: str, access: Access) -> KubeflowError:
    where = f"Kubeflow Pipelines at {access.host}"
    if status == 200:
        return AccessError(
            f"{access.host} answered with a web page where KFP's API answers with JSON: "
            "it asks for a login (give a token, or a browser's cookies), or --host is not KFP's address"
        )
    said = _said(error, access)
    if status == 401:
        if access.authenticates:
            return AccessError(f"{where} does not accept the token (HTTP 401{said}); {_FRESH}")
        return AccessError(f"{where} asks who you are (HTTP 401{said}); set {TOKEN_VARIABLE}, or give --token-file or --port-forward")
    if status == 403:
        return AccessError(f"{where} does not let you {what} (HTTP 403{said}); name a --namespace that is yours, or ask for the role in it")
    if status == 404:
        return KubeflowError(f"{where} knows nothing of what should {what} (HTTP 404{said}); check --host and the id")
    if status >= 500:
        return KubeflowError(
            f"{where} failed to {what} (HTTP {status}{said}); try again, or read the log of its pod (kubectl logs deploy/ml-pipeline)"
        )
    return KubeflowError(f"{where} refused to {what} (HTTP {status}{said}); mend what it names")


def _without_an_answer(text: str, cause: BaseException, access: Access) -> KubeflowError:
    where, kinds = f"Kubeflow Pipelines at {access.host}", urllib3.exceptions
    reason = _short(text, access)
    if isinstance(cause, kinds.SSLError):
        return _without_tls(reason, access)
    if isinstance(cause, kinds.NameResolutionError):
        return KubeflowError(f"{access.host}: no such host; check --host, or use --port-forward where it is known inside a cluster only")
    # A refused connection is, to urllib3, a kind of timeout.
    if isinstance(cause, kinds.NewConnectionError):
        return KubeflowError(f"{where} cannot be reached ({reason}); check --host, or use --port-forward")
    if isinstance(cause, kinds.TimeoutError):
        return KubeflowError(f"{where} did not answer in {access.timeout_seconds:g} s; try again, or give it longer with --timeout")
    return KubeflowError(f"the connection to {where} was cut ({reason}); try again")


def _said(error: Any, access: Access) -> str:
    """The server's own sentence: gRPC's gateway and the upload server each have a name for it."""
    body = getattr(error, "body", None) or ""
    text = body.decode("utf-8", errors="replace") if isinstance(body, bytes) else str(body)
    try:
        answer = json.loads(text)
        text = str(answer.get("message") or answer.get("error_message") or answer.get("error") or "")
    except (ValueError, AttributeError):
        text = "" if "<" in text else text  # a proxy's page
    short = _short(text, access)
    return f": {short}" if short else ""


def _short(text: str, access: Access) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return access.without_secrets(redact(first))[:_LONGEST_REASON].rstrip(".")


def _without_tls(reason: str, access: Access) -> KubeflowError:
    """OpenSSL's words alone, of all that is wrapped around them."""
    words = re.sub(r"^.*\[SSL[^\]]*\] |\s*\(_ssl\.c.*$", "", reason)
    if "certificate verify failed" in words:
        why = words.partition("certificate verify failed: ")[2] or words
        return KubeflowError(
            f"the TLS certificate of {access.host} is not trusted ({why}); give the authority's with --ca-cert, "
            "or --no-verify-tls if you know the server"
        )
    return KubeflowError(f"no TLS with {access.host} ({words}); is it http:// that it speaks?")
