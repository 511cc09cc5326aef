"""The schedule of a training: what a step does depends only on its number."""

from tunit.config import Config
from tunit.methods.findings import first_step_with_domains
from tunit.methods.method import Phase


def phase_at(step: int, config: Config) -> Phase:
    """The phase of a step; the first step is 0. config: after `resolved_schedule`."""
    return Phase(
        joint=step >= config.schedule.guide_only_until,
        average_generator=step >= config.schedule.average_from,
        penalise=step % config.losses.r1_every == 0,
        learns_domains=step >= first_step_with_domains(config),
    )


def batch_size_at(step: int, config: Config) -> int:
    """The batch size of a step."""
    guide_only = step < config.schedule.guide_only_until
    return (guide_only and config.optimisers.guide_only_batch_size) or config.optimisers.batch_size


def stream_at(step: int, config: Config) -> str:
    """Which pictures a step draws from: all, or in few-label training the labelled or the unlabelled ones.

    After the labelled-only phase, a share `labelled_ratio` of the steps, evenly spread, draws only labelled pictures,
    and the others only unlabelled ones. With a ratio of 0 every step draws from all pictures.
    """
    ratio = config.data.labelled_ratio
    if step < config.schedule.labelled_only_until:
        return "labelled"
    if ratio == 0:
        return "all"
    turn = int((step + 1) * ratio) > int(step * ratio)
    return "labelled" if turn else "unlabelled"


def streams_of(config: Config) -> set[str]:
    """Every stream that some step of the schedule draws from."""
    ratio, schedule = config.data.labelled_ratio, config.schedule
    streams = {"labelled"} if schedule.labelled_only_until else set()
    if schedule.labelled_only_until < schedule.steps:
        if ratio > 0:
            streams.add("labelled")
        if ratio < 1:
            streams.add("unlabelled" if ratio else "all")
    return streams
