"""The page's files as they are, and as they are served."""

import re
from pathlib import Path

import pytest
from fakes.process import Xrayd

import xrayd.web

FILES = [
    path
    for path in Path(xrayd.web.__file__).parent.iterdir()
    if path.suffix in (".html", ".css", ".js", ".svg")
]
HTML = {"Accept": "text/html", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}


def test_the_files_are_small_in_all():
    assert 20_000 < sum(path.stat().st_size for path in FILES) < 200_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_makes_markup_of_text_or_names_another_host(path):
    text = path.read_text()
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|DOMParser"
    assert not re.search(forbidden, text)
    assert not re.search(r"(?:src|href|import|from|url\()\W*https?:", text)
    assert not re.search(r"\son\w+=|style=|javascript:", text) or path.suffix != ".html"


def test_the_page_comes_with_a_strict_policy(dev: Xrayd):
    answer = dev.get("/", HTML)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_every_file_is_served_with_its_type_and_only_once(dev: Xrayd):
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
    for path in FILES:
        answer = dev.get(f"/_xrayd/page/{path.name}")
        assert answer.body == path.read_bytes()
        assert answer.headers["content-type"].startswith(types.get(path.suffix, "image/svg+xml"))
        again = dev.get(f"/_xrayd/page/{path.name}", {"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("name", ["../__init__.py", "__init__.py", "%2e%2e/x", "", "a/b", "app"])
def test_nothing_else_is_served(dev: Xrayd, name: str):
    assert dev.get(f"/_xrayd/page/{name}").status == 404


@pytest.mark.parametrize(
    "path", ["complete?cursor=-1", "complete?cursor=9999999999999999", "documents?trace=x",
             "live?revision=x"],
)  # fmt: skip
def test_a_bad_question_gets_a_reason(dev: Xrayd, path: str):
    answer = dev.get(f"/_xrayd/{path}")
    assert answer.status == 400
    assert b'"message":"' in answer.body


def test_the_demo_is_not_started_by_nonsense_or_by_another_page(dev: Xrayd):
    assert dev.post("/_xrayd/demo", "{}").status == 400
    assert dev.post("/_xrayd/demo", "[").status == 400
    elsewhere = {"Origin": "http://evil.example"}
    assert dev.post("/_xrayd/demo", '{"running":true}', elsewhere).status == 403
    assert dev.get("/_xrayd/health", {"Sec-Fetch-Site": "cross-site"}).status == 403
    assert b'"demo":false' in dev.get("/_xrayd/health").body


def test_whoever_asks_without_a_browser_is_told_how_to_use_the_api(dev: Xrayd):
    assert b"aws xray" in dev.get("/").body
