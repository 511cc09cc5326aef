"""Sample grids, and the model for inference with the average style of each domain."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tunit.config import Config
from tunit.data.batching.randomness import numpy_generator
from tunit.data.galleries import matrix
from tunit.data.packing.packed import PackedPictures
from tunit.files.atomic import writable, write_bytes
from tunit.methods.inference import (
    evenly_spread,
    for_whole_pictures,
    guidance_over,
    in_batches,
    pictures_at_a_time,
    redraw,
    some_whole_pictures,
    use_statistics_of_whole_pictures,
)
from tunit.methods.model_file import Model
from tunit.methods.registry import method_of
from tunit.methods.state import TrainingState
from tunit.training.domain_styles import average_styles

GRID = 8  # sources and references of a sample grid
STYLES_FROM = 4096  # average styles are taken over at most this many pictures
ENCODED_AT_ONCE = 128  # pictures through E at a time, of up to 128 px
SMALL, ENLARGE = 64, 2  # pictures up to 64 px are enlarged in grids


def model_of(state: TrainingState, pictures: PackedPictures, config: Config) -> Model:
    """The current EMAs of E and G, for inference, with the average style code of each domain.

    The model's config has E's current number of domains, even if the run's config says auto.
    """
    config = config.with_overrides({"domains": state.networks.guide_average.domains})
    guide, generator = method_of(config).guide(config), method_of(config).generator(config)
    guide.load_state_dict(state.networks.guide_average.state_dict())
    generator.load_state_dict(state.networks.generator_average.state_dict())
    device = state.queue.device
    guide.to(device).eval().requires_grad_(False)
    use_statistics_of_whole_pictures(guide, some_whole_pictures(pictures.images, device))
    generator.to(device).eval().requires_grad_(False)
    rows = evenly_spread(len(pictures.names), STYLES_FROM)
    size = pictures_at_a_time(ENCODED_AT_ONCE, config.data.image_size)
    batches = in_batches(pictures.images, device, size, rows)
    styles, sizes = average_styles(guide, batches, torch.from_numpy(pictures.labels[rows]))
    return Model(
        guide,
        generator,
        config,
        styles,
        sizes,
        state.step,
    )


def write_samples(folder: Path, state: TrainingState, pictures: PackedPictures, config: Config) -> Path:
    """samples/step_NNNNNNNN.png: fixed sources (first column) in the styles of fixed references (first row)."""
    rng = numpy_generator(config.run.seed, "samples", 0)
    number = min(GRID, len(pictures.names) // 2)
    rows = rng.permutation(len(pictures.names))[: 2 * number]
    images = np.array(pictures.images[rows])
    (x,) = in_batches(images, state.queue.device)
    networks = state.networks
    with for_whole_pictures(networks.guide_average, some_whole_pictures(pictures.images, x.device)):
        styles = guidance_over(networks.guide_average, [x[number:]]).style
        drawn = [out.cpu().numpy() for out in redraw(networks.generator_average, x[:number], styles)]
    shown = [Image.fromarray(picture) for picture in images]
    results = [[Image.fromarray(column[row]) for column in drawn] for row in range(number)]
    enlarge = ENLARGE if config.data.image_size <= SMALL else 1
    grid = matrix(shown[:number], shown[number:], results, enlarge=enlarge, gap=0)
    path = folder / f"step_{state.step:08d}.png"
    encoded = io.BytesIO()
    grid.save(encoded, "PNG")
    with writable(path):
        folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, encoded.getvalue())
    return path
