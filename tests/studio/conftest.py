"""A studio over two tiny runs, called without a network."""

import pytest
import torch
from starlette.testclient import TestClient

from tiny_run import tiny_config, write_pictures
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace
from tunit.training.launch import start_run

ADDRESS = "http://127.0.0.1:8765"


@pytest.fixture(scope="package")
def runs(tmp_path_factory):
    """A folder of runs: `birds`, which has trained, and `later`, which has no model yet."""
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
