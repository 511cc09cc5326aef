"""`tunit train --evaluate-every N`, called as a user does. Errors must come before a long training."""

import json

import pytest

from tiny_run import flags, write_pictures
from tunit.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_best_model_is_kept_and_can_be_used(tmp_path):
    for i, name in enumerate("ab"):
        write_pictures(tmp_path / "pictures" / name, seed=i, number=12)
        write_pictures(tmp_path / "held" / name, seed=10 + i, number=6)
    words = ["train", tmp_path / "pictures", "--out", tmp_path / "run", "--quiet", *flags(domains=2)]
    words += ["--evaluate-every", "8", "--held-back", tmp_path / "held"]
    assert main([str(word) for word in words]) == 0
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    assert best["step"] in (8, 12)
    assert best["features"] == "random-vgg16"
    picture = tmp_path / "held" / "a" / "000.png"
    words = [
        "translate",
        tmp_path / "run" / "best",
        picture,
        "--reference",
        picture,
        "--out",
        tmp_path / "out",
    ]
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / "out" / "000.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--evaluate-every", "-1"], "--evaluate-every is -1"),
        (["--evaluate-every", "2", "--held-back", "nowhere"], "nowhere does not exist"),
        (["--evaluate-every", "2", "--held-back", "ONE"], "holds 1 picture, too few to score a model"),
        (["--held-back", "ONE"], "has no effect without --evaluate-every"),
        (["--evaluate-every", "2", "--features", "vgg99"], "'vgg99' is neither a file nor a known name"),
    ],
)
def test_errors_come_before_the_training(tmp_path, capsys, words, message):
    write_pictures(tmp_path / "pictures", number=12)
    write_pictures(tmp_path / "one", number=1)
    words = [word.replace("ONE", str(tmp_path / "one")) for word in words]
    call = ["train", str(tmp_path / "pictures"), "--out", str(tmp_path / "run"), *flags(), *words]
    assert main(call) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
