"""Exported files compared with direct calls of the networks. tests/test_docs.py runs the ONNX files in
onnxruntime.
"""

import json
import sys

import pytest
import torch

from tiny_model import DOMAINS, SIZE, WIDTH, noise, save_tiny, save_tiny_funit, save_tiny_semit, to_input
from tunit.cli import main
from tunit.errors import ConfigError, RunError
from tunit.files.result_names import SUFFIXES
from tunit.translation import export

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = (export.PARTS[0], export.PARTS[2])  # tracing each takes seconds


@pytest.fixture
def run(tmp_path):
    save_tiny(tmp_path / "run")
    return tmp_path / "run"


def test_torch_files_equal_the_networks_for_any_number_of_pictures(run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PARTS", FEW)
    model, out = save_tiny(run), tmp_path / "out"
    assert main(["export", str(run), "--format", "torch", "--out", str(out)]) == 0
    files = ["export.json", "style_encoder.pt2", "translator.pt2"]
    assert sorted(path.name for path in out.iterdir()) == files
    encoder, translator = (torch.export.load(out / name).module() for name in files[1:])
    for number in (1, 4):
        x = torch.cat([to_input(noise(seed)) for seed in range(number)])
        with torch.no_grad():
            style = model.guide(x).style
            torch.testing.assert_close(encoder(x), style, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(translator(x, style), model.generator(x, style), atol=1e-4, rtol=0)
    about = json.loads((out / "export.json").read_text())
    assert [domain["average_style"] is None for domain in about["domains"]] == [False, True, False]
    assert about["domains"][2]["average_style"] == model.domain_styles[2].tolist()
    assert [domain["name"] for domain in about["domains"]] == [f"domain {k}" for k in range(DOMAINS)]
    assert about["files"][1]["inputs"] == [
        {"name": "picture", "shape": ["batch", 3, SIZE, SIZE], "range": [-1, 1]},
        {"name": "style", "shape": ["batch", WIDTH]},
    ]


@torch.no_grad()
@pytest.mark.parametrize("save", [save_tiny_funit, save_tiny_semit])
def test_torch_files_of_the_baselines_equal_their_networks(save, tmp_path):
    model = save(tmp_path)
    names = [*export.export_model(model, tmp_path, "torch", torch.zeros(0, 3, SIZE, SIZE))]
    x, y = (torch.cat([to_input(noise(seed)) for seed in seeds]) for seeds in (range(4), range(4, 8)))
    guided = model.guide(y)
    expected = {
        "style_encoder.pt2": ((y,), guided.style),
        "domain_classifier.pt2": ((y,), guided.logits.exp() / guided.logits.exp().sum(1, keepdim=True)),
        "translator.pt2": ((x, guided.style), model.generator(x, guided.style)),
        "reference_translator.pt2": ((x, y), model.generator(x, guided.style)),
    }
    for name in names:
        inputs, output = expected[name]
        drawn = torch.export.load(tmp_path / name).module()(*inputs)
        torch.testing.assert_close(drawn, output, atol=1e-4, rtol=1e-4)
    assert len(names) == (4 if save is save_tiny_semit else 3)


def test_a_file_with_different_results_is_deleted(run, tmp_path, monkeypatch, capsys):
    def wrong(network, example, part, path):
        path.write_bytes(b"wrong")
        return lambda inputs: network(*inputs) + 0.002 * (len(inputs[0]) > 1)

    monkeypatch.setattr(export, "_as_onnx", wrong)
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "differs from PyTorch by 0.0" in said
    assert "nothing was written" in said
    assert not (tmp_path / "out").exists()


def test_the_pt2_file_itself_is_compared_not_the_program_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "PARTS", (export.PARTS[1],))
    model, save = save_tiny(tmp_path), torch.export.save

    def save_other_weights(program, path):
        right = [value.clone() for value in program.state_dict.values()]
        for value in program.state_dict.values():
            value.data.zero_()
        save(program, path)
        for value, was in zip(program.state_dict.values(), right, strict=True):
            value.data.copy_(was)

    monkeypatch.setattr(torch.export, "save", save_other_weights)
    with pytest.raises(RunError, match=r"domain_classifier\.pt2 differs from PyTorch"):
        export.export_model(model, tmp_path, "torch", torch.zeros(0, 3, SIZE, SIZE))


def test_nan_counts_as_a_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_as_onnx", lambda network, *_: lambda inputs: network(*inputs) * torch.nan)
    model = save_tiny(tmp_path)
    with pytest.raises(RunError, match="differs from PyTorch by nan"):
        export.export_model(model, tmp_path, "onnx", torch.zeros(0, 3, SIZE, SIZE))


def test_without_onnx_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"onnxscript\): pip install"):
        export.check_packages("onnx")
    export.check_packages("torch")


def test_existing_files_are_replaced_only_on_request(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "translator.onnx").write_bytes(b"mine")
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "translator.onnx exists already" in capsys.readouterr().err


def test_a_model_that_tells_no_domains_has_no_classifier(tmp_path, monkeypatch):
    monkeypatch.setattr(
        export, "_as_torch", lambda network, example, part, path: lambda inputs: network(*inputs)
    )
    model = save_tiny_funit(tmp_path / "run")
    expected = ["style_encoder.pt2", "translator.pt2", "reference_translator.pt2"]
    assert [*export.export_model(model, tmp_path, "torch", torch.zeros(0, 3, SIZE, SIZE))] == expected
    assert export.names_of_files(model, "torch") == [*expected, "export.json"]
    about = json.loads((tmp_path / "export.json").read_text())
    assert [entry["file"] for entry in about["files"]] == expected


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_a_full_disk_is_one_sentence_with_the_file(tmp_path, monkeypatch, kind):
    if kind == "onnx":
        for package in export.PACKAGES:
            pytest.importorskip(package)
    monkeypatch.setattr(export, "PARTS", FEW[:1])
    model, path = save_tiny(tmp_path / "run"), tmp_path / f"style_encoder{SUFFIXES[kind]}"
    path.symlink_to("/dev/full")
    with pytest.raises(RunError, match=rf"{path.name} cannot be written \(No space left on device\)"):
        export.export_model(model, tmp_path, kind, torch.zeros(0, 3, SIZE, SIZE))
