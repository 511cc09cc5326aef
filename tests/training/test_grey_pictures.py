"""Grey pictures, whose hues are undefined: `tunit train --domains auto`, then `tunit domains`."""

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image

from tiny_run import flags
from tunit.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS, EACH, SIDE, BANDS = ("across", "down", "squares"), 12, 32, 8
PHASES = {"steps": 44, "guide_only_until": 40, "average_from": 42, "log_every": 4, "sample_every": 42}


def write_grey(folder, contrast):
    """Bands across, bands down and squares, as pictures of mode L and of mode RGB.

    With contrast 255 half of the pixels of every picture are black and the others white, so all pictures have the
    same histogram of colours. With less, pictures have different greys.
    """
    rng = np.random.default_rng(0)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for i in range(EACH):
            halves = (rng.permutation(BANDS) % 2 for _ in range(2))
            one, other = (np.repeat(half, SIDE // BANDS) for half in halves)
            across, down = one[:, None].repeat(SIDE, 1), other[None].repeat(SIDE, 0)
            light = {"across": across, "down": down, "squares": across ^ down}[kind]
            dark = int(rng.integers(0, 256 - contrast))
            picture = Image.fromarray((dark + contrast * light).astype(np.uint8))
            picture.convert("L" if i % 2 else "RGB").save(folder / kind / f"{i:02d}.png")
    return folder


@pytest.mark.parametrize(("domains", "contrast"), [("auto", 255), (3, 120)])
def test_grey_pictures_from_training_to_domains(tmp_path, capsys, domains, contrast):
    pictures, run = write_grey(tmp_path / "pictures", contrast), tmp_path / "run"
    settings = PHASES | ({"most_domains": 6} if domains == "auto" else {})
    words = flags(**settings, domains=domains, guide_only_batch_size=20, guide_width=6)
    assert main(["train", str(pictures), "--preset", "small", *words, "--out", str(run)]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    figures = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert len(figures) > 30
    assert all(map(math.isfinite, figures))
    measures = [row["neighbours_by"] for row in rows if "neighbours_by" in row]
    assert measures
    if contrast == 255:
        assert all("colours" not in names for names in measures)  # they are the same for all pictures
    if domains == "auto":
        choice = json.loads((run / "number_of_domains.json").read_text())
        domains = choice["domains"]
        for candidate in choice["candidates"]:
            assert all(map(math.isfinite, (candidate["score"], *candidate["votes"].values())))
    assert main(["domains", str(run), str(pictures), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    for word in ("nan", "warning", "colour"):
        assert word not in (said.out + said.err).lower().replace(str(tmp_path).lower(), "")
    with (tmp_path / "out" / "domains.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(KINDS) * EACH
    assert {int(row["domain"]) for row in table} <= set(range(domains))
    assert all(1 / domains - 1e-3 <= float(row["confidence"]) <= 1 for row in table)
    assert all(0 <= float(row["outlier"]) <= 1 for row in table)
    with Image.open(tmp_path / "out" / "overview.png") as overview:
        assert np.ptp(np.asarray(overview.convert("RGB")).astype(int), axis=2).max() <= 2  # it is grey, too
