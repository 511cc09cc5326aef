"""All promises that are tested, in parts; each part adds its rows to the ledger."""

from collections.abc import Callable

from soak.bad_input import by_coverage, by_hypothesis, damaged, has_atheris
from soak.interruptions import Trials, full_disks, kills, kills_at_operations, signals
from soak.ledger import Ledger
from soak.misfortunes import (
    clocks,
    closed_folders,
    damage,
    little_memory,
    pictures_that_go,
    rivals,
    strange_names,
)
from soak.setting import Setting
from soak.steady import steady

BAD_INPUT = (
    "gives values or one sentence: no traceback, no hang, no file elsewhere, bounded memory, no code is run"
)


# The short form leaves out the slow ones, which have tests in tests/training/ and tests/reporting/.
SHORT = ("checkpoint writing", "packing", "translating", "studio saving")


def jobs(setting: Setting) -> list[tuple[str, Trials]]:
    """The promises to test, by name."""
    return [(name, setting.trials[name]) for name in setting.jobs if name in SHORT or not setting.short]


def of_kills(setting: Setting, ledger: Ledger) -> None:
    for name, trials in jobs(setting):
        if not setting.short:
            ledger.hold(
                f"kill -9: {name}",
                "killed at random moments, it loses only unfinished work; the result is that of an undisturbed job",
                lambda trials=trials: kills(trials, setting.times(50), setting.rng),
            )
        ledger.hold(
            f"kill -9 before a change of a file: {name}",
            "killed just before any change of a file, it never takes an incomplete file for a complete one",
            lambda trials=trials: kills_at_operations(trials, setting.times(100), setting.rng),
        )


def of_signals(setting: Setting, ledger: Ledger) -> None:
    for name, trials in jobs(setting):
        ledger.hold(
            f"SIGTERM, SIGINT: {name}",
            "stopped by a signal, it ends within a step's time with 143 or 130, and continues with the same result",
            lambda trials=trials: signals(trials, setting.times(50), setting.rng),
        )


def of_disks(setting: Setting, ledger: Ledger) -> None:
    for name, trials in jobs(setting):
        ledger.hold(
            f"full disk: {name}",
            "a full disk is one sentence and exit code 2; with free space it continues with the same result",
            lambda trials=trials: full_disks(trials, setting.times(50), setting.rng, setting.disk),
        )


def of_misfortunes(setting: Setting, ledger: Ledger) -> None:
    field, rng = setting.field, setting.rng
    ledger.hold(
        "two trainings, one folder",
        "one trains; the other is refused and names it",
        lambda: rivals(field, setting.folder("rivals"), setting.times(50)),
    )
    trials = setting.trials["training"]
    expected = trials.expected
    if not expected.exists():
        trials.undisturbed()
    ledger.hold(
        "pictures that go",
        "pictures deleted or changed during training do not change it; those deleted during packing are left out",
        lambda: pictures_that_go(field, expected, setting.folder("pictures-go")),
    )
    ledger.hold(
        "clocks",
        "a clock that goes back, and files dated in the far future, change nothing",
        lambda: clocks(field, expected, setting.folder("clocks")),
    )
    if setting.short:
        return
    ledger.hold(
        "out of memory",
        "training with too little memory ends with one sentence, and continues with more memory",
        lambda: little_memory(field, expected, setting.folder("memory"), setting.times(50), rng),
    )
    ledger.hold(
        "damage to every file of a run",
        "a flipped byte, a missing part or a missing file gives the right weights nevertheless, or one sentence",
        lambda: damage(field, expected, setting.folder("damage"), setting.times(5, 0), rng),
    )
    ledger.hold(
        "closed folders",
        "for folders of other users and read-only mounts, every command gives one sentence and changes nothing",
        lambda: closed_folders(field, expected, setting.folder("closed-folders")),
    )
    ledger.hold(
        "strange names",
        "every command works with names that have line ends, dashes, invalid bytes, escapes, or 240 bytes",
        lambda: strange_names(field, setting.folder("strange"), rng),
    )


def of_many_steps(setting: Setting, ledger: Ledger) -> None:
    ledger.hold(
        "many steps",
        "memory and time per step stay constant",
        lambda: steady(setting.field, setting.folder("many-steps"), setting.times(10_000, 400)),
    )


def of_bad_input(setting: Setting, ledger: Ledger) -> None:
    folder = setting.folder("bad-input")
    for name in setting.inputs:
        kept = setting.kept / name.replace(" ", "-")
        place = setting.folder(f"bad-input/{name.replace(' ', '-')}")
        first = setting.rng.randrange(2**31)
        ledger.hold(
            f"damaged at random: {name}",
            BAD_INPUT,
            lambda name=name, place=place, first=first, kept=kept: damaged(
                name, place, kept / "random", first, setting.times(120)
            ),
        )
        if has_atheris():
            ledger.hold(
                f"by coverage: {name}",
                BAD_INPUT,
                lambda name=name, kept=kept, first=first: by_coverage(
                    name, folder / f"atheris-{name}", kept / "by-coverage", first, setting.times(120)
                ),
            )


def of_hypothesis(setting: Setting, ledger: Ledger) -> None:
    for name, file in (
        ("tables, command lines", "test_hostile.py"),
        ("requests", "studio/test_hostile_requests.py"),
    ):
        ledger.hold(
            f"by hypothesis: {name}",
            BAD_INPUT,
            lambda file=file: by_hypothesis(file, setting.times(3000, 20)),
        )


PARTS: dict[str, Callable[[Setting, Ledger], None]] = {
    "kills": of_kills,
    "signals": of_signals,
    "disks": of_disks,
    "misfortunes": of_misfortunes,
    "bad-input": of_bad_input,
    "hypothesis": of_hypothesis,
    "steps": of_many_steps,
}
