"""How a Kubeflow Pipelines server is reached, and as whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from avskrift.errors import UsageError

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
PAGE_VARIABLE = "KF_PIPELINES_UI_ENDPOINT"
TOKEN_VARIABLE = "KF_PIPELINES_TOKEN"
COOKIES_VARIABLE = "KF_PIPELINES_COOKIES"
TOKEN_FILE_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
# Where a pod finds the token that its service account has for KFP; see kfp.client.ServiceAccountTokenVolumeCredentials.
MOUNTED_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
MOUNTED_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")  # what http.client refuses it prints, and the token with it
_COOKIES = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A server's address and what we show it. Make one with :func:`access`, which checks.

    ``page`` is where people open its pages, ``namespace`` the user's own in a multi-user installation. ``timeout_seconds`` is
    how long an answer may take. Secrets are in no ``repr``.
    """

    host: str
    page: str = ""
    namespace: str = ""
    given_token: str = field(default="", repr=False)
    token_file: Path | None = None
    cookies: str = field(default="", repr=False)
    ca_file: Path | None = None
    verify_tls: bool = True
    timeout_seconds: float = 60.0

    @property
    def authenticates(self) -> bool:
        return bool(self.given_token or self.token_file)

    def token(self) -> str:
        """The token, read anew where it lies in a file: the kubelet replaces it before it expires.

        Raises:
            UsageError: a file that cannot be read, or holds no token.
        """
        if self.token_file is None:
            return self.given_token
        try:
            text = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise UsageError(f"the token file {self.token_file} cannot be read ({reason}); give another with --token-file") from None
        return one_word(text, f"the token file {self.token_file}")

    def without_secrets(self, text: str) -> str:
        """``text`` without the secrets that we showed the server, should it repeat them."""
        for secret in (self._known_token(), self.cookies):
            if len(secret) > 3:
                text = text.replace(secret, "[redacted]")
        return text

    def _known_token(self) -> str:
        try:
            return self.token()
        except UsageError:
            return ""


def access(
    host: str,
    *,
    page: str = "",
    namespace: str = "",
    token: str = "",
    token_file: Path | None = None,
    cookies: str = "",
    ca_file: Path | None = None,
    verify_tls: bool = True,
    timeout_seconds: float = 60.0,
) -> Access:
    """Check what a person gave, before anything is sent. Without token and cookies a pod's own token is taken, where there is one.

    Raises:
        UsageError: an address that is none or holds a password, a token and a token file at once, or either that is no token.
    """
    if token and token_file:
        raise UsageError(f"a token (--existing-token or {TOKEN_VARIABLE}) and a token file are given; leave one out")
    if cookies and not _COOKIES.fullmatch(cookies):
        raise UsageError("the cookies hold a line break or a character that no header takes; copy them again")
    if ca_file is not None and not ca_file.is_file():
        raise UsageError(f"--ca-cert {ca_file}: no such file; give the certificates in PEM")
    if not (token or token_file or cookies) and MOUNTED_TOKEN.is_file():
        token_file = MOUNTED_TOKEN
    found = Access(
        host=_address(host, "--host"),
        page=_address(page or host, "--ui"),
        namespace=namespace,
        given_token=one_word(token.strip(), f"--existing-token or {TOKEN_VARIABLE}") if token else "",
        token_file=token_file,
        cookies=cookies,
        ca_file=ca_file,
        verify_tls=verify_tls,
        timeout_seconds=timeout_seconds,
    )
    found.token()
    return found


def own_namespace(environment: Mapping[str, str]) -> str:
    """The namespace that this pod runs in; empty outside a cluster."""
    if "KUBERNETES_SERVICE_HOST" not in environment:
        return ""
    try:
        return MOUNTED_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _address(url: str, option: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound, parts = False, urlsplit("")
    if "@" in parts.netloc:
        raise UsageError(f"{option} holds a user name or password, which would be printed; give a token instead")
    if not sound or parts.query:
        raise UsageError(f"{option} {url.partition('?')[0]!r} is no address; write https://HOST, with the path that KFP is under")
    # What a browser shows after the # is a page, not where the server is.
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def one_word(text: str, where: str) -> str:
    """``text``, which is a token. What is none would be printed by the error that a header raises.

    Raises:
        UsageError: it is none; ``where`` says where it came from.
    """
    if not _HEADER_VALUE.fullmatch(text):
        raise UsageError(f"{where} holds no token: a token is one word of plain characters; get a fresh one")
    return text
