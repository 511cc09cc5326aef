"""`tunit translate` for a folder, compared with one picture at a time as in the published implementation, in one run.

    python benchmarks/translation.py [--quick] [--pictures 64] [--size 128] [--threads N]

The baseline is a loop over pictures, with networks written layer by layer as in the paper (literal.py): decode the
source and the reference, compute E's style code of the reference and G(x, s) in float32 without our fast code, save.
Both load the model, read the same JPEGs and write PNGs. The networks are untrained (this does not change their speed)
and have the paper's width.
"""

import argparse
import contextlib
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import literal
from machine import write
from paired import compare
from tunit.cli import main as tunit
from tunit.config import Config
from tunit.data.decoding.workers import usable_cores
from tunit.methods.model_file import Model, load_model, save_model
from tunit.methods.tunit import TUNIT
from tunit.networks.generator import Generator


def untrained(folder: Path, size: int) -> None:
    torch.manual_seed(0)
    config = Config().with_overrides({"image_size": size})
    settings = config.networks
    styles = torch.randn(settings.domains, settings.style_width)
    sizes = torch.ones(settings.domains, dtype=torch.int64)
    guide, generator = TUNIT.guide(config).eval(), TUNIT.generator(config).eval()
    folder.mkdir()
    save_model(folder, Model(guide, generator, config, styles, sizes, 1))


def photographs(folder: Path, number: int) -> None:
    """Parts of scikit-learn's two photographs, 512 x 384."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, sample in zip(range(number), itertools.cycle(load_sample_images().images), strict=False):
        left, top = int(rng.integers(0, 128)), int(rng.integers(0, 43))
        part = Image.fromarray(sample).crop((left, top, left + 512, top + 384))
        part.save(folder / f"{i:05d}.jpg", quality=90)


def read(path: Path, size: int) -> torch.Tensor:
    with Image.open(path) as image:
        square = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 127.5 - 1


def literal_networks(model: Model) -> tuple[literal.Guide, literal.Generator]:
    """E and G of a model, built layer by layer as in the paper's appendix."""
    ours, settings = model.generator, model.settings
    assert isinstance(ours, Generator)
    generator = literal.Generator(model.image_size, settings.generator_width or 64, settings.style_width)
    guide = literal.Guide(settings.guide_width, settings.domains, settings.style_width)
    encoder, decoder = ours.content_encoder, ours.decoder
    for theirs, mine in (
        (generator.stem, encoder.stem),
        (generator.down, encoder.down),
        (generator.coded, encoder.residual),
        (generator.decoded, decoder.residual),
        (generator.up, decoder.up),
        (generator.last, decoder.to_picture),
        (generator.mlp, ours.style_mlp),
        (guide.trunk, model.guide.trunk),
        (guide.style, model.guide.style_head),
    ):
        theirs.load_state_dict(mine.state_dict())  # type: ignore[union-attr]
    return guide.eval(), generator.eval()


@torch.inference_mode()
def one_at_a_time(run: Path, sources: Path, reference: Path, out: Path) -> None:
    model = load_model(run)
    guide, generator = literal_networks(model)
    out.mkdir()
    for path in sorted(sources.iterdir()):
        x, x_ref = read(path, model.image_size), read(reference, model.image_size)
        y = generator(x, guide(x_ref)[1])[0]
        pixels = ((y + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(out / f"{path.stem}.png")


def largest_difference(a: Path, b: Path) -> int:
    return max(
        int(
            np.abs(
                np.asarray(Image.open(path), dtype=int) - np.asarray(Image.open(b / path.name), dtype=int)
            ).max()
        )
        for path in sorted(a.iterdir())
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few pictures, few repeats")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=usable_cores())
    args = parser.parse_args()
    number = args.pictures or (8 if args.quick else 64)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(None):
        folder, counter = Path(scratch), itertools.count()
        run, sources = folder / "run", folder / "sources"
        untrained(run, args.size)
        photographs(sources, number)
        reference = sources / "00000.jpg"

        def ours() -> None:
            out = folder / f"ours{next(counter)}"
            words = ["translate", run, sources, "--reference", reference, "--out", out, "--device", "cpu"]
            assert tunit([str(word) for word in words]) == 0

        def theirs() -> None:
            one_at_a_time(run, sources, reference, folder / f"theirs{next(counter)}")

        figures: dict[str, Any] = compare(ours, theirs, work=number, repeats=2 if args.quick else 5)
        difference = largest_difference(folder / "ours0", folder / "theirs1")
    result = {
        "pictures": number,
        "size": args.size,
        "largest difference, grey levels": difference,
        **figures,
    }
    print(write("translation-quick" if args.quick else "translation", result).read_text())


if __name__ == "__main__":
    main()
