"""Compiled networks learn the same as networks that are not compiled."""

import pytest
import torch

from packed_pictures import unlabelled
from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.data.batching.batches import make_batch
from tunit.methods.inference import for_whole_pictures
from tunit.methods.method import Phase
from tunit.methods.state import TrainingState
from tunit.methods.tunit import TUNIT, tunit_step
from tunit.training import resources, trainer
from tunit.training.initial_state import new_state
from tunit.training.resources import begin_step, compile_parts

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def trained(*, compiled: bool) -> TrainingState:
    """The state after two steps in float64; the second step has no R1."""
    # Gradients are much larger than rounding. With back-translation, G's halves are called twice in a step.
    config = tiny_config(r1_weight=10.0, head_std=0.3, back_translation_weight=1.0)
    state = new_state(config, CPU)
    for network in state.networks.named().values():
        network.double()
    state.queue = state.queue.double()
    if compiled:
        compile_parts(TUNIT.compiled_parts(state.networks), CPU, backend="aot_eager")
    generator = torch.Generator().manual_seed(0)
    for i in range(2):
        x = torch.rand(4, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1
        batch = make_batch(x, x.flip(3), torch.full((4,), -1))
        tunit_step(state, batch, torch.arange(4).flip(0), Phase(True, True, penalise=i == 0), config)
    return state


# torch's tracing reads gradients of tensors that have none.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_two_steps_equal_those_without_compilation_and_names_do_not_change() -> None:
    plain, compiled = trained(compiled=False).networks.named(), trained(compiled=True).networks.named()
    for name, network in plain.items():
        values = compiled[name].state_dict()
        assert values.keys() == network.state_dict().keys()
        for key, value in network.state_dict().items():
            torch.testing.assert_close(values[key], value, rtol=1e-9, atol=1e-9, msg=f"{name} {key}")


# As above.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_each_compiled_part_is_one_graph() -> None:
    state, graphs = new_state(tiny_config(), CPU), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    parts = list(TUNIT.compiled_parts(state.networks))
    compile_parts(parts, CPU, backend=backend)
    x = torch.rand(4, 3, 32, 32)
    generator = state.networks.generator
    s = torch.rand(4, state.networks.guide.style_width)
    passes = [lambda: state.networks.guide(x), lambda: state.networks.guide_average(x)]
    passes += [lambda: generator.encode(x), lambda: generator.decode(generator.encode(x), s)]
    for run in passes:
        graphs.clear()
        run()
        assert len(graphs) == 1
        run()
        assert len(graphs) == 1  # the same graph again
    assert len(passes) == len(parts)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_checks_with_whole_pictures_leave_the_compiled_graphs_of_training() -> None:
    """Beyond eight graphs PyTorch would train E without compiled code, and only a warning would say so."""
    graphs, runs = [], []

    def backend(graph, inputs):
        graphs.append(graph)

        def run(*given):
            runs.append(graph)
            return graph.forward(*given)

        return run

    networks = new_state(tiny_config(whole_statistics=True), CPU).networks
    guides = networks.guide, networks.guide_average
    compile_parts(list(TUNIT.compiled_parts(networks)), CPU, backend=backend)
    x = torch.rand(4, 3, 32, 32)
    for _ in range(3):
        for guide in guides:
            guide(x)
        for guide in guides:
            with torch.no_grad(), for_whole_pictures(guide, [x, x]):
                guide(x[:3])
    assert len(graphs) == 2
    assert runs == graphs * 3


# As above.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_with_checkpointed_activations_the_halves_of_g_are_compiled_too(monkeypatch) -> None:
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def compile_for_test(parts, device, *, graphs):
        assert not graphs
        compile_parts(parts, device, backend=backend)

    monkeypatch.setattr(trainer, "compile_parts", compile_for_test)
    images = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8).numpy()
    pictures = unlabelled(images)
    config = tiny_config(compile=True, checkpoint_activations=True).resolved_schedule()
    networks = trainer.make_ready(config, pictures, None).state.networks
    graphs.clear()
    x, generator = torch.rand(4, 3, 32, 32), networks.generator
    c = generator.encode(x)
    generator.decode(c, torch.rand(4, networks.guide.style_width)).sum().backward()
    assert len(graphs) == 2
    assert all(weight.grad is not None for weight in generator.content_encoder.parameters())


def test_with_cuda_graphs_parts_are_compiled_for_them_and_each_step_is_announced(monkeypatch) -> None:
    modes, begun = [], []
    monkeypatch.setattr(resources, "check_compiler", lambda device: None)
    monkeypatch.setattr(torch, "compile", lambda forward, **words: modes.append(words.get("mode")) or forward)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(True))
    parts = list(TUNIT.compiled_parts(new_state(tiny_config(), CPU).networks))
    compile_parts(parts, torch.device("cuda"), graphs=True)
    assert modes == ["reduce-overhead"] * len(parts)
    begin_step(tiny_config(compile=True, cuda_graphs=True))
    assert begun == [True]
    modes.clear()
    compile_parts(parts, torch.device("cuda"))
    begin_step(tiny_config(compile=True))
    assert modes == [None] * len(parts) and begun == [True]


def test_cuda_graphs_without_an_nvidia_gpu_or_without_compile_are_refused_or_named(tmp_path, capsys) -> None:
    words = ["train", str(write_pictures(tmp_path / "p")), "--quiet", "--preset", "paper", *flags()]
    words += ["--device", "cpu", "--cuda-graphs", "true"]
    assert main([*words, "--out", str(tmp_path / "run"), "--compile", "true"]) == 2
    err = capsys.readouterr().err
    assert "cuda_graphs is true, but the device is cpu: leave out --cuda-graphs" in err
    assert len(err.splitlines()) == 1
    assert main([*words, "--out", str(tmp_path / "other")]) == 0
    assert "--cuda-graphs true has no effect: compile is false" in capsys.readouterr().err


def test_without_a_compiler_the_error_is_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    def broken(function):
        raise RuntimeError("no C++ compiler found\nwith a long story")

    monkeypatch.setattr(torch, "compile", broken)
    words = ["train", str(write_pictures(tmp_path / "p")), "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*words, "--preset", "paper", *flags(), "--compile", "1", "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert "no C++ compiler found" in err
    assert "leave out --compile" in err
    assert len(err.splitlines()) == 1
