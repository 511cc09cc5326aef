"""A studio for two tiny runs, called without a network."""

import threading
from contextlib import contextmanager

import pytest
import torch
import uvicorn
from starlette.testclient import TestClient

from browser import headless_chromium
from tiny_run import tiny_config, write_pictures
from tunit.studio import serve
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace
from tunit.training.launch import start_run

ADDRESS = "http://127.0.0.1:8765"


@pytest.fixture(scope="package")
def runs(tmp_path_factory):
    """A folder of runs: `birds`, which is trained, and `later`, which has no model yet."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("studio")
    for i, name in enumerate(("crows", "jays")):
        write_pictures(folder / "pictures" / name, seed=i, number=10)
    start_run(folder / "pictures", folder / "runs" / "birds", tiny_config(style_width=8), quiet=True)
    later = folder / "runs" / "more" / "a later one"
    later.mkdir(parents=True)
    for name in ("config.toml", "run.json"):
        (later / name).write_bytes((folder / "runs" / "birds" / name).read_bytes())
    return folder / "runs"


@pytest.fixture
def workspace(runs):
    return Workspace(runs, (runs.parent / "pictures",), device="cpu")


@pytest.fixture
def client(workspace):
    with TestClient(create_app(workspace), base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def own(root, runs):
    """A client of a studio for the runs of one test: `root`, which its file defines."""
    given = Workspace(root, (runs.parent / "pictures",), device="cpu")
    with TestClient(create_app(given), base_url=ADDRESS, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def held(monkeypatch):
    """A function that lets calls of a function wait; gives (the calls that have begun, the event that ends them)."""
    events = []

    def hold(where, name, is_held=lambda *_: True):
        begun, may_end, real = [], threading.Event(), getattr(where, name)
        events.append(may_end)

        def wait(*args, **kwargs):
            if is_held(*args):
                begun.append(args)
                assert may_end.wait(120)
            return real(*args, **kwargs)

        monkeypatch.setattr(where, name, wait)
        return begun, may_end

    yield hold
    for may_end in events:
        may_end.set()


@contextmanager
def serving(runs):
    """Serves a studio on its own port, in a thread of this process; gives its address."""
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(Workspace(runs, (runs.parent / "pictures",), device="cpu")),
            log_config=None,
            lifespan="off",
        )
    )
    listening = serve.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="package")
def server(runs):
    """The address of a studio that serves on its own port."""
    with serving(runs) as address:
        yield address


@pytest.fixture
def own_server(runs):
    """The address of a studio that has not looked at any pictures yet."""
    with serving(runs) as address:
        yield address


@pytest.fixture(scope="package")
def browser():
    """A headless Chromium whose log `browser` has the console's messages."""
    with headless_chromium("--hide-scrollbars") as driver:
        driver.set_script_timeout(60)
        yield driver
