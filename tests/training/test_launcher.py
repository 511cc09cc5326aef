"""`tunit train` with several processes: started, stopped, killed and started again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.config import methods as config_methods
from tunit.config import read_config
from tunit.data.layouts.selection import chosen_settings
from tunit.errors import ConfigError, EndedInOtherProcesses, RunError
from tunit.networks.tensor_file import read_tensors
from tunit.training import processes, torchrun
from tunit.training.all_ranks import check_not_moved
from tunit.training.checkpoint import checkpoints
from tunit.training.launch import resume_run, start_run
from tunit.training.run_folder import RunFolder

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without its processes"),
]
STEPS = 16
SETTINGS = {
    "steps": STEPS,
    "guide_only_until": 5,
    "average_from": 8,
    "checkpoint_every": 4,
    "sample_every": 0,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "pictures")


@pytest.fixture(scope="module")
def through(pictures, tmp_path_factory):
    """An uninterrupted run of two processes, and its output."""
    run = tmp_path_factory.mktemp("through") / "run"
    process = started(pictures, run)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return run, said


def started(pictures, run, *more, launcher=(), **overrides):
    words = [sys.executable, "-m", *launcher, "tunit", "train", str(pictures), "--out", str(run)]
    words += ["--preset", "paper", *flags(**SETTINGS | ({} if launcher else {"processes": 2}) | overrides)]
    return subprocess.Popen(
        [*words, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def ranks_of(process):
    """The processes that a launcher has started."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found if b"RANK=" in Path(f"/proc/{pid}/environ").read_bytes()]


def has(rank, pid):
    return f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)


def final(run):
    return read_tensors(checkpoints(run / "checkpoints")[-1])[0]


def test_two_processes_write_and_print_once(through):
    run, said = through
    assert said.count(f"trained {STEPS} steps") == 1
    assert said.count("pictures at 32 x 32") == 1
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == STEPS
    assert (run / "model.safetensors").is_file()
    assert (
        main(["train", "--resume", str(run), "--processes", "1", "--steps", str(STEPS + 1), "--quiet"]) == 0
    )


def test_sigterm_stops_all_after_the_same_step_and_the_run_resumes_exactly(pictures, through, tmp_path):
    run = tmp_path / "run"
    process = started(pictures, run, steps=4000, log_every=1)
    wait_for(lambda: (run / "metrics.jsonl").is_file() and (run / "metrics.jsonl").read_text(), process)
    ranks = ranks_of(process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.count("stopped by SIGTERM after step") == 1
    assert "all saved" in said
    assert "Traceback" not in said
    assert len(ranks) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
    stopped = int(re.search("stopped by SIGTERM after step ([0-9]+)", said)[1])
    assert checkpoints(run / "checkpoints")[-1].stem == f"step_{stopped:08d}"
    # On a slow machine the signal may come so late that this run has gone further than the other.
    whole, end = through[0], max(STEPS, stopped)
    if end > STEPS:
        whole = shutil.copytree(whole, tmp_path / "whole")
        # written by a run of one process
        (whole / "checkpoints" / f"step_{STEPS + 1:08d}.safetensors").unlink(missing_ok=True)
        assert (
            main(["train", "--resume", str(whole), "--steps", str(end), "--quiet", "--processes", "2"]) == 0
        )
    assert main(["train", "--resume", str(run), "--steps", str(end), "--quiet"]) == 0
    expected = read_tensors(whole / "checkpoints" / f"step_{end:08d}.safetensors")[0]
    assert checkpoints(run / "checkpoints")[-1].stem == f"step_{end:08d}"
    assert [name for name, value in final(run).items() if not torch.equal(value, expected[name])] == []


def test_a_killed_process_ends_the_others_with_one_sentence(pictures, tmp_path):
    run = tmp_path / "run"
    process = started(pictures, run, steps=4000, guide_only_until=4000, average_from=4000)
    wait_for(lambda: checkpoints(run / "checkpoints"), process)
    (victim,) = [pid for pid in ranks_of(process) if has(1, pid)]
    os.kill(victim, signal.SIGKILL)
    said, _ = process.communicate(timeout=120)  # the training itself would take much longer
    assert process.returncode == 2
    told = [line for line in said.splitlines() if line.startswith("tunit: ")]
    assert len(told) == 1
    assert "process 2 of 2 ended early (exit code -9)" in told[0]
    assert f"`tunit train --resume {run}`" in told[0]
    assert "Traceback" not in said


def test_with_restarts_a_killed_process_costs_only_time(pictures, through, tmp_path):
    run = tmp_path / "run"
    process = started(pictures, run, "--max-restarts", "2")
    wait_for(lambda: checkpoints(run / "checkpoints"), process)
    (victim,) = [pid for pid in ranks_of(process) if has(0, pid)]
    os.kill(victim, signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.count("restart 1: ") == 1, said
    steps = read_tensors(checkpoints(run / "checkpoints")[-1])[1]["step"]
    assert steps == STEPS
    expected = read_tensors(through[0] / "checkpoints" / f"step_{STEPS:08d}.safetensors")[0]
    assert [name for name, value in final(run).items() if not torch.equal(value, expected[name])] == []


def test_bad_input_is_one_sentence_for_all_processes_of_torchrun(tmp_path):
    few = write_pictures(tmp_path / "few", 3)
    process = started(few, tmp_path / "run", launcher=("torch.distributed.run", "--nproc-per-node=2", "-m"))
    said, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    told = [line for line in said.splitlines() if line.startswith("tunit: ")]
    assert len(told) == 1, said
    assert "3 usable pictures, fewer than the batch size" in told[0]
    assert "exitcode" in said  # torchrun's own report of the ranks
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("code", "ends"), [("0", 0), ("143", 143), ("7", 2)])
def test_tunits_torchrun_ends_with_the_exit_code_of_its_processes(tmp_path, capsys, code, ends):
    """torchrun itself would end with 1, whatever their exit code is. It would also leave its own handlers of signals:
    a program that goes on would not get KeyboardInterrupt for Ctrl-C.
    """
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    handlers = [signal.getsignal(number) for number in numbers]
    (tmp_path / "ends.py").write_text("import sys; sys.exit(int(sys.argv[1]))\n")
    assert torchrun.main(["--standalone", "--local-addr=localhost", str(tmp_path / "ends.py"), code]) == ends
    said = capsys.readouterr().err
    assert said.count("tunit: process 1 ended early (exit code 7): go on") == (code == "7")
    assert [signal.getsignal(number) for number in numbers] == handlers


def test_the_launcher_ends_with_the_exit_code_of_the_processes(tmp_path, pictures, capfd):
    """A rank reports the error; the launcher adds nothing."""
    words = ["train", str(pictures), "--out", str(tmp_path / "run"), "--preset", "paper", *flags(processes=2)]
    assert main([*words, "--held-back", "nowhere", "--evaluate-every", "5"]) == 2
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("precious")
    assert main(words) == 2
    err = capfd.readouterr().err
    assert err.count("tunit: ") == 2
    assert "exists already" in err


def test_the_launcher_works_from_python_and_refuses_what_it_cannot_send(tmp_path, pictures, monkeypatch):
    asked = []
    monkeypatch.setattr(processes, "launch", lambda *given: asked.append(given))
    config = tiny_config(processes=2)
    with pytest.raises(
        ConfigError, match="processes is 2, but the new processes cannot call your function evaluate"
    ):
        start_run(pictures, tmp_path / "run", config, evaluate=lambda state: {}, evaluate_every=3)
    with pytest.raises(ConfigError, match="batch_size is 5"):
        start_run(pictures, tmp_path / "run", config.with_overrides({"batch_size": 5}))
    with pytest.raises(EndedInOtherProcesses) as ended:
        monkeypatch.setattr("tunit.training.launch.launch", lambda *given: asked.append(given))
        start_run(pictures, tmp_path / "run", config, words=["train", "it"], max_restarts=4)
    assert ended.value.exit_code == 0
    assert asked == [(["train", "it"], 2, tmp_path / "run", 4)]


def test_the_config_that_python_gives_reaches_the_processes_as_that_of_a_run(tmp_path, monkeypatch):
    """Its paths may have any bytes, and none of its settings counts as given, or each idle one would be named."""
    config = tiny_config(processes=2, guide_from="/runs/caf\udce9", method="semit", labels="csv")
    seen = []

    def launched(words, number, out, max_restarts=0):
        seen.append((read_config(words[1]), chosen_settings(words[1], {"seed": 3})))

    monkeypatch.setattr(processes, "launch", launched)
    processes.launch_config(["--preset", "PRESET"], config, tmp_path)
    assert seen == [(config, {"seed"})]


def test_restarts_that_python_asks_for_reach_the_launcher(tmp_path, pictures, monkeypatch):
    asked = []

    def launched(words, number, out, max_restarts=0):
        """Ends where the processes would train."""
        asked.append(max_restarts)
        raise EndedInOtherProcesses(0)

    start_run(pictures, tmp_path / "old", tiny_config(steps=1), quiet=True)
    monkeypatch.setattr(processes, "launch", launched)
    with pytest.raises(EndedInOtherProcesses):
        start_run(pictures, tmp_path / "run", tiny_config(processes=2), max_restarts=4)
    with pytest.raises(EndedInOtherProcesses):
        resume_run(tmp_path / "old", overrides={"processes": "2", "steps": "2"}, max_restarts=3)
    assert asked == [4, 3]


def test_methods_from_modules_are_known_to_all_processes(monkeypatch, tmp_path):
    (tmp_path / "mine.py").write_text("seen = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(processes, "modules_of_methods", lambda: ["mine"])
    monkeypatch.setenv("TUNIT_PLUGINS", "other")
    told = processes._of_methods()
    assert told["TUNIT_PLUGINS"] == "other,mine"
    assert str(tmp_path) in told["PYTHONPATH"].split(os.pathsep)
    monkeypatch.setattr(processes, "modules_of_methods", lambda: ["__main__"])
    with pytest.raises(ConfigError, match="put it into a module of its own"):
        processes._of_methods()
    monkeypatch.setenv("TUNIT_PLUGINS", "mine")
    monkeypatch.setattr(config_methods, "_loaded", False)
    config_methods.load_installed_methods()
    assert sys.modules.pop("mine").seen
    monkeypatch.setenv("TUNIT_PLUGINS", "no_such_module")
    monkeypatch.setattr(config_methods, "_loaded", False)
    with pytest.raises(ConfigError, match="TUNIT_PLUGINS names the module 'no_such_module'"):
        config_methods.load_installed_methods()


@pytest.mark.parametrize(("given", "expected"), [(None, "300"), ("7", "7")])
def test_after_a_signal_torchrun_waits_until_the_processes_have_saved(tmp_path, monkeypatch, given, expected):
    """Its own limit is 30 s, after which it kills them, with nothing saved."""
    monkeypatch.delenv(processes.PATIENCE, raising=False)
    if given:
        monkeypatch.setenv(processes.PATIENCE, given)
    found = []
    monkeypatch.setattr(processes, "run_torchrun", lambda *args: found.append(os.environ[processes.PATIENCE]))
    processes.launch(["train"], 2, tmp_path)
    assert found == [expected]
    assert os.environ.get(processes.PATIENCE) == given


@pytest.mark.parametrize(
    "job, restart, moved",
    [
        ("this", 1, False),
        ("other", 1, True),
        (None, 1, True),
        ("other", 0, False),
        ("begins", 1, False),
    ],
)
def test_after_a_restart_a_run_that_was_moved_is_not_begun_anew(tmp_path, monkeypatch, job, restart, moved):
    """job: of the run in the folder; None: there is no folder, "begins": there is no run in it yet."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    run = RunFolder(tmp_path / "run")
    if job is not None:
        run.path.mkdir()
    if job in ("this", "other"):
        run.about.write_text(json.dumps({"job": job}))
    if not moved:
        check_not_moved(run, restart)
        return
    with pytest.raises(RunError, match="does not hold their run: if it was moved"):
        check_not_moved(run, restart)


def test_the_only_process_that_remains_trains_alone(monkeypatch):
    """It does not start the others itself, although the run had two."""
    config = tiny_config(processes=2)
    assert processes.must_launch(processes.with_ranks(config))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes.with_ranks(config).run.processes == 1
