"""Figure 4: its figures compared with direct computation, its picture, and the choice of classes."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tiny_run import write_pictures
from tunit.cli import main
from tunit.errors import DataError
from tunit.evaluation.result import Evaluation
from tunit.experiments import attribute, one_row
from tunit.experiments.attribute import attribute_figures, content_error
from tunit.experiments.driver import run_table
from tunit.experiments.label_sources import few_of
from tunit.experiments.paper_tables import FIGURE4
from tunit.experiments.plan import Plan, smoke
from tunit.experiments.split import Split, read_labels
from tunit.methods.inference import BATCH, contents_over
from tunit.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread", "narrow_vgg")

RESULT = Evaluation(features="random-vgg16")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Three classes; the last and the first are used, in this order."""
    folder = tmp_path_factory.mktemp("figure4")
    for i, name in enumerate(("apples", "pears", "plums")):
        write_pictures(folder / "data" / name, seed=i, number=16)
    settings = (("threads", "1"), ("device", "cpu"))
    plan = smoke(Plan(folder / "data", folder / "out", overrides=settings, classes=("plums", "apples")))
    (outcome,) = run_table(FIGURE4, plan)
    return plan.folder(FIGURE4, FIGURE4.rows[0], 0), outcome


def test_everything_runs_on_the_device_that_is_asked_for(done, monkeypatch):
    """Also where the row's runs are finished, and only measured."""
    folder, _ = done
    asked = []
    monkeypatch.setattr(
        one_row, "evaluate_run", lambda *words, device, **more: asked.append(device) or RESULT
    )
    monkeypatch.setattr(one_row, "attribute_figures", lambda *words: asked.append(words[-1]) or {})
    (folder / "outcome.json").unlink()
    data, out = folder.parents[3] / "data", folder.parents[2]
    plan = smoke(Plan(data, out, overrides=(("device", "cuda:7"),), classes=("plums", "apples")))
    run_table(FIGURE4, plan)
    assert asked == ["cuda:7", "cuda:7"]


def test_two_classes_are_used_with_labels_for_at_most_35_pictures_each(done):
    folder, outcome = done
    assert outcome["settings"]["domains"] == 2
    assert outcome["settings"]["labels of a class"] == 13  # 16, of which 3 are held back
    assert {name for name, _ in read_labels(folder / "labelled.csv").values()} == {"apples", "plums"}
    split = Split([(f"{name}{i}", name) for name in "ab" for i in range(50)], [])
    kept = few_of(split, 0, 0, FIGURE4.rows[0].labelled_of_class)
    assert [sum(name == of for of in kept.values()) for name in "ab"] == [35, 35]


def test_its_figures_equal_those_of_translations_made_one_by_one(done):
    folder, outcome = done
    translator = Translator.load(folder / "run", device="cpu", batch=1)
    sources = [path for path, (name, _) in read_labels(folder / "held.csv").items() if name == "plums"]
    taken = []
    for path in sources:
        own = translator.style(path)
        towards = own + 1.5 * (translator.domain_style(0) - own)  # apples are the first label
        taken.append(int(translator.classify(translator.translate(path, style=towards)).domains[0]) == 0)
    share = sum(taken) / len(taken)
    assert outcome["figures"]["share taken for the target class at strength 1.5"] == pytest.approx(share)
    errors = [outcome["figures"][f"content error at strength {s}"] for s in ("0", "0.5", "1", "1.5")]
    assert all(error >= 0 for error in errors)


def test_content_error_is_0_for_the_same_content_and_1_for_that_of_another_picture():
    """If the content encoder returns its input, the error is simple arithmetic."""
    encoder = SimpleNamespace(encode=lambda x: x)
    model = SimpleNamespace(domain_styles=torch.zeros(1), generator=encoder)
    x = torch.stack([torch.full((3, 4, 4), value) for value in (0.0, 0.5)])
    assert content_error(model, x, x) == 0
    assert content_error(model, x, x.flip(0)) == pytest.approx(1)
    assert content_error(model, x, x + 0.25) == pytest.approx(0.5)


def test_content_error_keeps_the_codes_of_a_batch_at_a_time(monkeypatch):
    sizes = []

    def encoded(encode, batches):
        found = contents_over(encode, batches)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(attribute, "contents_over", encoded)
    encoder = SimpleNamespace(encode=lambda x: x)
    model = SimpleNamespace(domain_styles=torch.zeros(1), generator=encoder)
    x, out = torch.rand(2, 2 * BATCH + 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = (out - x).abs().mean() / (x - x.roll(1, 0)).abs().mean()
    assert content_error(model, x, out) == pytest.approx(float(whole))
    assert max(sizes) == BATCH


def test_the_picture_has_a_row_for_each_source_and_a_column_for_each_strength(done):
    folder, _ = done
    with Image.open(folder / "run" / "attribute.png") as picture:
        times = 4  # 32 px are enlarged to 128 px
        assert picture.height == 18 + 3 * (32 * times) + 2 * 2  # caption, three held-back pictures, gaps
        assert picture.width >= 5 * (32 * times) + 4 * 2  # the source and four strengths


def test_no_held_back_pictures_is_one_sentence(done):
    folder, _ = done
    with pytest.raises(DataError, match="no picture of class 'plums' is held back"):
        attribute_figures(
            folder / "run", Split([("1", "apples"), ("2", "plums")], []), ("plums", "apples"), (1.0,)
        )


def test_wrong_classes_are_one_sentence_for_each_row(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(one_row, "train_to_end", lambda *words: pytest.fail("trained"))
    for i, name in enumerate("abc"):
        write_pictures(tmp_path / "data" / name, seed=i, number=5)
    for words, message in (
        ("a,d", "there is no class 'd'"),
        (
            "a,b,c",
            "3 classes are chosen ('a', 'b', 'c'), and this table takes 2: choose 2 with --between A,B",
        ),
        ("b,b", "1 class is chosen ('b'), and this table takes 2"),
    ):
        arguments = ["figure4", "--data", tmp_path / "data", "--out", tmp_path / "out", "--between", words]
        assert main(["reproduce", *map(str, arguments)]) != 0
        assert message in capsys.readouterr().err
