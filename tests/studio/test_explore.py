"""Explore: what E predicts for a run's own pictures, computed once and cached; and the pictures."""

import gc
import io
import os
import shutil
import threading
import time
import weakref
from dataclasses import replace
from html import escape

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from tiny_run import tiny_config, write_pictures
from tunit.clustering.outliers import appearance, outlier_scores
from tunit.data.packing.packed import open_packed
from tunit.errors import RunError
from tunit.networks.tensor_file import read_tensors, write_tensors
from tunit.reporting.style_map import MOST_LAID_OUT, laid_out, spread
from tunit.studio import explore, output_thread, run_output
from tunit.studio.app import create_app
from tunit.studio.library import MODELS, OUTPUTS, Library
from tunit.studio.lru_cache import LRUCache, stamp_of
from tunit.studio.workspace import Workspace
from tunit.training.launch import start_run
from tunit.translation.translator import Translator


def looked(client, key="birds"):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        answer = client.get(f"/runs/{key}/explore/pictures")
        if answer.status_code != 202:
            return answer
        assert set(answer.json()) == {"done", "total"}
        time.sleep(0.05)
    pytest.fail("the look never ended")


@pytest.fixture
def found(client):
    answer = looked(client)
    assert answer.status_code == 200
    return answer.json()


@pytest.fixture(scope="module")
def truth(runs):
    """The same predictions, from the public API."""
    images = open_packed(runs / "birds" / "data").images
    return images, Translator.load(runs / "birds", device="cpu").classify(list(images))


def test_it_shows_the_models_predictions(found, truth):
    images, said = truth
    assert found["rows"] == list(range(len(images))) == list(range(20))
    assert found["domain"] == said.domains.tolist()
    assert found["confidence"] == pytest.approx((1000 * said.confidences).tolist(), abs=1)
    assert found["outlier"] == pytest.approx((1000 * outlier_scores(appearance(images))).tolist(), abs=2)
    assert all(0 <= value <= 10_000 for value in found["x"] + found["y"])
    sizes = [domain["size"] for domain in found["domains"]]
    assert sizes == torch.bincount(said.domains, minlength=3).tolist()
    for domain in found["domains"]:
        assert all(found["domain"][place] == domain["number"] for place in domain["typical"])
        assert bool(domain["typical"]) == bool(domain["size"])


@pytest.fixture(scope="module")
def of_labels(tmp_path_factory):
    """A studio for a run of a method whose E assigns no domains: they are the labels."""
    root = tmp_path_factory.mktemp("funit")
    for i, name in enumerate(("crows", "jays")):
        write_pictures(root / "pictures" / name, seed=i, number=6)
    config = tiny_config("table1-a", steps=2, domains=2, labels="folders", style_width=8, guide_only_until=0)
    start_run(root / "pictures", root / "runs" / "birds", config, quiet=True)
    with TestClient(
        create_app(Workspace(root / "runs", device="cpu")), base_url="http://localhost"
    ) as client:
        yield client


def test_if_the_model_tells_no_domains_the_labels_are_shown_and_no_confidence(of_labels):
    found = looked(of_labels).json()
    assert found["domain"] == [0] * 6 + [1] * 6
    assert [(domain["name"], domain["size"]) for domain in found["domains"]] == [("crows", 6), ("jays", 6)]
    assert found["told"] is False
    for row, label in ((2, 0), (9, 1)):
        about = of_labels.get(f"/runs/birds/explore/picture/{row}").json()
        assert (about["domain"], about["confidence"]) == (label, None)


def test_it_is_said_that_domains_are_not_decided_yet(tmp_path, found):
    assert found["undecided"] == ""
    config = tiny_config(steps=1, domains=2, style_width=8, guide_only_until=9, domains_from=1.0)
    start_run(write_pictures(tmp_path / "pictures"), tmp_path / "runs" / "birds", config, quiet=True)
    workspace = Workspace(tmp_path / "runs", device="cpu")
    with TestClient(create_app(workspace), base_url="http://localhost") as client:
        said = looked(client).json()["undecided"]
        pages = [client.get(f"/runs/birds/{part}").text for part in ("translate", "teach")]
    assert said.startswith(
        "E has learnt only styles so far, so these domains mean nothing: they are found after"
    )
    assert [escape(said, quote=False) in page for page in pages] == [True, True]


def test_output_of_an_older_version_whose_domains_have_no_meaning_is_not_shown(of_labels):
    assert looked(of_labels).status_code == 200
    library = of_labels.app.state.library
    run = library.workspace.run("birds")
    path = run.path / "studio" / "seen.safetensors"
    tensors, about = read_tensors(path)
    about.pop("domains", None)
    write_tensors(path, tensors | {"domains": torch.tensor([1] * 6 + [0] * 6)}, about)
    library._threads.clear()
    assert looked(of_labels).json()["domain"] == [0] * 6 + [1] * 6


def test_outlier_scores_of_an_older_version_are_not_shown(client, found):
    """They came from style codes."""
    library = client.app.state.library
    path = library.workspace.run("birds").path / "studio" / "seen.safetensors"
    tensors, about = read_tensors(path)
    write_tensors(path, tensors | {"outliers": torch.ones(20)}, about | {"format": 1})
    library._threads.clear()
    assert looked(client).json()["outlier"] == found["outlier"]


def test_a_source_has_no_domain_if_the_model_tells_none(of_labels):
    about = of_labels.post("/runs/birds/translate/prepare", data={"row": "3"}).json()
    assert (about["domain"], about["confidence"]) == (None, None)
    assert len(about["code"]) == 8


def test_a_picture_comes_with_its_nearest_neighbours(client, found, truth):
    _, said = truth
    about = client.get("/runs/birds/explore/picture/3").json()
    assert about["name"] == "crows/003.png"
    assert about["domain"] == int(said.domains[3])
    apart = torch.cdist(said.styles[3:4], said.styles)[0]
    order = [i for i in apart.argsort().tolist() if i != 3][: explore.NEIGHBOURS]
    assert [one["row"] for one in about["neighbours"]] == order
    assert [one["distance"] for one in about["neighbours"]] == pytest.approx(apart[order].tolist(), rel=1e-3)


@pytest.mark.parametrize("limit", [0.0, 1.1])
def test_a_picture_is_off_topic_from_the_same_score_on_as_in_the_report(client, found, monkeypatch, limit):
    monkeypatch.setattr(explore, "OFF_TOPIC", limit)
    about = client.get("/runs/birds/explore/picture/3").json()
    assert about["off_topic"] is (about["outlier"] >= limit) is (limit == 0)
    assert 1000 * about["outlier"] == pytest.approx(found["outlier"][3])


def test_pictures_are_those_of_the_run_and_may_be_cached(client, truth):
    images, _ = truth
    answer = client.get("/runs/birds/picture/7?v=1")
    assert "immutable" in answer.headers["cache-control"]
    shown = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    assert np.abs(shown - images[7]).mean() < 6  # WebP loses a little detail
    assert client.get("/runs/birds/thumbnail/7").status_code == 200


@pytest.mark.parametrize("row", ["20", "-1", "x", "1.5", "9" * 400, "..%2f..%2frun.json", "%00", "²", "1e3"])
def test_a_number_without_a_picture_is_one_sentence(client, found, row):
    for address in (
        f"/runs/birds/picture/{row}",
        f"/runs/birds/thumbnail/{row}",
        f"/runs/birds/explore/picture/{row}",
    ):
        answer = client.get(address)
        assert answer.status_code in (400, 404)
        assert len(answer.json()["error"].splitlines()) == 1


def test_examples_in_a_domains_average_style(client, truth, runs):
    images, _ = truth
    translator = Translator.load(runs / "birds", device="cpu")
    k = next(k for k, size in enumerate(translator.domain_sizes) if size)
    strip = Image.open(io.BytesIO(client.get(f"/runs/birds/average/{k}").content)).convert("RGB")
    assert strip.size == (4 * 32, 32)
    expected = np.asarray(translator.translate(images[2], domain=k)).astype(int)
    assert np.abs(np.asarray(strip)[:, :32] - expected).mean() < 8
    for wrong in ("99", "x", "-1"):
        assert client.get(f"/runs/birds/average/{wrong}").status_code == 400


def test_results_are_cached_and_computed_again_for_another_model(client, found, runs):
    path = runs / "birds" / "studio" / "seen.safetensors"
    assert path.is_file()
    width = 8
    about = {
        "format": run_output.FORMAT,
        "model": run_output.checksum(runs / "birds" / "model.safetensors"),
        "pictures": run_output.digest_of(open_packed(runs / "birds" / "data").hashes),
        "most": output_thread.MOST_PICTURES,
    }
    kept = run_output.read_output(path, about, 20, width)
    assert kept is not None
    assert kept.domains.tolist() == found["domain"]
    assert run_output.read_output(path, about | {"model": "another"}, 20, width) is None
    assert run_output.read_output(path, about, 21, width) is None
    assert run_output.read_output(path.parent / "nothing", about, 20, width) is None
    damaged = path.parent / "damaged.safetensors"
    damaged.write_bytes(path.read_bytes()[:-20])
    assert run_output.read_output(damaged, about, 20, width) is None
    damaged.unlink()


def test_a_run_without_a_model_or_pictures_says_so(client):
    key = client.get("/").text.split("/runs/")[-1].split("/")[0]
    assert "no model yet" in client.get(f"/runs/{key}/explore").text
    answer = client.get(f"/runs/{key}/explore/pictures")
    assert answer.status_code == 400
    assert "no model yet" in answer.json()["error"]


def test_for_many_pictures_a_sample_is_laid_out_and_others_are_placed_near_similar_ones(monkeypatch):
    monkeypatch.setattr("tunit.reporting.style_map.MOST_LAID_OUT", 40)
    assert MOST_LAID_OUT > 40
    rng = np.random.default_rng(0)
    kinds = rng.permutation(np.arange(120) % 3)
    styles = torch.tensor(np.eye(3)[kinds] * 10 + rng.normal(size=(120, 3)) * 0.1, dtype=torch.float32)
    points = spread(styles, *laid_out(styles, seed=0))
    assert points.shape == (120, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    landmarks = np.linspace(0, 119, 40).astype(int)
    for k in range(3):  # a mean of positions lies between them
        here = points[landmarks[kinds[landmarks] == k]]
        assert (points[kinds == k] >= here.min(0) - 1e-6).all()
        assert (points[kinds == k] <= here.max(0) + 1e-6).all()


def test_a_failed_computation_is_one_sentence_and_is_tried_again(runs, monkeypatch):
    library = Library(Workspace(runs, device="cpu"))
    run = library.workspace.run("birds")

    def fail(*args):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(output_thread, "read_output", fail)
        with pytest.raises(RunError, match="memory"):
            for _ in range(2):
                library.output(run).wait()
    again = library.output(run)
    again.wait()
    assert again.output is not None


def test_however_many_runs_are_asked_for_in_turn_each_has_one_thread_and_gets_its_output(runs, monkeypatch):
    """Six runs, more than outputs are kept: as six open pages ask, while the first run is still looked at."""
    library, may_go_on, begun = Library(Workspace(runs, device="cpu")), threading.Event(), []
    bird = library.workspace.run("birds")
    six = [replace(bird, key=f"run{i}", path=bird.path.parent / f"run{i}") for i in range(6)]
    monkeypatch.setattr(library, "_stamps", lambda run: ((1, 1, 1), (1, 1, 1)))
    monkeypatch.setattr(library, "translator", lambda run: Library.translator(library, bird))
    monkeypatch.setattr(library, "pictures", lambda run: Library.pictures(library, bird))

    def look(thread, model, packed):
        begun.append(thread)
        may_go_on.wait(60)
        return object()

    monkeypatch.setattr(output_thread.OutputThread, "_read_or_compute", look)
    first = [library.output(run) for run in six]
    for _ in range(5):
        assert [library.output(run) for run in six] == first
    may_go_on.set()
    for thread in first:
        thread.wait()
    assert all(library.output(run).output for run in six)
    # Each once, in any order: a lock does not say who is next.
    assert len(begun) == len(first) and set(begun) == set(first)
    library.output(replace(bird, key="run6", path=bird.path.parent / "run6")).wait()
    assert len(library._threads) == OUTPUTS


def test_threads_that_wait_for_their_turn_keep_no_model_in_memory(runs, tmp_path, monkeypatch):
    """Eight runs are asked for while the first one is still looked at; every model that was loaded is followed."""
    for i in range(8):
        shutil.copytree(runs / "birds", tmp_path / f"run{i}")
    loaded, may_go_on, load = [], threading.Event(), Translator.load

    def noted(*args, **how):
        translator = load(*args, **how)
        loaded.append(weakref.ref(translator.model))
        return translator

    def look(thread, model, packed):
        may_go_on.wait(60)
        return object()

    monkeypatch.setattr(Translator, "load", noted)
    monkeypatch.setattr(output_thread.OutputThread, "_read_or_compute", look)
    library = Library(Workspace(tmp_path, device="cpu"))
    threads = []
    try:
        threads += [library.output(library.workspace.run(f"run{i}")) for i in range(8)]
        gc.collect()
        kept = sum(model() is not None for model in loaded)
    finally:
        may_go_on.set()
    assert kept <= MODELS + 1
    for thread in threads:
        thread.wait()
        assert thread.output is not None
    assert len({thread.stamp for thread in threads}) == 8  # each has looked with the model of its own run


def test_a_thread_that_had_to_wait_takes_the_model_of_then(runs, tmp_path):
    shutil.copytree(runs / "birds", tmp_path / "birds")
    library = Library(Workspace(tmp_path, device="cpu"))
    run = library.workspace.run("birds")
    with output_thread._LOCK:
        thread = library.output(run)
        os.utime(tmp_path / "birds" / "model.safetensors", (1, 1))
    thread.wait()
    assert thread.known.stamp == stamp_of(tmp_path / "birds" / "model.safetensors")
    assert library.output(run) is thread


def test_a_request_that_finds_a_failure_leaves_the_thread_that_another_one_has_begun(runs):
    library = Library(Workspace(runs, device="cpu"))
    run = library.workspace.run("birds")
    stamp, key, newer = library._stamps(run)[0], library._pack_key(run), object()

    class Failed:
        """Between the look at its error and its removal, another request begins a new thread."""

        has_ended, asked = True, False

        def __init__(self):
            self.stamp = stamp

        @property
        def error(self):
            if not self.asked:
                self.asked, library._threads[key] = True, newer
            return "it has failed"

    library._threads[key] = Failed()
    with pytest.raises(RunError, match="it has failed"):
        library.output(run)
    assert library._threads == {key: newer}


def test_some_pictures_are_shown_before_all_have_been_looked_at(runs, truth, monkeypatch):
    """First 5 pictures, then the 12 on the map, then these with their map, and at last all 20."""
    _, said = truth
    for name, value in {
        "GLIMPSE": 5,
        "MOST_LAID_OUT": 12,
        "BATCH": 3,
        "read_output": lambda *_: None,
    }.items():
        monkeypatch.setattr(output_thread, name, value)
    monkeypatch.setattr(output_thread, "write_output", lambda *_: None)
    shown = []
    show = output_thread.OutputThread._show
    monkeypatch.setattr(
        output_thread.OutputThread,
        "_show",
        lambda self, one: (show(self, one), shown.append((self.done, self.so_far))),
    )
    library = Library(Workspace(runs, device="cpu"))
    whole = library.output(library.workspace.run("birds"))
    whole.wait()
    assert [(done, stage, len(one.rows)) for done, (stage, one) in shown] == [
        (5, 1, 5),
        (12, 2, 12),
        (12, 3, 12),
    ]
    assert [one.points is not None for _, (_, one) in shown] == [False, False, True]
    for one in [*(one for _, (_, one) in shown), whole.output]:
        assert (
            one.rows.tolist() == np.linspace(0, 19, len(one.rows)).astype(int).tolist() or len(one.rows) == 5
        )
        assert one.domains.tolist() == said.domains[one.rows].tolist()
        assert one.styles == pytest.approx(said.styles[one.rows], abs=1e-4)
    first, *_, on_map = (one for _, (_, one) in shown)
    assert {0, 19} < set(first.rows.tolist()) < set(on_map.rows.tolist())
    assert whole.done == whole.total == len(whole.output.rows) == 20
    assert np.array_equal(whole.output.points[on_map.rows], on_map.points)


def test_output_of_a_model_that_was_replaced_meanwhile_is_not_kept_as_that_of_the_new_one(runs, monkeypatch):
    written = []
    monkeypatch.setattr(output_thread, "write_output", lambda *args: written.append(args))
    monkeypatch.setattr(output_thread, "read_output", lambda *_: None)
    library = Library(Workspace(runs, device="cpu"))
    run = library.workspace.run("birds")
    given = library.translator(run).model, library.pictures(run)
    for stamp, kept in (((0, 0, 0), 0), (stamp_of(run.path / "model.safetensors"), 1)):
        written.clear()
        opened = output_thread.Opened(*given, stamp)
        thread = output_thread.OutputThread(run, opened, lambda opened=opened: opened)
        thread.wait()
        assert thread.output is not None
        assert len(written) == kept


def test_what_was_found_by_a_model_with_other_domains_is_shown_with_its_own(runs, monkeypatch):
    """A training that has found its number of domains writes a model with fewer of them."""
    go_on = threading.Event()
    compute_missing = output_thread.OutputThread._compute_missing

    def slowly(self, partial, some):
        if self.so_far is not None:
            go_on.wait(60)
        compute_missing(self, partial, some)

    monkeypatch.setattr(output_thread.OutputThread, "_compute_missing", slowly)
    monkeypatch.setattr(output_thread, "read_output", lambda *_: None)
    monkeypatch.setattr(output_thread, "write_output", lambda *_: None)
    workspace = Workspace(runs, device="cpu")
    with TestClient(create_app(workspace), base_url="http://localhost") as client:
        try:
            thread = client.app.state.library.output(workspace.run("birds"))
            while thread.so_far is None:
                time.sleep(0.05)
            monkeypatch.setattr(Translator, "domain_sizes", [20])
            found = client.get("/runs/birds/explore/pictures?stage=0").json()
        finally:
            go_on.set()
            thread.wait()
    assert [domain["number"] for domain in found["domains"]] == [0, 1, 2]
    assert not any(domain["style"] for domain in found["domains"])


def test_a_value_that_is_being_made_is_always_known_to_other_threads():
    """Otherwise another thread would make it, too."""
    cache, states, lock = LRUCache(2), [], threading.Lock()

    class Watched:
        """Looks at the cache whenever it is unlocked."""

        def __enter__(self):
            lock.acquire()

        def __exit__(self, *_):
            states.append("key" in cache._making or "key" in cache._values)
            lock.release()

    cache._lock = Watched()
    assert cache.get("key", lambda: 3) == 3
    assert all(states)
    with pytest.raises(ZeroDivisionError):
        cache.get("other", lambda: 1 // 0)
    assert cache.get("other", lambda: 4) == 4
