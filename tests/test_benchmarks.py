"""Benchmarks that no other test runs are run here at tiny sizes, without checking their figures."""

import json
import sys
from pathlib import Path

import pytest

from tiny_run import write_pictures

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the installed package has no benchmarks")
def test_domains_can_be_measured_over_time_for_any_preset(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import domains

    for name in ("a", "b"):
        write_pictures(tmp_path / "pictures" / name)
    tiny = "small,guide_width=4,guide_only_batch_size=4,queue_length=8,neighbours=2,overclusters=4"
    found = domains.one_training(tiny, str(tmp_path / "pictures"), seed=0, seconds=0.01)
    assert [look["step"] for look in found["looks"]] == [1, 2, 3, 4, 5]
    assert all(0.5 <= look["accuracy"] <= 1 for look in found["looks"])
    assert len(found["divisions"]["heads"]) == 8
    assert 0.5 <= found["divisions"]["agreed"] <= 1
    summary = domains.summary([{**found, "seed": seed} for seed in range(2)])
    assert summary[f"pictures {tiny}"]["seeds"] == 2
    assert set(domains.trivial_answers(str(tmp_path / "pictures"))) >= {"pixels", "colours", "outlines"}


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the installed package has no benchmarks")
def test_gpu_measurements_run_and_never_lose_results(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import gpu

    out = tmp_path / "out"
    words = ["--device", "cpu", "--tiny", "--out", str(out), "--runs", str(tmp_path / "runs")]
    assert gpu.main(["all", *words, "--seconds", "500"]) == 0
    found = {name: json.loads((out / f"gpu-{name}.json").read_text()) for name in gpu.PARTS}
    assert found["correct"]["failed"] == []
    assert {row["ok"] for row in found["correct"]["rows"]} == {True, None}
    assert len(found["correct"]["rows"]) >= 20
    rows = {row["name"]: row for row in found["correct"]["rows"]}
    assert rows["a training with a checkpoint and samples at every step"]["measured"]["samples"] == 6
    assert max(rows["two processes against one, gloo"]["measured"].values()) < 1e-8
    step = found["speed"]["128 px, batch 32"]
    assert step["joint, R1 every step"]["seconds"] > 0
    assert found["speed"]["profile of a joint step, 128 px, batch 32"]["top"]
    assert "error" not in json.dumps(found)
    assert found["train"]["creatures"]["step"] == 4
    assert (out / "gpu-creatures.png").is_file()
    # With no time left, nothing is measured, and the report says so.
    clock = gpu.Clock(0.0)
    report = gpu.gpu_correct.Report(out, "late")
    gpu.gpu_correct.attempt(
        gpu.Setting(gpu.torch.device("cpu"), out, clock), report, "work", 9, lambda: 1 / 0
    )
    assert json.loads((out / "gpu-late.json").read_text())["work"].startswith("not tried")


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the installed package has no benchmarks")
def test_all_processes_are_waited_for_and_not_only_the_first(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import gpu_runs

    class Context:
        """As PyTorch's: `join` returns False after each process that ends, and True after the last."""

        def __init__(self, *answers):
            self.answers = list(answers)

        def join(self, timeout):
            assert 0 <= timeout <= 0.2
            return self.answers.pop(0) if self.answers else False

    assert gpu_runs.all_end(Context(False, True), 0.2)
    assert not gpu_runs.all_end(Context(), 0.1)
    assert not gpu_runs.all_end(Context(True), 0.0)  # no time


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the installed package has no benchmarks")
def test_on_one_cpu_float32_is_as_near_to_float64_as_a_gpu_must_be_to_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import gpu_correct as correct
    from gpu_report import Clock, Setting

    setting = Setting(correct.CPU, tmp_path, Clock(60))
    config = setting.narrow(32, 4, precision="float32")
    for phase in (correct.Phase(False, True, False), correct.Phase(True, True, True)):
        exact, rounded = (
            correct.outcome(correct.state_on(config, correct.CPU, dtype), config, phase)
            for dtype in (correct.torch.float64, correct.torch.float32)
        )
        for kind, bounds in (("loss", correct.LOSSES), ("gradient", correct.GRADIENTS)):
            off = [correct.distance(rounded[kind][name], value) for name, value in exact[kind].items()]
            assert 0 < max(off) < bounds[correct.torch.float32]
