"""The logs of a training: what is left of them when steps are repeated."""

import json

import pytest

from tunit.training.logs.log import MetricsLog

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
