"""Which requests the studio answers: only from its own pages, under its own names, up to a size, with its token."""

import re

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tunit.studio.guard import HEADERS, Guard, Rules, is_loopback, rules_for
from tunit.studio.requests import form_of

AS_PAGE = {"accept": "text/html"}


def guarded(rules, host="127.0.0.1:8765"):
    async def answer(request):
        form = await form_of(request)
        return PlainTextResponse(",".join(form))

    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"]), Route("/x", answer)])
    return TestClient(Guard(app, rules), base_url=f"http://{host}", raise_server_exceptions=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8765", "LOCALHOST", "[::1]:80"])
def test_it_responds_to_its_own_names(host):
    assert guarded(Rules()).get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "[::1", "192.168.0.9"]
)
def test_it_responds_to_no_other_name(host):
    answer = guarded(Rules()).get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "does not answer to this host name" in answer.json()["error"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_pages_are_asked_for_again_each_time_and_nothing_of_a_refusal_or_the_token_is_kept():
    client = guarded(Rules(token="secret"))
    assert client.get("/").headers["cache-control"] == "no-store"
    assert client.get("/?token=secret").headers["cache-control"] == "no-store"
    assert client.get("/").headers["cache-control"] == "private, no-cache"


def test_on_a_public_host_it_responds_to_addresses_and_its_own_names_only():
    rules = rules_for("0.0.0.0", 1, "t", 10)
    assert rules.knows("192.168.0.9:8765")
    assert rules.knows("[fe80::1]:80")
    assert not rules.knows("evil.example")
    assert rules_for("studio.example", 1, "t", 10).knows("studio.example:80")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False), ("", False)],
)  # fmt: skip
def test_addresses_that_only_this_machine_reaches(host, loopback):
    assert is_loopback(host) == loopback


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:8765"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"sec-fetch-site": "same-origin", "origin": "http://evil.example"},
    ],
)
def test_requests_from_other_sites_are_refused(headers):
    answer = guarded(Rules()).post("/", data={"a": "1"}, headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://127.0.0.1:8765"}, {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8765"}],
)  # fmt: skip
def test_requests_from_its_own_pages_are_accepted(headers):
    assert guarded(Rules()).post("/", data={"a": "1"}, headers=headers).text == "a"


def test_other_sites_cannot_embed_it_but_can_link_to_it():
    client = guarded(Rules())
    embedded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    framed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=embedded).status_code == 403
    assert client.get("/", headers=framed).status_code == 403
    assert client.get("/", headers=link).status_code == 200


def test_every_response_has_the_security_headers():
    for client in (guarded(Rules()), guarded(Rules(token="t"))):
        for answer in (client.get("/"), client.get("/nothing"), client.get("/", headers={"host": "x"})):
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert "unsafe" not in answer.headers["content-security-policy"]


def test_a_body_over_the_limit_is_refused_with_or_without_its_length():
    client = guarded(Rules(most_bytes=1000))
    assert client.post("/", data={"a": "1" * 900}).text == "a"
    answer = client.post("/", data={"a": "1" * 2000})
    assert answer.status_code == 413
    assert "--max-upload" in answer.json()["error"]
    form = {"content-type": "application/x-www-form-urlencoded"}
    parts = (b"a=" + b"1" * 500 for _ in range(4))
    assert client.post("/", content=parts, headers=form).status_code == 413
    assert client.post("/", content=b"", headers=form | {"content-length": "-5"}).status_code == 413
    assert client.post("/", content=b"", headers=form | {"content-length": "9" * 50}).status_code == 413


def test_without_the_token_nothing_is_shown():
    client = guarded(Rules(token="right", port=8765))
    for address in ("/", "/x", "/nothing", "/?token=", "/?token=wrong", "/?token=%ff", "/?token=right2"):
        answer = client.get(address)
        assert answer.status_code == 401
        assert "token" in answer.json()["error"]
    assert client.post("/?token=right").status_code == 401
    assert "token" in client.get("/", headers=AS_PAGE).text
    assert client.get("/", headers={"cookie": "tunit-studio-8765=right"}).status_code == 401


def test_the_token_is_needed_once_and_removed_from_the_address():
    client = guarded(Rules(token="right", port=8765))
    page = client.get("/x?token=right&more=%22%3E", headers=AS_PAGE)
    assert page.status_code == 200
    cookie = page.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "right" not in cookie
    assert re.search(r'content="0;url=([^"]*)"', page.text).group(1) == "/x"
    assert client.get("/x").status_code == 200
    assert client.post("/", data={"a": "1"}).text == "a"
    assert client.post("/", data={"a": "1"}, headers={"origin": "http://evil.example"}).status_code == 403


def test_the_token_page_redirects_only_within_the_studio():
    client = guarded(Rules(token="right"))
    for address in ("//evil.example/?token=right", "/%22%3E%3Cscript%3E?token=right"):
        page = client.get("http://127.0.0.1:8765" + address)
        assert "<script" not in page.text
        assert "url=//" not in page.text


def test_two_studios_on_one_machine_have_different_cookies():
    first, second = Rules(token="one", port=1), Rules(token="two", port=2)
    assert first.cookie != second.cookie
    assert first.proof != second.proof
