"""A shared model: its folder and card; upload to a hub on this machine, and download."""

import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from local_hub import running_hub
from tiny_model import noise, save_tiny
from tiny_run import tiny_config, write_pictures
from tunit import hub as our_hub
from tunit.cli import main
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import pack_settings
from tunit.errors import ConfigError, RunError
from tunit.networks.tensor_file import read_tensors
from tunit.reporting.model_card import plain
from tunit.training.run_folder import RunFolder, begin_run, label_names
from tunit.translation.translator import Translator

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # a warning inside huggingface_hub while it uploads
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
EVIL = "a|b](x)<script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained and evaluated run with labels from two folders. Its model is random."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("given")
    source, run = folder / "secret place", folder / "kinds"
    for i, name in enumerate((EVIL, "dogs")):
        write_pictures(source / name, seed=i, number=10)
    config = tiny_config(style_width=8, labels="folders")
    pictures = pack_pictures(source, run / "data", pack_settings(config), workers=1)
    begin_run(RunFolder(run), config, source, pictures, torch.device("cpu"))
    save_tiny(run, sizes=(12, 8, 0))
    figure = {"value": 12.5, "low": 11.0, "high": 14.0, "number": 28}
    evaluation = {"figures": {"mFID": figure, "NMI": 0.25}, "features": "random-vgg16", "step": 8}
    (folder / "kinds" / "evaluation").mkdir()
    (folder / "kinds" / "evaluation" / "evaluation.json").write_text(json.dumps(evaluation))
    return folder / "kinds"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, and a login, as the environment would set them before huggingface_hub is imported."""
    from huggingface_hub import constants

    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.chdir(tmp_path)
        yield hub


def pixels(image):
    return np.asarray(image)


def test_a_model_is_uploaded_and_downloaded(run, hub, capsys):
    assert main(["push", str(run), "me/kinds", "--private", "--license", "cc-by-4.0"]) == 0
    assert "thumbnails show training pictures" in capsys.readouterr().out
    files = hub.repositories["me/kinds"]
    assert sorted(files) == [
        "README.md",
        "domains.json",
        "domains/domain_0.webp",
        "domains/domain_1.webp",
        "model.json",
        "model.safetensors",
    ]
    assert hub.private["me/kinds"]
    assert "Bearer hf_test" in hub.tokens
    hub.asked.clear()
    theirs, ours = Translator.load("me/kinds", device="cpu"), Translator.load(run, device="cpu")
    source, reference = noise(1), noise(2)
    assert np.array_equal(
        pixels(theirs.translate(source, reference)), pixels(ours.translate(source, reference))
    )
    assert np.array_equal(
        pixels(theirs.translate(source, domain=1)), pixels(ours.translate(source, domain=1))
    )
    loaded = {call.rpartition("/")[2] for call in hub.asked if "/resolve/" in call}
    assert loaded == {"model.safetensors", "model.json", "domains.json"}


def test_commands_accept_a_name_on_the_hub(run, hub, tmp_path, capsys):
    assert main(["push", str(run), "me/kinds"]) == 0
    Image.fromarray(noise(3)).save("a.png")
    out = ["--out", str(tmp_path / "out")]
    assert main(["translate", "me/kinds", "a.png", "--to-label", "dogs", *out]) == 0
    assert (tmp_path / "out" / "a.png").is_file()
    assert main(["domains", "me/kinds", "a.png"]) == 2
    assert (
        "me/kinds is not a local folder, so results cannot be written into it: give --out"
        in capsys.readouterr().err
    )


def test_an_upload_can_be_repeated_but_not_made_public_by_accident(run, hub, capsys):
    assert main(["push", str(run), "me/kinds", "--no-pictures"]) == 0
    assert "domains/domain_0.webp" not in hub.repositories["me/kinds"]
    assert main(["push", str(run), "me/kinds"]) == 0
    hub.repositories["me/kinds"] = {}
    assert main(["push", str(run), "me/kinds", "--private"]) == 2
    assert "me/kinds exists already and is public, so nothing was uploaded" in capsys.readouterr().err
    assert hub.repositories["me/kinds"] == {}


def test_thumbnails_of_an_earlier_upload_do_not_stay(run, hub):
    assert main(["push", str(run), "me/kinds"]) == 0
    files = hub.repositories["me/kinds"]
    files |= {"domains/domain_12.webp": b"of a model with more domains", "domains/mine.txt": b"x"}
    own = dict.fromkeys(("domains/domain_cats.webp", "domains/domain_007.webp"), b"y")
    files |= own
    assert main(["push", str(run), "me/kinds"]) == 0
    assert {name for name in files if name.startswith("domains/")} == {
        "domains/domain_0.webp",
        "domains/domain_1.webp",
        "domains/mine.txt",
        *own,
    }
    assert main(["push", str(run), "me/kinds", "--no-pictures"]) == 0
    assert {name for name in files if name.startswith("domains/")} == {"domains/mine.txt", *own}
    out = ["--dry-run", "folder"]
    assert main(["push", str(run), "me/kinds", *out]) == 0
    shown = Path("folder/domains")
    (shown / "domain_12.webp").touch()
    assert main(["push", str(run), "me/kinds", *out, "--overwrite"]) == 0
    assert sorted(path.name for path in shown.iterdir()) == ["domain_0.webp", "domain_1.webp"]
    assert main(["push", str(run), "me/kinds", *out, "--overwrite", "--no-pictures"]) == 0
    assert not shown.exists()


def test_without_overwrite_a_thumbnail_that_is_there_is_not_removed(run, tmp_path, capsys):
    old = tmp_path / "folder" / "domains" / "domain_7.webp"
    old.parent.mkdir(parents=True)
    old.touch()
    folder = ["--dry-run", str(tmp_path / "folder"), "--no-pictures"]
    assert main(["push", str(run), "me/kinds", *folder]) == 2
    assert "domain_7.webp exists already" in capsys.readouterr().err
    assert old.is_file()


def test_a_downloaded_model_loads_without_the_network(run, hub, monkeypatch):
    assert main(["push", str(run), "me/kinds"]) == 0
    Translator.load("me/kinds", device="cpu")
    hub.status = 503
    assert Translator.load("me/kinds", device="cpu").model.step == 7
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert Translator.load("me/kinds", device="cpu").model.step == 7
    assert hub.asked == []


def test_missing_or_refused_models_are_one_sentence(run, hub, capsys):
    def sentence(*words):
        assert main([*words]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    translate = ("translate", "me/none", "a.png", "--domain", "0", "--out", "out")
    Image.fromarray(noise(3)).save("a.png")
    assert "there is no folder me/none here, and on the hub" in (said := sentence(*translate))
    assert "none of this name, or you may not read it" in said
    hub.repositories["me/none"], hub.private["me/none"] = {"README.md": b"text"}, False
    assert "me/none on the hub holds no model.safetensors" in sentence(*translate)
    damaged = {"model.safetensors": b"\x08" + bytes(7) + b'{"a":1} '}
    hub.repositories["me/bad"], hub.private["me/bad"] = damaged, False
    assert "model.safetensors is damaged" in sentence("translate", "me/bad", *translate[2:])
    hub.status = 500
    assert "answered 500" in sentence("translate", "me/other", *translate[2:])
    assert "answered 500" in sentence("push", str(run), "me/kinds")
    hub.status = 403
    assert "take a token that may do this" in sentence("push", str(run), "me/kinds")


def test_no_network_is_one_sentence(run, hub, monkeypatch):
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(RunError, match=r"me/kinds here, and on the hub http.* cannot be reached"):
        Translator.load("me/kinds", device="cpu")
    with pytest.raises(RunError, match=r"not uploaded: http.* cannot be reached"):
        our_hub.upload(run, "me/kinds", private=False, message="x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match="cannot be reached, nor was it downloaded before"):
        Translator.load("me/kinds", device="cpu")


def test_without_the_package_or_a_login_one_sentence_says_what_to_do(run, hub, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="you are not logged in"):
        our_hub.check_upload("me/kinds")
    monkeypatch.setattr(our_hub, "is_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"no folder me/kinds here.*pip install \"tunit\[hub\]\""):
        Translator.load("me/kinds")
    assert main(["push", str(run), "me/kinds"]) == 2
    assert 'pip install "tunit[hub]"' in capsys.readouterr().err
    assert hub.asked == []


def test_an_existing_path_is_never_searched_on_the_hub(hub, tmp_path):
    save_tiny(tmp_path / "me" / "kinds")
    assert Translator.load("me/kinds", device="cpu").model.step == 7
    with pytest.raises(RunError, match=r"me/typo holds no model\.safetensors"):
        Translator.load("me/typo")
    assert hub.asked == []


@pytest.mark.parametrize(
    "name", ["kinds", "me/", "/me", "a/b/c", "me/..", "../me", "me/a--b", "me/a.git", "mé/a", ""]
)
def test_an_invalid_name_is_not_requested(run, hub, name, capsys):
    assert not our_hub.is_on_hub(name)
    assert main(["push", str(run), name]) == 2
    assert "cannot be a name on the hub: take user/name" in capsys.readouterr().err
    assert hub.asked == []


def test_the_folder_loads_alone_and_contains_nothing_about_its_maker(run, tmp_path, monkeypatch, capsys):
    """It loads without huggingface_hub, too."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    out = tmp_path / "folder"
    assert main(["push", str(run), "me/kinds", "--dry-run", str(out)]) == 0
    ours, theirs = Translator.load(run, device="cpu"), Translator.load(out, device="cpu")
    source = noise(1)
    assert np.array_equal(
        pixels(theirs.translate(source, domain=1)), pixels(ours.translate(source, domain=1))
    )
    assert label_names(out) == label_names(run) == sorted((EVIL, "dogs"))
    tensors, _ = read_tensors(out / "model.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {
        "guide",
        "generator",
        "domain_styles",
        "domain_sizes",
    }
    for path in out.rglob("*"):
        if path.is_file():
            assert b"secret place" not in path.read_bytes()
    assert main(["push", str(run), "me/kinds", "--dry-run", str(out)]) == 2
    assert "README.md and 5 more exist already: give another --dry-run, or" in capsys.readouterr().err
    file = out / "README.md"
    assert main(["push", str(run), "me/kinds", "--dry-run", str(file)]) == 2
    assert "is a file: give a folder as --dry-run" in capsys.readouterr().err


def test_the_folder_never_replaces_the_model_of_a_run(run, tmp_path, capsys):
    for name in ("ours", "other"):
        shutil.copytree(run, tmp_path / name)
        before = {path: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()}
        words = ["--dry-run", str(tmp_path / name), "--overwrite"]
        assert main(["push", str(tmp_path / "ours"), "me/kinds", *words]) == 2
        said = f"is a part of the run {tmp_path / name}, which must not be changed: give another --dry-run"
        assert said in capsys.readouterr().err
        assert {path: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()} == before


def test_the_card_has_all_required_parts(run, tmp_path):
    out = tmp_path / "folder"
    words = ["--license", "cc0-1.0", "--trained-on", "My *own* pictures."]
    assert main(["push", str(run), "me/kinds", "--dry-run", str(out), *words]) == 0
    card = (out / "README.md").read_text("utf-8")
    assert card.startswith("---\nlicense: cc0-1.0\nlibrary_name: tunit\n")
    assert "My \\*own\\* pictures." in card
    assert "20 pictures at 32 x 32 pixels, with labels of 2 kinds; 7 steps" in card
    assert "Labels of its training pictures defined its domains." in card
    assert "by itself" not in card
    assert "Its method is [TUNIT](https://arxiv.org/abs/2006.06500) (Baek et al., ICCV 2021)." in card
    assert "unsupervised" not in card
    assert "| mFID | 12.5 | 11 to 14 |" in card
    assert "| NMI | 0.25 | |" in card
    assert 'Translator.load("me/kinds")' in card
    assert "## Limits" in card
    assert "<script>" not in card
    shown = re.findall(r"!\[.*?\]\((domains/domain_\d\.webp)\)", card)
    assert len(shown) == 2
    for name in shown:
        with Image.open(out / name) as image:
            assert image.format == "WEBP"
            assert image.size == (4 * 34 - 2, 2 * 32 + 2)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("random-vgg16", "random-vgg16"),
        ("inception (legacy)", "inception (legacy)"),
        ("inception (clean) of mine-12 net.pt 0123abcd", "inception (clean) from a file (0123abcd)"),
        ("moco-v2 (mine-12 net.pth.tar 0123abcd)", "moco-v2 from a file (0123abcd)"),
        ("mine-12 net.pt2 0123abcd", "another from a file (0123abcd)"),
    ],
)
def test_the_card_does_not_name_the_file_of_a_feature_network(run, tmp_path, name, shown):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "evaluation" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"features": name}))
    assert main(["push", str(tmp_path / "run"), "me/kinds", "--dry-run", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert f"Feature network: {shown};" in card
    assert "mine" not in card


def test_the_card_of_a_model_without_its_run(tmp_path):
    save_tiny(tmp_path / "model")
    assert main(["push", str(tmp_path / "model"), "me/kinds", "--dry-run", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "license: unknown" in card
    assert "It was not evaluated" in card
    assert "It found the domains below by itself, without labels." in card
    assert '"unsupervised"' in card
    assert "Domain 1 has no average style: `pictures` is 0." in card
    assert "![" not in card


@pytest.mark.parametrize(
    ("given", "shown", "tagged", "settings"),
    [
        ("", None, True, {}),
        ("random-vgg16", "random-vgg16", True, {}),
        ("inception", "inception", False, {}),
        ("inception", "inception", False, {"neighbours": 0, "domains_from": 1.0}),  # E's codes are clustered
        ("/home/me/secret.pth.tar", "one from a file", False, {}),
    ],
)
def test_the_card_says_which_network_helped_to_find_domains(tmp_path, given, shown, tagged, settings):
    source, run = write_pictures(tmp_path / "pictures", number=10), tmp_path / "run"
    config = tiny_config(**{"style_width": 8, "neighbours": 3, "feature_cue": given} | settings)
    pictures = pack_pictures(source, run / "data", pack_settings(config), workers=1)
    begin_run(RunFolder(run), config, source, pictures, torch.device("cpu"))
    save_tiny(run)
    assert main(["push", str(run), "me/kinds", "--dry-run", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    sentence = f"a feature network helped to find what belongs together: {shown}."
    assert (sentence in card) == ("a feature network helped" in card) == (shown is not None)
    assert ('"unsupervised"' in card) == tagged
    assert "secret" not in "".join(
        f.read_text("utf-8") for f in (tmp_path / "out").iterdir() if f.suffix in (".md", ".json")
    )


@pytest.mark.parametrize(
    ("labelled", "settings"),
    [
        (True, {"labels": "folders"}),
        (False, {"guide_only_until": 0}),
        (False, {"neighbours": 0}),
        (
            False,
            {"neighbours": 0, "domains_from": 1.0, "guide_only_until": 9},
        ),  # not decided yet: it is of step 7
        (False, {"method": "funit"}),
    ],
)
def test_the_card_names_no_network_that_did_not_help(tmp_path, labelled, settings):
    source, run = tmp_path / "pictures", tmp_path / "run"
    for i, name in enumerate(("cats", "dogs")):
        write_pictures(source / name, seed=i, number=5)
    given = {"style_width": 8, "neighbours": 3, "feature_cue": "inception"}
    config = tiny_config(**given | settings)
    pictures = pack_pictures(source, run / "data", pack_settings(config), workers=1)
    begin_run(RunFolder(run), config, source, pictures, torch.device("cpu"))
    assert all(label >= 0 for label in pictures.labels) == labelled
    save_tiny(run)
    assert main(["push", str(run), "me/kinds", "--dry-run", str(tmp_path / "out")]) == 0
    assert "a feature network helped" not in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(("alone", "found"), [(9, False), (7, True)])
def test_the_card_of_a_run_that_was_stopped_before_it_had_domains(tmp_path, alone, found):
    source, run = write_pictures(tmp_path / "pictures", number=10), tmp_path / "run"
    config = tiny_config(style_width=8, domains_from=1.0, guide_only_until=alone)
    pictures = pack_pictures(source, run / "data", pack_settings(config), workers=1)
    begin_run(RunFolder(run), config, source, pictures, torch.device("cpu"))
    save_tiny(run)  # of step 7
    assert main(["push", str(run), "me/kinds", "--dry-run", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert ("It found the domains below by itself, without labels." in card) == found
    assert ("It found its domains by itself" in card) == found
    assert ("stopped before it had found its domains: those below are provisional" in card) != found
    assert "tunit train --resume" not in card  # the path of the run may be private


def test_text_from_users_is_not_markup():
    assert plain("a|b\n[x](y) <b>") == "a\\|b\\\\n\\[x\\](y) \\<b\\>"


def test_a_licence_is_an_identifier(run, tmp_path, capsys):
    assert (
        main(["push", str(run), "me/kinds", "--dry-run", str(tmp_path / "x"), "--license", "My own: x"]) == 2
    )
    assert "--license is 'My own: x': take an identifier" in capsys.readouterr().err


def test_the_environment_sets_the_address_of_the_hub(hub, tmp_path):
    """In a separate process, as for a user."""
    import subprocess

    hub.repositories["me/kinds"], hub.private["me/kinds"] = (
        {"model.safetensors": b"x", "other.bin": b"y"},
        False,
    )
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    code = "from tunit.hub import download; print(download('me/kinds', ['model.safetensors']))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    folder = done.stdout.strip().splitlines()[-1]
    assert [path.name for path in Path(folder).iterdir()] == ["model.safetensors"]
