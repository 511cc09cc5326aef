"""Finds bad input by code coverage: atheris on what tests/soak/hostile.py damages at random.

    python tests/soak/coverage_guided.py TARGET FOLDER KEPT -max_total_time=60

The options are libFuzzer's. It works in FOLDER. An input that gives neither values nor a TunitError is kept in KEPT.
"""

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1])]
with atheris.instrument_imports(include=["tunit", "zipfile", "tarfile", "tomllib", "csv"]):
    import tunit.data.decoding.decode
    import tunit.data.finding.archives
    import tunit.data.finding.tables
    import tunit.files.pickles
    import tunit.files.reading
    from soak.guarded import guarded
    from soak.hostile import Hostile

assert tunit.files.reading
LARGEST = 1 << 16  # bytes of an example


def main() -> None:
    name, folder, kept, options = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]
    work, seeds = folder / "work", folder / "seeds"
    for place in (work, seeds, kept):
        place.mkdir(parents=True, exist_ok=True)
    hostile, tried = Hostile(name, work, kept), [0]
    # Files of a megabyte would make it a hundred times slower.
    small = [data for data in hostile.corpus if len(data) <= LARGEST]
    for number, data in enumerate(small or hostile.corpus):
        (seeds / str(number)).write_bytes(data)

    def one(data: bytes) -> None:
        tried[0] += 1
        with guarded(work):
            hostile.try_one(data, tried[0])

    words = [
        sys.argv[0],
        str(seeds),
        f"-artifact_prefix={kept}/{name.replace(' ', '-')}-",
        "-rss_limit_mb=4096",
        "-timeout=60",
        *options,
    ]
    atheris.Setup(words, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
