"""Finds bad input by code coverage: atheris on what tests/soak/hostile.py damages at random.

    python tests/soak/coverage_guided.py TARGET FOLDER -max_total_time=60

The options are libFuzzer's. An input that gives neither values nor a TunitError is written into FOLDER.
"""

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1])]
with atheris.instrument_imports(include=["tunit", "zipfile", "tarfile", "tomllib", "csv"]):
    import tunit.data.decoding.decode
    import tunit.data.finding.archives
    import tunit.data.finding.tables
    import tunit.pickles
    import tunit.reading
    from soak.guarded import guarded
    from soak.hostile import Hostile

assert tunit.reading


def main() -> None:
    name, folder, options = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    work, seeds = folder / "work", folder / "seeds"
    for place in (work, seeds):
        place.mkdir(parents=True, exist_ok=True)
    hostile, tried = Hostile(name, work), [0]
    for number, data in enumerate(hostile.corpus):
        (seeds / str(number)).write_bytes(data)

    def one(data: bytes) -> None:
        tried[0] += 1
        with guarded(work):
            hostile.try_one(data, tried[0])

    words = [
        sys.argv[0],
        str(seeds),
        f"-artifact_prefix={folder}/",
        "-rss_limit_mb=4096",
        "-timeout=60",
        *options,
    ]
    atheris.Setup(words, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
