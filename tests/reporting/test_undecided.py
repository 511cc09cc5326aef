"""What `tunit domains` and the report say of a run that was stopped before its domains were decided."""

import json

import pytest
import torch

from tiny_model import save_tiny
from tiny_run import tiny_config, write_pictures
from tunit.cli import main
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import pack_settings
from tunit.reporting.undecided import domains_undecided
from tunit.reporting.write import write_report
from tunit.training.run_folder import RunFolder, begin_run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def source(tmp_path):
    return write_pictures(tmp_path / "pictures" / "kind").parent


def begun(folder, source, **settings):
    """A run of the tiny model, which is of step 7 and has three domains."""
    config = tiny_config(style_width=8, **{"domains": "auto", "guide_only_until": 9} | settings)
    pictures = pack_pictures(source, folder / "data", pack_settings(config), workers=1)
    begin_run(RunFolder(folder), config, source, pictures, torch.device("cpu"))
    save_tiny(folder)
    return folder


def test_both_say_that_the_number_is_not_decided_and_how_to_go_on(tmp_path, source, capsys):
    run = begun(tmp_path / "run", source)
    sentence = (
        "the number of domains is not decided yet, so these are provisional: it is found after step 9, and "
        f"this model is of step 7: go on with `tunit train --resume {run}`"
    )
    for model in (run, run / "model.safetensors"):
        assert main(["domains", str(model), str(source), "--out", str(tmp_path / model.name)]) == 0
        err = capsys.readouterr().err
        assert f"tunit: {sentence}\n" in err
        assert "empty" not in err and "holds" not in err
    page = write_report(run).read_text("utf-8")
    assert f"T{sentence[1:]}." in page
    assert "Dead domains" not in page and "unsure" not in page
    assert (
        "worth it" not in page and "trivial baselines" not in page
    )  # a verdict on these domains means nothing


@pytest.mark.parametrize("settings", [{"domains": 3}, {"guide_only_until": 7}])
def test_nothing_is_said_of_a_run_whose_number_is_given_or_found(tmp_path, source, settings):
    assert domains_undecided(begun(tmp_path / "run", source, **settings), 7) == ""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"domains_from": 1.0}, "they are found after step 9"),
        ({"domains_from": 0.8}, "E learns them from step 8 on"),
        ({"domains_from": 0.5}, None),  # E has learnt domains for a while
        ({"domains_from": 1.0, "guide_style_weight": 0.0}, None),
        ({"domains_from": 1.0, "labels": "folders"}, None),
    ],
)
def test_domains_of_an_e_that_has_learnt_only_styles_mean_nothing(tmp_path, source, settings, said):
    run = begun(tmp_path / "run", source, domains=3, **settings)
    start = (
        f"E has learnt only styles so far, so these domains mean nothing: {said}, and this model is of step 7"
    )
    found = domains_undecided(run, 7)
    assert found == "" if said is None else found.startswith(start)


def test_labels_that_are_all_missing_are_no_labels(tmp_path, source):
    table = tmp_path / "table.csv"
    table.write_text("picture,label\n" + "".join(f"{path},\n" for path in sorted(source.rglob("*.png"))))
    run = begun(tmp_path / "run", table, domains=3, domains_from=1.0, labels="csv")
    assert "learnt only styles so far" in domains_undecided(run, 7)


@pytest.mark.parametrize(("steps", "more"), [(7, " --steps 9"), (9, ""), (20, "")])
def test_a_run_that_was_too_short_is_told_to_take_more_steps(tmp_path, source, steps, more):
    """Otherwise it would end at once when it is resumed."""
    run = begun(tmp_path / "run", source, domains=3, domains_from=1.0, steps=steps)
    assert domains_undecided(run, 7).endswith(f": go on with `tunit train --resume {run}{more}`")


def test_domains_of_another_run_are_only_provisional(tmp_path, source):
    """E has drifted away from them, as it has learnt only styles, but they do mean something."""
    run = begun(tmp_path / "run", source, domains=3, domains_from=1.0)
    assert "mean nothing" in domains_undecided(run, 7)
    about = json.loads((run / "run.json").read_text())
    for anew, means in (
        ([], "these domains are provisional: "),
        (["guide.domain_head.weight"], "mean nothing: "),
    ):
        begun_from = about | {"start_from": {"run": "x", "checkpoint": "y", "step": 9, "anew": anew}}
        (run / "run.json").write_text(json.dumps(begun_from))
        assert f"{means}they are found after step 9, and this model is of step 7" in domains_undecided(run, 7)


def test_a_converted_checkpoint_without_its_epoch_has_domains(tmp_path, source):
    """It counts as a model of step 0, but its E has learnt domains."""
    run = begun(tmp_path / "run", source, domains=3)
    assert [domains_undecided(run, step) for step in (0, 7)] == ["", ""]


def test_nothing_is_said_of_a_model_without_its_run(tmp_path):
    save_tiny(tmp_path)
    assert domains_undecided(tmp_path, 7) == ""
