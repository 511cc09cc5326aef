"""The logs of a training: what is left of them when steps are repeated."""

import json

import pytest

from tunit.training.logs import log
from tunit.training.logs.log import MetricsLog, ProgressDisplay

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")


def events_of(folder):
    """Every event in a folder, in the order of the files. A record: length (8 bytes), hash (4), data, hash (4)."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: int(path.suffix[1:])):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def purges_of(folder):
    """From which steps on TensorBoard ignores what was written before."""
    return [event.step for event in events_of(folder) if event.HasField("session_log")]


@pytest.mark.parametrize("back", ["rollback", "new process"])
@pytest.mark.parametrize("start", [0, 2])
def test_lines_and_events_of_repeated_steps_go(tmp_path, back, start):
    log = MetricsLog(tmp_path, 0)
    for step in (1, 2, 3):
        log.write(step, {"loss": 1.0})
    log.flush()
    assert purges_of(tmp_path) == []
    if back == "rollback":
        log.go_back(start)
    else:
        log.close()
        log = MetricsLog(tmp_path, start)
    log.write(start + 1, {"loss": 2.0})
    log.flush()
    log.close()
    assert purges_of(tmp_path) == [start + 1]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, start + 2))


def test_the_time_left_is_that_of_the_present_phase(monkeypatch, capsys):
    """A step of the second phase takes ten times as long as one of the first."""
    now = 0.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    display = ProgressDisplay(40, 0)
    for step in range(1, 31):
        now += 1 if step <= 20 else 10
        display.show(step, "first" if step <= 20 else "second", {} if step in (10, 21, 30) else None)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines() if line]
    assert [line.split(": ", 1)[1] for line in lines] == [
        "step 10/40    0:30 left at this speed",
        "step 21/40",
        "step 30/40    1:40 left at this speed",
    ]


def test_the_time_left_is_known_if_phases_alternate(monkeypatch, capsys):
    """As with a few labels, which only some batches have."""
    now = 0.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    display = ProgressDisplay(40, 0)
    for step in range(1, 31):
        now += 1
        display.show(step, "odd" if step % 2 else "even", {} if step in (20, 21) else None)
    said = capsys.readouterr().err
    assert "0:20 left at this speed" in said and "0:19 left at this speed" in said
