"""The measurements for a GPU (benchmarks/gpu.py) run on a CPU, at tiny sizes, without checking their figures."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.usefixtures("on_path"),
    pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the installed package has no benchmarks"),
]


@pytest.fixture(scope="module")
def on_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory, on_path):
    """The folder of all measurements, and the report of each part."""
    import gpu

    folder = tmp_path_factory.mktemp("gpu")
    out = folder / "out"
    words = ["--device", "cpu", "--tiny", "--out", str(out), "--runs", str(folder / "runs")]
    assert gpu.main(["all", *words, "--seconds", "500"]) == 0
    return out, {name: json.loads((out / f"gpu-{name}.json").read_text()) for name in gpu.PARTS}


def test_gpu_measurements_run_and_never_lose_results(measured):
    import gpu

    out, found = measured
    assert found["correct"]["failed"] == []
    assert {row["ok"] for row in found["correct"]["rows"]} == {True, None}
    assert len(found["correct"]["rows"]) >= 20
    rows = {row["name"]: row for row in found["correct"]["rows"]}
    assert rows["a training with a checkpoint and samples at every step"]["measured"]["samples"] == 6
    assert max(rows["two processes against one, gloo"]["measured"].values()) < 1e-8
    step = found["speed"]["128 px, batch 32"]
    assert step["joint, R1 every step"]["seconds"] > 0
    literal = found["speed"]["literal, 128 px, batch 32"]
    assert literal["E alone, without TF32"]["TF32 in convolutions"] is False
    assert literal["E alone, with TF32 convolutions, as by default"]["TF32 in convolutions"] is True
    assert list(step)[:3] == ["E alone", "joint without R1", "joint, R1 every step"]
    (both,) = (value for name, value in found["speed"].items() if name.startswith("second gradients"))
    assert both["ours"]["seconds"] > 0 and both["PyTorch's"]["seconds"] > 0
    assert found["speed"]["profile of a joint step, 128 px, batch 32"]["top"]
    assert '"error":' not in json.dumps(found)  # names of figures have the word, too
    creatures = found["train"]["creatures"]
    assert creatures["step"] == 4
    assert sum(creatures["pictures"]) == 120
    assert set(creatures["domains"]) >= {"accuracy", "NMI", "best trivial baseline"}
    assert set(creatures["translations"]["figures"]) >= {"mFID", "mean density", "translation error ratio"}
    assert sum(name.startswith("table 1, row ") for name in found["train"]) == 3
    assert (out / "gpu-creatures.png").is_file()
    # With no time left, nothing is measured, and the report says so.
    clock = gpu.Clock(0.0)
    report = gpu.gpu_correct.Report(out, "late")
    gpu.gpu_correct.attempt(
        gpu.Setting(gpu.torch.device("cpu"), out, clock), report, "work", 9, lambda: 1 / 0
    )
    assert json.loads((out / "gpu-late.json").read_text())["work"].startswith("not tried")


def test_all_processes_are_waited_for_and_not_only_the_first():
    import gpu_runs

    class Context:
        """As PyTorch's: `join` returns False after each process that ends, and True after the last."""

        def __init__(self, *answers):
            self.answers = list(answers)

        def join(self, timeout):
            assert 0 <= timeout <= 600
            return self.answers.pop(0) if self.answers else False

    assert gpu_runs.all_end(Context(False, True), 600)
    assert not gpu_runs.all_end(Context(), 0.1)
    assert not gpu_runs.all_end(Context(True), 0.0)  # no time


def test_on_one_cpu_float32_is_as_near_to_float64_as_a_gpu_must_be(measured):
    rows = {row["name"]: row for row in measured[1]["correct"]["rows"] if "differs most" in row["name"]}
    assert len(rows) == 10
    assert {row["ok"] for row in rows.values()} == {True}
    for name, row in rows.items():
        (error,) = row["measured"].values()
        assert error == 0 if "float64" in name else 0 < error < row["bound"] <= 1e-2
    # As it must be where kinks are what differs.
    assert rows["joint without kinks, the gradient that differs most, torch.float32"]["bound"] == 1e-4


def test_values_that_are_no_number_are_the_worst():
    import gpu_correct as correct

    rows = []
    report = SimpleNamespace(row=lambda *cells: rows.append(cells))
    correct.worst(report, "a", {"x": 0.5, "y": float("nan"), "z": 3.0}, 1.0)
    correct.worst(report, "b", {"guide": 5e-3, "discriminator": 2e-3}, correct.WITH_KINKS)
    assert rows[0][:2] == ("a", False) and list(rows[0][2]) == ["y"]
    assert rows[1] == ("b", False, {"discriminator": 2e-3}, 1e-3)
    assert correct.largest_of({"x": [1.0, float("nan")]})["x"] != 1.0


def test_an_error_loses_nothing_that_was_reported_before_it(tmp_path, monkeypatch):
    import gpu_report

    def broken():
        raise RuntimeError("an illegal memory access was encountered")

    def work():
        report.put("size", {"first phase": 1})
        raise ValueError("no second phase")

    setting = gpu_report.Setting(CPU, tmp_path, gpu_report.Clock(60))
    report = gpu_report.Report(tmp_path, "speed")
    monkeypatch.setattr(setting, "empty", broken)  # as on a GPU that refuses all further work
    gpu_report.attempt(setting, report, "size", 0, work)
    gpu_report.attempt(setting, report, "next", 0, lambda: 2)
    stored = json.loads((tmp_path / "gpu-speed.json").read_text())
    assert stored["size"] == {"first phase": 1, "error": "ValueError: no second phase"}
    assert stored["next"] == 2
    assert "illegal memory access" in stored["next, memory not released"]


def test_a_profile_leaves_out_regions_whose_kernels_are_counted_by_themselves():
    import gpu_speed

    def event(key, ms, *, named, kind):
        device = getattr(torch.autograd.DeviceType, kind)
        time = {"self_device_time_total": 1e3 * ms, "self_cpu_time_total": 1e3 * ms}
        return SimpleNamespace(key=key, count=2, device_type=device, is_user_annotation=named, **time)

    events = [
        event("conv", 1, named=False, kind="CUDA"),
        event("G", 9, named=True, kind="CUDA"),
        event("add", 2, named=False, kind="CUDA"),
        event("aten::add", 5, named=False, kind="CPU"),
    ]
    rows = gpu_speed.kernels(events, cuda=True)
    assert rows == [{"name": "add", "calls": 2, "ms": 2.0}, {"name": "conv", "calls": 2, "ms": 1.0}]


def test_a_training_that_ends_early_leaves_metrics_and_pictures_are_drawn_completely(tmp_path, monkeypatch):
    import gpu_train
    from gpu_report import Clock, Report, Setting

    setting = Setting(CPU, tmp_path / "out", Clock(60), tiny=True, runs=tmp_path / "runs")
    (setting.runs / "creatures-pictures" / ".unfinished").mkdir(parents=True)  # drawing was interrupted
    pictures = gpu_train.pictures_of(setting)["creatures"]
    train, held = pictures.split.train, pictures.split.held
    assert {name for name, _ in train}.isdisjoint(name for name, _ in held)
    assert (len(train), len(held)) == (96, 24)
    assert gpu_train.pictures_of(setting)["creatures"] == pictures  # in the next call

    def ended(setting, source, run, seconds):
        run.mkdir()
        (run / "metrics.jsonl").write_text('{"step": 1}\n')
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_train, "trained", ended)
    with pytest.raises(KeyboardInterrupt):
        gpu_train.one(setting, Report(setting.out, "train"), "creatures", pictures, 9)
    assert (setting.out / "gpu-creatures-metrics.jsonl").read_text() == '{"step": 1}\n'
    assert json.loads((setting.out / "gpu-train.json").read_text())["creatures"]["ended"] == "not yet"


def test_what_ends_a_row_is_reported_and_later_calls_continue(tmp_path, monkeypatch):
    import gpu_rows
    from gpu_report import Clock, Report, Setting

    setting = Setting(CPU, tmp_path / "out", Clock(60), tiny=True, runs=tmp_path / "runs")
    pictures = SimpleNamespace(source=tmp_path / "pictures", split=None)
    tried = []

    def row(table, row, plan, seed, split):
        tried.append(row.name)
        if row.name == "G":
            raise gpu_rows.StopNow(15)
        if row.name == "B":
            raise ValueError("no such picture")
        folder = plan.folder(table, row, seed)
        folder.mkdir(parents=True)
        (folder / "outcome.json").write_text('{"figures": {"mFID": 1.0}}')
        return {"figures": {"mFID": 1.0}}

    monkeypatch.setattr(gpu_rows, "run_row", row)
    for call in (["G", "B", "D"], ["G", "B"]):
        report = Report(setting.out, "train")
        gpu_rows.run_rows(setting, report, pictures)
        g, b, d = (value for name, value in report.found.items() if name.startswith("table 1"))
        assert g["continued by"] == "the next call"
        assert b == {"error": "ValueError: no such picture"}
        assert d["figures"] == {"mFID": 1.0}
        assert tried == call
        tried.clear()


def test_work_is_stopped_when_its_time_is_over_and_signals_are_as_before():
    import signal
    import time

    import gpu_stopping

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(gpu_stopping.StopNow), gpu_stopping.stopped_after(0):
        time.sleep(60)
    assert signal.getsignal(signal.SIGTERM) is before


def test_results_that_are_too_large_are_left_out_and_named(tmp_path, monkeypatch):
    import gpu_report

    monkeypatch.setattr(gpu_report, "MOST_BYTES", 2000)
    (tmp_path / "large.png").write_bytes(bytes(2001))
    (tmp_path / "small.png").write_bytes(bytes(2000))
    report = gpu_report.Report(tmp_path / "out", "train")
    gpu_report.copied(report, tmp_path / "large.png", "gpu-large.png")
    gpu_report.copied(report, tmp_path / "small.png", "gpu-small.png")
    report.put("x", 1)
    (tmp_path / "out" / "gpu-metrics.jsonl").write_bytes(bytes(2001))
    (tmp_path / "out" / "other.bin").write_bytes(bytes(2001))  # not one of the results
    gpu_report.leave_out_large(tmp_path / "out", "train")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"gpu-small.png", "gpu-train.json", "other.bin"}
    stored = json.loads((tmp_path / "out" / "gpu-train.json").read_text())
    assert stored["gpu-large.png, left out"] == "2001 bytes"
    assert stored["left out"] == {"gpu-metrics.jsonl": 2001}
    assert stored["x"] == 1
