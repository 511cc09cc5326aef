"""The sections of networks, losses, training and runs, with the paper's values as defaults; see also
picture_sections.
"""

from dataclasses import dataclass

from tunit.config.fields import setting

# Upper limits: far beyond any useful value, but small enough for PyTorch, NumPy and memory not to crash.
LARGEST_SIDE = 4096  # pixels
WIDEST = 8192  # channels, or numbers of a style code
# For numbers of steps, pictures and files. The number of a step seeds its random draws. Other draws use numbers from
# 2**40 on (`CounterStart` in data/batching/randomness.py), so MOST must stay below that.
MOST = 10**9
BELOW_1 = 1 - 1e-9  # for values where 1 itself would lead to a division by 0, or by a mean that never moves

AUTO = 0  # the value of `domains` if tunit must find the number
# The value of `r1_weight` if it is computed from the image size and the batch size (methods/objectives.py).
AUTO_WEIGHT = -1.0


@dataclass(frozen=True)
class NetworkConfig:
    """The networks E, G and D: sizes, heads, and how E's input and output are scaled."""

    domains: int = setting(
        10,
        "K-hat, the number of domains; auto, or 0: tunit finds it after E has trained alone",
        low=0,
        high=100_000,
        words={"auto": AUTO},
    )
    most_domains: int = setting(
        40, "with --domains auto: how many domains E has until their number is found", low=2, high=1000
    )
    style_width: int = setting(128, "length of a style code", low=1, high=WIDEST)
    guide_width: int = setting(64, "width of E's first convolution", low=1, high=WIDEST)
    guide_image_size: int = setting(
        0,
        "largest side at which E sees pictures, a power of two from 32: larger ones are shrunk before E, so that its "
        "steps take less time; 0: E sees them as they are",
        low=0,
    )
    head_std: float = setting(
        0.01, "initial standard deviation of the weights of E's heads, except the style head", low=0
    )
    overclusters: int = setting(
        0, "number of outputs of an auxiliary overclustering head of E; 0 for none", low=0, high=100_000
    )
    candidate_heads: int = setting(
        0,
        "additional domain heads of E; after E has trained alone without labels, the best of all heads becomes its "
        "domain head; but with --domains auto or --neighbours, or if E has learnt only styles, a new head is fitted, "
        "and these at most take part in the vote on which pictures belong together",
        low=0,
        high=100,
    )
    standardise: bool = setting(
        False, "give all pictures the same mean and contrast before E, so that exposure does not matter"
    )
    whole_statistics: bool = setting(
        False,
        "when E is used for whole pictures, its batch norms have the statistics of whole pictures; in the paper they "
        "have the running statistics of the last batches, which are also of random views and of translations",
    )
    normalise_style: bool = setting(
        False, "all style codes have the same length, so that equation 2 compares only their directions"
    )
    style_size: float = setting(
        1.0,
        "root mean square of the numbers in a normalised style code; G learns faster if it is below 1",
        low=1e-3,
        high=100.0,
    )
    generator_width: int = setting(
        0,
        "base width f of G; 0: as in the paper, 64, or 32 from 256 px on (baselines: always 64)",
        low=0,
        high=WIDEST,
    )
    discriminator_width: int = setting(
        0,
        "base width w of D; 0: as in the paper, 64, or 32 from 256 px on (baselines: always 64)",
        low=0,
        high=WIDEST,
    )

    @property
    def initial_domains(self) -> int:
        """The number of domains with which E and D are made: K-hat or, if it is not known yet, `most_domains`."""
        return self.most_domains if self.domains == AUTO else self.domains


@dataclass(frozen=True)
class LossConfig:
    """Weights and constants of the losses (equations 1 to 6)."""

    mutual_information_weight: float = setting(5.0, "weight of the mutual information in E's loss", low=0)
    marginal_balance: float = setting(
        1.0, "factor on the marginal entropies in the mutual information (IIC's lambda)", low=0
    )
    overcluster_weight: float = setting(
        0.0, "weight of the overclustering head's mutual information in E's loss", low=0
    )
    guide_style_weight: float = setting(1.0, "weight of E's style contrastive loss (equation 2)", low=0)
    classification_weight: float = setting(
        5.0, "weight of the cross-entropy on labelled pictures in E's loss", low=0
    )
    joint_guide_factor: float = setting(
        0.1,
        "factor on E's loss on unlabelled pictures in joint training (when G and D train, too), except that of "
        "found_domains_weight",
        low=0,
    )
    found_domains_weight: float = setting(
        0.0,
        "in joint training: weight of the cross-entropy by which E keeps the domains that it found while it trained "
        "alone; it replaces the mutual information. 0: E goes on with the mutual information",
        low=0,
    )
    labelled_guide_factor: float = setting(1.0, "factor on E's loss on labelled pictures", low=0)
    adversarial_weight: float = setting(1.0, "weight of the adversarial loss (equation 3)", low=0)
    adversarial_trains: str = setting(
        "generator and guide",
        "which networks learn from D; the paper's ablation leaves E out",
        choices=("generator and guide", "generator"),
    )
    reconstruction_weight: float = setting(0.1, "weight of the reconstruction (equation 5)", low=0)
    back_translation_weight: float = setting(
        0.0,
        "weight of back-translation: G redraws its translation, as given input, in the source's own style, and the "
        "target is the source; 0, as in the paper: none",
        low=0,
    )
    generator_style_weight: float = setting(0.01, "weight of G's style contrastive loss (equation 4)", low=0)
    r1_weight: float = setting(
        10.0,
        "weight of R1: factor on the mean of |grad D|^2, without the usual 1/2, so gamma is twice this; auto: "
        "gamma = 0.0002 size^2 / batch",
        low=0,
        words={"auto": AUTO_WEIGHT},
    )
    r1_every: int = setting(
        1, "compute R1 only in every n-th step, with n times the weight", low=1, high=MOST
    )
    temperature: float = setting(0.07, "tau of the contrastive losses", low=1e-6)


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam for E, RMSprop for G and D. The baselines' class encoder has G's optimiser and learning rate."""

    batch_size: int = setting(32, "pictures per step", low=2, high=1_000_000)
    guide_only_batch_size: int = setting(
        0, "pictures per step while E trains alone; 0 for batch_size", low=0, high=1_000_000
    )
    guide_rate: float = setting(1e-4, "Adam's learning rate for E", low=0)
    guide_only_rate: float = setting(
        0.0,
        "E's learning rate when it starts to train alone; it falls to guide_rate by a cosine; 0: always guide_rate",
        low=0,
    )
    joint_guide_rate: float = setting(
        0.0,
        "E's learning rate in joint steps, in which it sees few pictures at a time; 0: the value of guide_rate",
        low=0,
    )
    guide_warm_up: int = setting(
        0,
        "number of first steps in which E's learning rate rises to guide_only_rate; no effect if that is 0",
        low=0,
        high=10**12,
    )
    guide_betas: tuple[float, float] = setting((0.9, 0.999), "Adam's betas for E", low=0, high=BELOW_1)
    guide_weight_decay: float = setting(1e-3, "L2 weight decay of E", low=0)
    generator_rate: float = setting(1e-4, "RMSprop's learning rate for G", low=0)
    discriminator_rate: float = setting(1e-4, "RMSprop's learning rate for D", low=0)
    joint_warm_up: int = setting(
        0, "number of first steps of G and D in which their learning rates rise", low=0, high=10**12
    )
    rmsprop_alpha: float = setting(0.99, "RMSprop's smoothing", low=0, high=BELOW_1)
    rmsprop_eps: float = setting(1e-8, "RMSprop's epsilon", low=1e-30)
    weight_decay: float = setting(1e-4, "L2 weight decay of G and D", low=0)
    average_decay: float = setting(0.999, "decay of the EMAs (moving averages) of E and G", low=0, high=1)
    queue_length: int = setting(1024, "keys in the contrastive queue", low=1, high=2**24)


@dataclass(frozen=True)
class ScheduleConfig:
    """Lengths of the phases of a training, in steps; a number with a decimal point is a share of all steps."""

    steps: int = setting(200_000, "length of the training", low=1, high=MOST)
    labelled_only_until: int | float = setting(
        0, "few-label training: until this step, only labelled pictures are used", low=0, high=MOST
    )
    guide_only_until: int | float = setting(65_000, "E trains alone until this step", low=0, high=MOST)
    average_from: int | float = setting(
        66_000,
        "until this step, the EMA of G is a copy of G; a preset's value is raised if --guide-only-until is above it",
        low=0,
        high=MOST,
    )


@dataclass(frozen=True)
class RunConfig:
    """How a run is carried out and written down; nothing here changes the method."""

    seed: int = setting(0, "seeds everything random", low=0, high=2**63 - 1)
    device: str = setting(
        "auto", "auto, cpu, cuda, cuda:N, mps or xpu; auto is cuda if there is such a GPU, otherwise cpu"
    )
    precision: str = setting(
        "auto", "precision of convolutions and matrix products", choices=("auto", "float32", "bfloat16")
    )
    micro_batch: int = setting(
        0,
        "pictures that G and D process at a time within a step, to save memory; 0 for the whole batch",
        low=0,
        high=1_000_000,
    )
    threads: int = setting(
        0, "CPU threads of a machine, shared by its processes; 0 for all its cores", low=0, high=1024
    )
    processes: int = setting(
        1,
        "processes that train together, each with its share of every batch and, on GPUs, a GPU of its own; 0 for one "
        "per GPU (on a CPU, 1); for several machines, torchrun sets it",
        low=0,
        high=65_536,
    )
    compile: bool = setting(
        False,
        "compile E's trunk (method tunit) and G by torch.compile, which takes minutes before the first step; on a "
        "CPU steps are slower with it",
    )
    cuda_graphs: bool = setting(
        False,
        "replay the parts that --compile compiles as CUDA graphs (its mode reduce-overhead), for an NVIDIA GPU that "
        "waits for the CPU: a narrow E, small pictures; takes more memory",
    )
    checkpoint_activations: bool = setting(
        False, "compute activations of G and D twice instead of keeping them: less memory, more time"
    )
    workers: int = setting(0, "processes that decode pictures; 0 for all cores", low=0, high=256)
    log_every: int = setting(100, "steps between lines of metrics.jsonl", low=1, high=MOST)
    sample_every: int = setting(5_000, "steps between sample grids; 0: only at the end", low=0, high=MOST)
    checkpoint_every: int = setting(5_000, "steps between checkpoints", low=1, high=MOST)
    on_nan: str = setting(
        "stop",
        "if a loss, gradient or picture is not finite: stop, or (rollback) go back to the last checkpoint and "
        "continue with other random numbers",
        choices=("stop", "rollback"),
    )
    keep_checkpoints: int = setting(3, "how many of the newest checkpoints are kept", low=1, high=MOST)
