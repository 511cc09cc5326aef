"""A run that was begun by a development version before 0.1.0 can be resumed, and its model can be read.

tests/run_of_0_1 was made during the development of 0.1.0, before each method had its own files: six steps on ten
pictures. To be small, it has the narrowest networks possible and 8 hidden units in the style MLP. `later.json` is the
log of the code of that time, up to step 9.
"""

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from tunit.cli import main
from tunit.config import read_config
from tunit.methods.model_file import load_model
from tunit.networks import generator

HERE = Path(__file__).parents[1] / "run_of_0_1"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "STYLE_HIDDEN", 8)
    return Path(shutil.copytree(HERE / "run", tmp_path / "run"))


def test_it_resumes_and_learns_the_same_as_the_earlier_version(run):
    assert main(["train", "--resume", str(run), "--steps", "9", "--quiet"]) == 0
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in found if line["step"] > 6]
    expected = json.loads((HERE / "later.json").read_text())
    assert [line["step"] for line in found] == [7, 8, 9]
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=1e-4, abs=1e-5), (ours["step"], name)
    # The resumed run is one of this version: with booleans, and the method's settings in their own section.
    table = tomllib.loads((run / "config.toml").read_text())
    assert table["method"]["method"] == "tunit"
    assert table["run"]["compile"] is False
    assert "architecture" not in table["networks"]
    assert table["clustering"]["clustering_objective"] == "mutual-information"


def test_its_model_is_read(run):
    model = load_model(run)
    assert (model.step, model.image_size, model.settings.domains) == (6, 32, 3)
    assert model.config.method.method == "tunit"


# Parts of that version's files for the baselines: settings in their old places, with values that are never the
# default.
OLD = """
[networks]
architecture = "semit"
octave_share = 0.25
[losses]
funit_adversarial_factor = 0.75
feature_matching_weight = 2.0
pseudo_label_weight = 3.0
compatibility_weight = 4.0
prediction_entropy_weight = 5.0
soft_label_rate = 6.0
cycle_weight = 7.0
content_entropy_weight = 8.0
[run]
guide_from = "runs/first"
compile = 1
checkpoint_activations = 0
"""


def test_settings_are_found_in_their_old_places(tmp_path):
    (tmp_path / "old.toml").write_text(OLD)
    config = read_config(str(tmp_path / "old.toml"))
    now = tomllib.loads(config.to_toml())
    before = tomllib.loads(OLD)
    for section, name in ((s, n) for s, names in before.items() for n in names):
        new = "method" if name == "architecture" else name
        (value,) = (values[new] for values in now.values() if new in values)
        assert value == before[section][name], name
    (tmp_path / "new.toml").write_text(config.to_toml())
    assert read_config(str(tmp_path / "new.toml")) == config
