"""The page's files: what a browser is given, what it is forbidden, and what is none of the page's."""

from __future__ import annotations

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from conftest import RunningServer

import avskrift
from avskrift.text.languages import LANGUAGES

_PACKAGE = Path(avskrift.__file__).parent
_FOLDER = _PACKAGE / "serving" / "page"
_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
_FILES = sorted(path.name for path in _FOLDER.iterdir())
_LOADED = [name for name in _FILES if name != "index.html"]
_SCRIPTS = [name for name in _FILES if name.endswith(".js")]
_BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
_SVG = "http://www.w3.org/2000/svg"  # a name, not a place


def source(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def policy(answer: httpx.Response) -> dict[str, str]:
    directives = answer.headers["content-security-policy"].split("; ")
    return {name: value for name, _, value in (directive.partition(" ") for directive in directives)}


def test_a_browser_gets_the_page(server: RunningServer) -> None:
    answer = server.client.get("/", headers=_BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == (_FOLDER / "index.html").read_bytes()
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_probes_and_clients_still_get_kserves_liveness(server: RunningServer, accept: str) -> None:
    assert server.client.get("/", headers={"accept": accept}).json() == {"status": "alive"}


def test_the_root_is_still_for_get_alone(server: RunningServer) -> None:
    assert server.client.post("/", headers=_BROWSER).status_code == 405


@pytest.mark.parametrize("name", _LOADED)
def test_every_file_is_served_as_what_it_is(server: RunningServer, name: str) -> None:
    answer = server.client.get(f"/page/{name}")
    kinds = {"css": "text/css", "js": "text/javascript", "json": "application/json", "svg": "image/svg+xml"}
    assert answer.status_code == 200
    assert answer.content == (_FOLDER / name).read_bytes()
    assert answer.headers["content-type"].split(";")[0] == kinds[name.rpartition(".")[2]]


@pytest.mark.parametrize("path", ["/", "/page/endpoint.json", *(f"/page/{name}" for name in _LOADED)])
def test_every_answer_forbids_what_the_page_does_not_need(server: RunningServer, path: str) -> None:
    answer = server.client.get(path, headers=_BROWSER)
    assert policy(answer) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "media-src": "blob:",
        "worker-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["permissions-policy"] == "microphone=(self)"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/page/app.js"])
def test_a_file_that_the_browser_has_is_not_sent_again(server: RunningServer, path: str) -> None:
    etag = server.client.get(path, headers=_BROWSER).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        answer = server.client.get(path, headers=_BROWSER | {"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert server.client.get(path, headers=_BROWSER | {"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "name", ["index.html", "none.js", "..%2fpage.py", "%2e%2e/page.py", "..%5cpage.py", "%2fetc%2fpasswd", ".", "", "app.js%00"]
)
def test_what_is_no_file_of_the_page_is_not_found(server: RunningServer, name: str) -> None:
    answer = server.client.get(f"/page/{name}", headers=_BROWSER)
    assert answer.status_code == 404
    assert b"import" not in answer.content


def test_the_page_is_told_the_limits_and_languages_of_this_server(server: RunningServer) -> None:
    assert server.client.get("/page/endpoint.json").json() == {
        "max_upload_bytes": 1 << 20,
        "max_audio_seconds": 10.0,
        "languages": LANGUAGES,
    }


def test_a_wheel_holds_every_file() -> None:
    patterns = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["avskrift"]
    packed = {path for pattern in patterns for path in _PACKAGE.glob(pattern)}
    assert [name for name in _FILES if _FOLDER / name not in packed] == []


@pytest.mark.parametrize("name", _FILES)
def test_no_file_names_another_host(name: str) -> None:
    assert re.findall(r"\b(?:https?|wss?|ftp)://|[\"'(]//", source(name).replace(_SVG, "")) == []


def test_the_page_has_no_inline_script_and_no_inline_style() -> None:
    found = _Found()
    found.feed(source("index.html"))
    assert found.inline == []
    assert all(name in _LOADED for name in found.loaded), "the page loads a file that is not there"
    assert found.loaded


@pytest.mark.parametrize("name", _SCRIPTS)
def test_no_script_makes_markup_or_code_of_text(name: str) -> None:
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function", source(name)) == []


@pytest.mark.parametrize("name", _SCRIPTS)
def test_every_module_that_a_script_loads_is_there(name: str) -> None:
    loaded = re.findall(r'from "\./([^"]+)"|new URL\("([^"]+)", import', source(name))
    assert {one or other for one, other in loaded} <= {*_LOADED, "endpoint.json"}


def test_both_languages_say_the_same_things() -> None:
    swedish, english = json.loads(source("sv.json")), json.loads(source("en.json"))
    assert list(swedish) == list(english)
    assert all(swedish.values())
    assert all(english.values())
    holes = re.compile(r"\{\w+\}")
    assert {key for key in english if sorted(holes.findall(swedish[key])) != sorted(holes.findall(english[key]))} == set()


def test_every_text_is_used_and_every_text_that_is_used_is_there() -> None:
    texts = set(json.loads(source("en.json")))
    markup, scripts = source("index.html"), "\n".join(map(source, _SCRIPTS))
    wanted = set(re.findall(r'data-(?:text|label)="(\w+)"', markup))
    wanted |= set(re.findall(r'"(error_\w+)"', scripts))
    wanted |= set(re.findall(r'\b(?:text|say|complain)\("(\w+)"', scripts))
    assert wanted <= texts
    assert {key for key in texts - wanted if f'"{key}"' not in scripts} == set()


class _Found(HTMLParser):
    """What a page loads, and what of it the content security policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loaded += [(given.get(name) or "").removeprefix("page/") for name in ("src", "href") if name in given]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]
