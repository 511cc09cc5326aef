"""The config file in a run's folder. An incomplete file is refused: a missing setting must not silently become the
paper's value.
"""

import zlib
from pathlib import Path

from tunit.config.config import Config, find_field
from tunit.config.methods import without_removed
from tunit.config.presets import KEEP_OTHER_BYTES, LARGEST_FILE, read_config
from tunit.errors import ConfigError, RunError
from tunit.files.atomic import write_text
from tunit.files.reading import UnreadableError, parse_toml, read_text
from tunit.printing import shown

SEALED = "# Every setting of this run, resolved. The last line is the checksum of all before it."
CHECKSUM = "# checksum "
# The settings in the config file of a run made by a development version before 0.1.0, which has no checksum.
FIRST_SETTINGS = """
image_size fit background min_side labels label_column layout split classes held_out labelled_ratio
flip rotation translation shear crop_area crop_aspect brightness contrast saturation hue random_operations
random_magnitude architecture domains style_width guide_width head_std overclusters candidate_heads generator_width
discriminator_width mutual_information_weight marginal_balance overcluster_weight guide_style_weight
classification_weight joint_guide_factor labelled_guide_factor adversarial_weight reconstruction_weight
generator_style_weight r1_weight r1_every temperature batch_size guide_only_batch_size guide_rate guide_betas
guide_weight_decay generator_rate discriminator_rate rmsprop_alpha rmsprop_eps weight_decay average_decay queue_length
steps labelled_only_until guide_only_until average_from seed device precision threads workers log_every sample_every
checkpoint_every keep_checkpoints
"""


def write_run_config(path: Path, config: Config) -> None:
    """Write the config of a run with its checksum. Raises RunError if it cannot be written."""
    _, _, rest = config.to_toml().partition("\n")
    text = f"{SEALED}\n{rest}"
    write_text(path, f"{text}{CHECKSUM}{_sum_of(text)}\n")


def read_run_config(path: Path) -> Config:
    """The config of a run. Raises RunError if the file is incomplete or damaged, ConfigError for wrong values."""
    try:
        text = read_text(path, LARGEST_FILE, KEEP_OTHER_BYTES)
        if text.startswith(SEALED):
            _check_seal(text)
        else:
            _check_complete(text, path)
    except UnreadableError as error:
        raise RunError(
            f"{path} is damaged ({error}): restore it; to change settings of a run, give them as flags with --resume"
        ) from None
    return read_config(str(path))


def is_run_config(path: Path) -> bool:
    """Whether a file is the config of a run, in which every setting is written, whether anybody chose it or not."""
    try:
        return read_text(path, LARGEST_FILE, KEEP_OTHER_BYTES).startswith(SEALED)
    except UnreadableError:
        return False


def _sum_of(text: str) -> str:
    return f"{zlib.crc32(text.encode('utf-8', KEEP_OTHER_BYTES)):08x}"


def _check_seal(text: str) -> None:
    before, found, given = text.rpartition(CHECKSUM)
    if not found:
        raise UnreadableError("its end is missing")
    if given != _sum_of(before) + "\n":
        raise UnreadableError("it was changed after it was written: its checksum differs")


def _check_complete(text: str, path: Path) -> None:
    """Check a config file from before checksums: it must have every setting that existed at that time."""
    said: set[str] = set()
    for section, values in without_removed(parse_toml(text), str(path)).items():
        if not isinstance(values, dict):
            raise UnreadableError(f"{shown(section)} is not in a section")
        for name in values:
            try:
                said.add(find_field(f"{section}.{name}")[1].name)
            except ConfigError as error:
                raise UnreadableError(str(error)) from None
    missing = [name for name in FIRST_SETTINGS.split() if find_field(name)[1].name not in said]
    if missing:
        raise UnreadableError(f"it has no {missing[0]}, so it was cut short")
