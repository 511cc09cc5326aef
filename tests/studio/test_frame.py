"""The studio's pages and addresses; every error is one sentence."""

import logging
import re
import socket

import pytest
from starlette.testclient import TestClient

from browser import Elements
from tunit.cli import main
from tunit.commands import studio
from tunit.errors import ConfigError, RunError
from tunit.studio import explore, serve
from tunit.studio import workspace as workspace_module
from tunit.studio.app import create_app
from tunit.studio.guard import HEADERS, rules_for
from tunit.studio.workspace import MOST_RUNS, Workspace

PAGES = ["/", "/train", "/runs/birds/explore", "/runs/birds/translate", "/runs/birds/teach"]
AS_PAGE = {"accept": "text/html"}
ADDRESS = "http://127.0.0.1:8765"


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_complete_and_loads_only_existing_files(client, address):
    answer = client.get(address)
    assert answer.status_code == 200
    elements = Elements(answer.text).found
    assert sum(tag == "h1" for tag, _ in elements) == 1
    # the browser would block inline styles and scripts
    assert not any("style" in attributes for _, attributes in elements)
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
    identities = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    loaded = [
        attributes.get("src") or attributes.get("href")
        for tag, attributes in elements
        if tag in ("script", "link") and attributes.get("type") != "application/json"
    ]
    assert len(loaded) >= 3
    for part in loaded:
        assert part.startswith("/")
        assert client.get(part).status_code == 200


@pytest.mark.parametrize(
    ("host", "sentence", "other"),
    [
        ("127.0.0.1", "Only this machine can open these pages", "from other machines"),
        ("0.0.0.0", "can open these pages from other machines", "Only this machine"),
    ],
)
def test_every_page_says_who_can_open_it(workspace, host, sentence, other):
    rules = rules_for(host, 8765, "", 1_000_000)
    with TestClient(create_app(workspace, rules), base_url=ADDRESS) as client:
        for address in (*PAGES, "/nothing"):
            text = client.get(address, headers=AS_PAGE).text
            assert sentence in text
            assert other not in text
            assert "leaves this machine" not in text


def test_pages_link_to_each_other(client):
    front = client.get("/").text
    assert 'href="/runs/birds/explore"' in front
    assert "a later one" in front
    keys = re.findall(r'href="/runs/([^/"]+)/explore"', front)
    assert len(keys) == 2
    for key in keys:
        page = client.get(f"/runs/{key}/translate")
        assert page.status_code == 200
        assert re.search(r'aria-current="page">Translate<', page.text)
        for part in ("explore", "teach"):
            assert f'href="/runs/{key}/{part}"' in page.text


@pytest.mark.parametrize(
    "key",
    ["nothing", "%2e%2e", "%2e%2e%2fpictures", "..%2f..%2fetc", "%2fetc%2fpasswd", "birds%00", "birds%2fdata", "%ff"],
)  # fmt: skip
def test_an_address_without_a_run_is_one_sentence(client, key):
    for part in ("explore", "translate", "teach"):
        answer = client.get(f"/runs/{key}/{part}")
        assert answer.status_code in (400, 404)
        assert len(answer.json()["error"].splitlines()) == 1


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "%2fetc%2fpasswd", "__init__.py"])
def test_only_the_static_files_are_served(client, name):
    assert client.get(f"/static/x/{name}").status_code == 404


def test_a_link_out_of_the_folder_is_not_followed(runs, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    for name in ("config.toml", "run.json", "model.safetensors"):
        (outside / name).write_bytes((runs / "birds" / name).read_bytes())
    (inside / "linked").symlink_to(outside)
    (inside / "own").mkdir()
    (inside / "own" / "model.safetensors").symlink_to(outside / "model.safetensors")
    (inside / "ring").symlink_to(inside / "ring")
    workspace = Workspace(inside, device="cpu")
    assert [run.key for run in workspace.runs()] == ["own"]
    with pytest.raises(Exception, match="leads out of"):
        workspace.run("own")


def test_names_of_any_kind_have_different_keys(tmp_path):
    names = ["a", "a.b", "a/b", "ä ö", "<b>", "x" * 90, "x" * 91, "-", "a b", "a-b"]
    for name in names:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "model.safetensors").touch()
    runs = Workspace(tmp_path, device="cpu").runs()
    # a/b is inside a run, so it is not a run of its own.
    assert sorted(run.name for run in runs) == sorted(set(names) - {"a/b"})
    assert len({run.key for run in runs}) == len(runs) <= MOST_RUNS
    assert all(re.fullmatch(r"[\w.-]+", run.key, re.ASCII) for run in runs)


def test_the_runs_of_reproduce_are_found(tmp_path):
    run = tmp_path / "table1" / "g" / "seed-0" / "run"
    run.mkdir(parents=True)
    (run / "model.safetensors").touch()
    assert [found.path for found in Workspace(tmp_path, device="cpu").runs()] == [run]


def test_an_unexpected_error_is_guarded_and_not_kept(client, monkeypatch):
    monkeypatch.setattr(Workspace, "runs", lambda self: 1 / 0)
    answer = client.get("/")
    assert answer.status_code == 500
    assert answer.headers["cache-control"] == "no-store"
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_a_run_is_searched_once_and_found_anew_where_it_lies_then(tmp_path, monkeypatch):
    old, new = tmp_path / "a" / "run", tmp_path / "a run"
    old.mkdir(parents=True)
    (old / "model.safetensors").touch()
    studio, searches = Workspace(tmp_path, device="cpu"), []
    search = workspace_module._runs_below
    monkeypatch.setattr(workspace_module, "_runs_below", lambda root: searches.append(root) or search(root))
    key = studio.runs()[0].key
    assert [studio.run(key).path for _ in range(3)] == [old] * 3
    assert len(searches) == 2  # the list above, and the first request
    old.rename(new)
    with pytest.raises(RunError, match="there is no run"):
        studio.run(key)
    old.symlink_to(new)
    with pytest.raises(RunError, match="there is no run"):
        studio.run(key)
    assert studio.run(studio.runs()[0].key).path == new


def test_the_folder_may_be_a_run_itself(runs):
    workspace = Workspace(runs / "birds", device="cpu")
    assert [(run.key, run.name) for run in workspace.runs()] == [("birds", "birds")]


def test_without_runs_the_page_says_how_to_begin(tmp_path):
    with TestClient(create_app(Workspace(tmp_path, device="cpu")), base_url="http://localhost") as client:
        assert 'href="/train"' in client.get("/").text


def test_an_unexpected_error_is_one_sentence_with_details_in_the_log(client, monkeypatch, caplog):
    def fail(request):
        raise ValueError("the inside of it")

    monkeypatch.setattr(explore, "run_of", fail)
    with caplog.at_level(logging.ERROR, "tunit.studio"):
        answer = client.get("/runs/birds/explore", headers=AS_PAGE)
    assert answer.status_code == 500
    assert "the inside of it" not in answer.text
    assert "failed with an unexpected error" in answer.text
    assert "the inside of it" in caplog.text


def test_a_missing_package_is_one_sentence_that_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(studio, "_NEEDED", ("starlette", "no_such_package"))
    assert main(["studio"]) == 2
    err = capsys.readouterr().err
    assert "no_such_package" in err
    assert 'pip install "tunit[studio]"' in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["/nowhere"], "/nowhere is not a folder"),
        ([".", "--pictures", "/nowhere"], "/nowhere is not a folder"),
        ([".", "--host", "no such host"], "cannot listen at no such host"),
        ([".", "--host", "203.0.113.7"], "cannot listen at 203.0.113.7"),
        ([".", "--port", "70000"], "--port is 70000: take at most 65535"),
        ([".", "--device", "abacus"], "abacus"),
    ],
)
def test_a_start_that_is_impossible_is_one_sentence(words, sentence, capsys):
    assert main(["studio", *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_a_port_in_use_is_one_sentence():
    listening = serve.listen("127.0.0.1", 0)
    with listening, pytest.raises(ConfigError, match="give another --port"):
        serve.listen("127.0.0.1", listening.getsockname()[1])


@pytest.mark.parametrize("host", ["", "0", "0.0.0.0", "127.0.0.1"])
def test_the_printed_address_can_be_opened_and_a_host_of_no_name_is_public(runs, monkeypatch, capsys, host):
    given = []
    monkeypatch.setattr(serve, "create_app", lambda workspace, rules: given.append(rules))
    monkeypatch.setattr(serve.uvicorn.Server, "run", lambda self, sockets: sockets[0].close())
    monkeypatch.setattr(serve, "_log_as_remarks", lambda: None)
    serve.serve(Workspace(runs, device="cpu"), host, 0)
    (rules,) = given
    public = host != "127.0.0.1"
    assert rules.addresses == bool(rules.token) == public
    assert rules.knows("") is False
    name = socket.gethostname() if public else host
    assert f"is open at http://{name}:{rules.port}/" in capsys.readouterr().out
