"""The schedule of section 5: what each step does, as a function of its number alone."""

from tunit.config import Config
from tunit.methods.method import Phase


def phase_at(step: int, config: Config) -> Phase:
    """The phase of a step, 0 being the first. The config's schedule must be resolved to steps."""
    return Phase(
        joint=step >= config.schedule.guide_only_until,
        generator_average_follows=step >= config.schedule.average_from,
        penalise=step % config.losses.r1_every == 0,
    )


def batch_size_at(step: int, config: Config) -> int:
    """Pictures in the step's batch."""
    alone = step < config.schedule.guide_only_until
    return (alone and config.optimisers.guide_only_batch_size) or config.optimisers.batch_size


def stream_at(step: int, config: Config) -> str:
    """Which pictures a step draws from: all, or in few-label training the labelled or the unlabelled ones.

    After the labelled-only phase a share `labelled_ratio` of the steps takes labelled pictures, evenly spread.
    """
    ratio = config.data.labelled_ratio
    if step < config.schedule.labelled_only_until:
        return "labelled"
    if ratio == 0:
        return "all"
    turn = int((step + 1) * ratio) > int(step * ratio)
    return "labelled" if turn else "unlabelled"


def streams_of(config: Config) -> set[str]:
    """All that `stream_at` gives within the schedule."""
    ratio, schedule = config.data.labelled_ratio, config.schedule
    streams = {"labelled"} if schedule.labelled_only_until else set()
    if schedule.labelled_only_until < schedule.steps:
        if ratio > 0:
            streams.add("labelled")
        if ratio < 1:
            streams.add("unlabelled" if ratio else "all")
    return streams
