"""All settings by name, with the paper's values as defaults: sections, presets, and the config of a run."""

from tunit.config.adversarial import AdversarialConfig
from tunit.config.clustering import ClusteringConfig
from tunit.config.config import Config, all_fields, find_field
from tunit.config.fields import setting, suggestion
from tunit.config.methods import FunitConfig, MethodConfig, SemitConfig
from tunit.config.picture_sections import AugmentConfig, DataConfig
from tunit.config.presets import file_settings, preset_differences, preset_names, read_config
from tunit.config.sections import (
    AUTO,
    AUTO_WEIGHT,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    RunConfig,
    ScheduleConfig,
)

__all__ = [
    "AUTO",
    "AUTO_WEIGHT",
    "AdversarialConfig",
    "AugmentConfig",
    "ClusteringConfig",
    "Config",
    "DataConfig",
    "FunitConfig",
    "LossConfig",
    "MethodConfig",
    "NetworkConfig",
    "OptimiserConfig",
    "RunConfig",
    "ScheduleConfig",
    "SemitConfig",
    "all_fields",
    "file_settings",
    "find_field",
    "preset_differences",
    "preset_names",
    "read_config",
    "setting",
    "suggestion",
]
