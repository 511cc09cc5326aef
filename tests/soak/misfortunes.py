"""Other accidents during a training or in its folder: damage, too little memory, deleted pictures, two trainings in
one folder, missing permissions, clocks that go back, strange names.
"""

import ctypes
import datetime
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from soak.children import finish, memory_beyond_now, one_sentence, start
from soak.jobs import SETTINGS, STEPS, Field, check_run, check_weights, leftovers, train
from tiny_run import flags, tiny_config, write_pictures
from tunit.cli import main
from tunit.training.launch import start_run

Figures = dict[str, object]
TRAIN = ("--preset", "paper", "--quiet")


def stopped_run(field: Field, folder: Path) -> Path:
    """A run that was stopped after step 8 of 12, with checkpoints at steps 3, 6 and 8."""
    words = ["train", str(field.pictures), "--out", str(folder / "run"), *TRAIN]
    child = finish(lambda: main([*words, *flags(steps=8, **SETTINGS)]), folder / "first.log")
    assert child.code == 0, child.said
    return folder / "run"


def damaged(path: Path, how: str, rng: random.Random) -> None:
    """Damage a file: change a byte, cut it, empty it, delete it, or put a folder in its place."""
    data = bytearray(path.read_bytes())
    path.unlink()
    if how == "flipped" and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[: rng.randrange(len(data) or 1)])
    elif how == "emptied" or how == "flipped":
        path.touch()
    elif how == "a folder":
        path.mkdir()


HOW = ("flipped", "cut", "emptied", "gone", "a folder")


def damage(field: Field, expected: Path, scratch: Path, each: int, rng: random.Random) -> Figures:
    """Damage to every file of a run: resuming gives the right weights or one sentence, and so do other readers."""
    run = stopped_run(field, scratch)
    files = sorted(p.relative_to(run) for p in run.rglob("*") if p.is_file())
    counts = {"files": len(files), "damages": 0, "resumed to the same weights": 0, "refused in a sentence": 0}
    cases = [(name, how) for name in files for how in HOW for _ in range(each if how in HOW[:2] else 1)]
    if each == 0:
        cases = [(name, rng.choice(HOW)) for name in files]
    for number, (name, how) in enumerate(cases):
        folder = scratch / f"copy-{number}"
        shutil.copytree(run, folder / "run")
        damaged(folder / "run" / name, how, rng)
        for words in (["report"], ["domains"], ["resume"]):
            child = finish(lambda words=words, folder=folder: read(field, folder, words), folder / "log")
            where = f"{name} {how}, {words[0]}"
            assert "Traceback" not in child.said, f"{where}: {child.said[-2000:]}"
            if child.code != 0:
                one_sentence(child)
        counts["damages"] += 1
        if child.code == 0:
            try:
                check_weights(folder, expected)
                if name.name != "metrics.jsonl":  # its lines are written once only
                    check_run(field, folder, expected)
            except (AssertionError, OSError) as error:
                raise AssertionError(f"{name} {how}: it resumed, but {error}") from error
        counts["resumed to the same weights" if child.code == 0 else "refused in a sentence"] += 1
        shutil.rmtree(folder)
    return dict(counts)


def read(field: Field, folder: Path, words: list[str]) -> int:
    run = folder / "run"
    if words == ["resume"]:
        return main(["train", "--resume", str(run), "--steps", str(STEPS), "--quiet"])
    if words == ["report"]:
        return main(["report", str(run), "--out", str(folder / "page.html"), "--device", "cpu"])
    return main(
        ["domains", str(run), str(field.pictures), "--out", str(folder / "domains"), "--device", "cpu"]
    )


def little_memory(field: Field, expected: Path, scratch: Path, times: int, rng: random.Random) -> Figures:
    """Too little memory at some point of a training: one sentence; with enough memory it continues correctly."""
    refused = 0
    for number in range(times):
        folder = scratch / f"memory-{number}"
        folder.mkdir()
        size = int(rng.uniform(1, 60) * (1 << 20))
        child = start(
            lambda folder=folder: train(field, folder),
            folder / "log",
            lambda size=size: memory_beyond_now(size),
        )
        child.wait()
        if child.code != 0:
            refused += 1
            one_sentence(child)
        go_on(field, folder, expected)
    return {"limits": times, "refused": refused}


def go_on(field: Field, folder: Path, expected: Path) -> None:
    child = finish(lambda: train(field, folder), folder / "again.log")
    assert child.code == 0, child.said[-1500:]
    check_run(field, folder, expected)
    shutil.rmtree(folder)


def pictures_that_go(field: Field, expected: Path, scratch: Path) -> Figures:
    """Pictures are deleted, changed and made unreadable during training: it continues and resumes with those it
    packed.
    """
    for how in ("deleted", "changed", "unreadable"):
        folder = scratch / how
        pictures = folder / "pictures"
        shutil.copytree(field.pictures, pictures)

        def spoil(state: object, pictures: Path = pictures, how: str = how) -> dict[str, float]:
            for path in pictures.glob("*.png"):
                if how == "deleted":
                    path.unlink()
                elif how == "changed":
                    path.write_bytes(b"no picture any more")
                else:
                    path.unlink()
                    path.mkdir()
            return {}

        def work(
            folder: Path = folder, pictures: Path = pictures, spoil: Callable[..., object] = spoil
        ) -> int:
            once = iter([spoil])
            config = tiny_config(steps=8, **SETTINGS)
            start_run(
                pictures, folder / "run", config, quiet=True, evaluate_every=2,
                evaluate=lambda state: (next(once, None) or (lambda s: {}))(state),
            )  # fmt: skip
            return main(["train", "--resume", str(folder / "run"), "--steps", str(STEPS), "--quiet"])

        child = finish(work, folder / "log")
        assert child.code == 0, f"{how}: {child.said[-1500:]}"
        check_weights(folder, expected)
    # During packing: pictures that disappear are left out, with a reason.
    folder = scratch / "packing"
    pictures = write_pictures(folder / "pictures", 40, side=24)

    def packing() -> int:
        from tunit.data.packing.pack import pack_pictures
        from tunit.data.packing.pack_settings import PackSettings

        def spoil(done: int, total: int) -> None:
            for path in sorted(pictures.glob("*.png"))[-8:]:
                path.unlink()

        packed = pack_pictures(pictures, folder / "pack", PackSettings(16), workers=1, progress=spoil)
        return 0 if len(packed.names) + len(packed.left_out) == 40 and packed.left_out else 1

    child = finish(packing, folder / "log")
    assert child.code == 0, child.said[-1500:]
    return {"while training": 3, "while packing": 1}


def rivals(field: Field, scratch: Path, times: int) -> Figures:
    """Two trainings get the same folder: one trains, the other reports it. A lock of a dead process blocks nobody."""
    for number in range(times):
        folder = scratch / f"rivals-{number}"
        folder.mkdir()
        words = [
            "train",
            str(field.pictures),
            "--out",
            str(folder / "run"),
            *TRAIN,
            *flags(steps=4, **SETTINGS),
        ]
        both = [start(lambda words=words: main(words), folder / f"{i}.log") for i in range(2)]
        codes = sorted(child.wait() for child in both)
        assert codes == [0, 2], [child.said[-800:] for child in both]
        (loser,) = (child for child in both if child.code == 2)
        one_sentence(loser)
        assert "is being trained by process" in loser.said or "exists already" in loser.said, loser.said
        assert leftovers(folder) == []
        shutil.rmtree(folder)
    return {"pairs": times}


def closed_folders(field: Field, expected: Path, scratch: Path) -> Figures:
    """Folders without write permission, for a user who is not root, and read-only mounts: one sentence each."""
    tried = 0
    folder = scratch / "closed"
    folder.mkdir()
    run = stopped_run(field, folder)
    kinds = (
        ("closed by permissions", bound_by_permissions),
        ("mounted read-only", lambda: mount_read_only(folder)),
    )
    for kind, before in kinds:
        if kind == "mounted read-only" and not can_mount(folder, scratch / "mount.log"):
            continue
        places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for place in places if kind == "closed by permissions" else ():
            place.chmod(0o555)
        pictures, page = str(field.pictures), str(folder / "page.html")
        for words in (
            ["train", pictures, "--out", str(folder / "new"), *TRAIN, *flags(steps=STEPS)],
            ["train", "--resume", str(run), "--steps", str(STEPS), "--quiet"],
            ["train", pictures, "--out", str(run), "--overwrite", *TRAIN, *flags(steps=STEPS)],
            ["prepare", pictures, "--out", str(folder / "pack"), "--image-size", "32", "--workers", "1"],
            [
                "translate",
                str(run),
                pictures,
                "--domain",
                "0",
                "--out",
                str(folder / "out"),
                "--device",
                "cpu",
            ],
            ["report", str(run), "--out", page, "--device", "cpu"],
            ["domains", str(run), pictures, "--out", str(folder / "domains"), "--device", "cpu"],
            ["convert", str(run), "--to", "published", "--out", str(folder / "model_1.ckpt")],
        ):
            child = finish(lambda words=words: main(words), scratch / "closed.log", before)
            try:
                one_sentence(child)
            except AssertionError as error:
                raise AssertionError(f"{words[0]} in a folder {kind}: {error}") from error
            tried += 1
        for place in places:
            place.chmod(0o755)
    assert sorted(p.name for p in folder.iterdir()) == ["first.log", "run"], "something was written"
    child = finish(
        lambda: main(["train", "--resume", str(run), "--steps", str(STEPS), "--quiet"]), scratch / "log"
    )
    assert child.code == 0, child.said
    check_run(field, folder, expected)
    return {"commands": tried}


def bound_by_permissions() -> None:
    """Make permissions apply to this process, even if it is root's."""
    if os.getuid():
        return
    every, version, reading, writing = 0xFFFFFFFF, 0x20080522, 1 << 2, 1 << 1  # Linux capabilities 1 and 2
    low = every & ~(reading | writing)
    header, data = (ctypes.c_uint32 * 2)(version, 0), (ctypes.c_uint32 * 6)(low, every, 0, every, every, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/status") as status:  # noqa: PTH123
        (known,) = (int(line.split()[1], 16) for line in status if line.startswith("CapPrm"))
    for place, part in ((0, known & every), (3, known >> 32)):
        data[place], data[place + 1] = data[place] & part, part
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def mount_read_only(folder: Path) -> None:
    """Runs in a mount namespace of this process. Raises OSError if the system does not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    bind, remount, read_only, private, recursive = 1 << 12, 1 << 5, 1, 1 << 18, 1 << 14
    place = os.fsencode(folder)
    steps = (
        lambda: libc.unshare(0x20000),
        lambda: libc.mount(b"none", b"/", None, private | recursive, None),
        lambda: libc.mount(place, place, None, bind, None),
        lambda: libc.mount(None, place, None, bind | remount | read_only, None),
    )
    if any(step() for step in steps):
        raise OSError(ctypes.get_errno(), "no such mount")


def can_mount(folder: Path, log: Path) -> bool:
    return finish(lambda: 0, log, lambda: mount_read_only(folder)).code == 0


def clocks(field: Field, expected: Path, scratch: Path) -> Figures:
    """A clock that keeps jumping back by hours, and files from the far future and past."""
    folder = scratch / "clock"
    folder.mkdir()
    child = finish(lambda: train(field, folder), folder / "log", clock_backwards)
    assert child.code == 0, child.said[-1500:]
    check_run(field, folder, expected)
    other = scratch / "future"
    other.mkdir()
    run = stopped_run(field, other)
    for number, path in enumerate(sorted(run.rglob("*"))):
        when = (2**33, 0, 2**31)[number % 3]
        os.utime(path, (when, when))
    words = ["train", "--resume", str(run), "--steps", str(STEPS), "--quiet"]
    child = finish(lambda: main(words), other / "log", clock_backwards)
    assert child.code == 0, child.said[-1500:]
    check_run(field, other, expected)
    return {"runs": 2}


def clock_backwards() -> None:
    """time.time and datetime.now go back by an hour at each call."""
    now, hour = [time.time()], 3600.0

    def back(*_: object) -> float:
        now[0] -= hour
        return now[0]

    class Backwards(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(back(), tz)

    time.time = back  # type: ignore[assignment]
    datetime.datetime = Backwards  # type: ignore[misc]
    for module in ("tunit.files.atomic", "tunit.training.run_folder", "tunit.studio.labels"):
        __import__(module)
        vars(__import__("sys").modules[module])["datetime"] = Backwards


STRANGE = (
    b"a\nb", b"-rf", b"--out", b" ", b"\xff\xfe", b"\xe9\xcc\x81", b"'\"$(id)`", b"<script>", b"%s{0}", b"a\x1b[31m",
    "\u202egnp".encode(), "\U0001f408".encode(), b"=1+1", b"#", b"\\n", b"con", b"a" * 240, b"~", b"*?[x]", b",;\t",
)  # fmt: skip


def strange_names(field: Field, scratch: Path, rng: random.Random) -> Figures:
    """Pictures, folders and runs with strange names, through every command; all output must be printable."""
    folder = scratch / "names"
    sources = sorted(field.pictures.glob("*.png"))
    for number, name in enumerate(STRANGE):
        sub = folder / "pictures" / os.fsdecode(STRANGE[(number + 3) % len(STRANGE)])
        sub.mkdir(parents=True, exist_ok=True)
        shutil.copy(sources[number % len(sources)], sub / os.fsdecode(name + b".png"))
    os.chdir(folder)
    for run in (os.fsdecode(b"-run\n\xff"), "\u202e run [b]"):
        commands = (
            ["train", "./pictures", "--out", "./" + run, *TRAIN],
            ["train", "--resume", "./" + run, "--steps", "9", "--quiet"],
            [
                "translate",
                "./" + run,
                "./pictures",
                "--domain",
                "0",
                "--out",
                f"./{run} out",
                "--device",
                "cpu",
            ],
            ["domains", "./" + run, "./pictures", "--out", f"./{run} domains", "--device", "cpu"],
            ["report", "./" + run, "--device", "cpu"],
            ["convert", "./" + run, "--to", "published", "--out", f"./{run}.ckpt"],
            [
                "prepare",
                "./pictures",
                "--out",
                f"./{run} pack",
                "--image-size",
                "32",
                "--workers",
                "1",
                "--list",
            ],
        )
        for words in commands:
            # The same pictures with several names are left out as duplicates, which is correct.
            if words[1] == "./pictures" and words[0] == "train":
                words += [*flags(steps=6, **SETTINGS)]
            child = finish(lambda words=words: main(words), scratch / "names.log")
            assert child.code == 0, f"{words[0]} {run!r}: {child.said[-1500:]}"
            assert child.log.read_bytes().decode("utf-8").replace("\n", "").isprintable(), words
    os.chdir("/")
    return {"names": len(STRANGE), "commands": 14}
