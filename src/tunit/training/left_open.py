"""What a user may leave open in the config of a new run: the size of pictures, phases, batch sizes, the number of
domains. What depends on the pictures' content is in `training.from_pictures`.
"""

from collections.abc import Callable
from pathlib import Path

from tunit.config import AUTO, Config
from tunit.data.finding.sharded_sets import is_sharded, open_shards
from tunit.data.packing.image_size import choose_image_size
from tunit.data.packing.pack_settings import pack_settings
from tunit.data.packing.packed import PackedPictures
from tunit.data.packing.search import Search
from tunit.files.paths import expand_home
from tunit.machine import choose_device
from tunit.methods.checks import check_config
from tunit.methods.feature_cue import checked_feature_cue
from tunit.methods.model_file import load_model
from tunit.training.memory.fitting import SMALLEST_BATCH, fitting_batches
from tunit.training.memory.footprint import check_footprint
from tunit.training.processes import check_processes
from tunit.training.resources import prepare_machine


def resolved(config: Config, source: Path | str, fit_batch: bool, say: Callable[[str], None]) -> Config:
    """The config with concrete values for what a user may leave open: the image size, phases that are given as shares
    of all steps (`resolved_schedule`) and, with `fit_batch`, the batch sizes. say: is told of what takes long.
    """
    if config.data.image_size == 0:
        if is_sharded(source):
            size = open_shards(source).size
        else:
            size = choose_image_size(Path(source), config.data.picture_column)
        config = config.with_overrides({"image_size": size})
    config = config.resolved_schedule()
    check_config(config)
    check_processes(config)
    config = least = checked_feature_cue(config, say=say)
    if fit_batch:
        alone = min(config.optimisers.guide_only_batch_size, SMALLEST_BATCH)  # 0: as batch_size
        least = config.with_overrides({"batch_size": SMALLEST_BATCH, "guide_only_batch_size": alone})
    check_footprint(least, choose_device(config.run.device))
    if fit_batch:
        say("looking for batch sizes that fit the memory")
        number = number_of_pictures(source, config)
        config = with_batches_of(config, number)
        sizes = fitting_batches(config, prepare_machine(config), number * 3 * config.data.image_size**2)
        config = config.with_overrides(sizes)
        check_processes(config)
    return config


def number_of_pictures(source: Path | str, config: Config) -> int:
    """How many pictures a source has before it is packed, or a few more: duplicates are counted, too."""
    if is_sharded(source):
        return len(open_shards(source).names)
    return len(Search(expand_home(source), pack_settings(config)).found.pictures)


def with_batches_of(config: Config, number: int) -> Config:
    """The config with batches of at most `number` pictures that all processes can share evenly. If that would be too
    few for a batch, the config as it is, so that the training is refused with its reason.
    """
    most = number - number % config.run.processes
    if most < SMALLEST_BATCH:
        return config
    sizes = {name: getattr(config.optimisers, name) for name in ("batch_size", "guide_only_batch_size")}
    return config.with_overrides({name: min(size, most) for name, size in sizes.items()})


def with_domains_of(config: Config, pictures: PackedPictures) -> Config:
    """The config with the number of domains, if `domains` is auto but labels or another run's E determine it."""
    if config.networks.domains != AUTO:
        return config
    number = int(pictures.labels.max(initial=-1)) + 1
    if not number and config.method.guide_from:
        number = load_model(expand_home(config.method.guide_from)).settings.domains
    return config.with_overrides({"domains": number}) if number else config
