"""A run's report: complete, in one file, and working in a real browser."""

import html
import json
import re
import shutil

import pytest
import torch
from PIL import Image

from browser import Elements, headless_chromium
from tiny_run import tiny_config, write_pictures
from tunit.cli import main
from tunit.errors import RunError
from tunit.reporting import off_topic
from tunit.reporting.figure_rows import measured_on
from tunit.reporting.write import write_report
from tunit.training.launch import start_run

pytestmark = pytest.mark.usefixtures("one_thread")
EVIL = "</script><script>window.hacked=1</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("reported")
    for i, name in enumerate(("cats", "dogs")):
        write_pictures(folder / "pictures" / name, seed=i, number=14)
    evil = folder / "pictures" / "cats" / "a<img src=x onerror=window.hacked=2>.png"
    Image.new("RGB", (40, 40), (200, 30, 90)).save(evil)
    start_run(folder / "pictures", folder / "kinds", tiny_config(style_width=8), quiet=True)
    figure = {"value": 12.5, "low": 11.0, "high": 14.0, "number": 28}
    evaluation = {
        "figures": {"mFID": figure, "NMI": 0.25},
        "groups": {"cats": {"FID": figure}, EVIL: {}},
        "features": "random-vgg16",
        "notes": ["dogs: too few"],
        "step": 5,
    }
    (folder / "kinds" / "evaluation").mkdir()
    (folder / "kinds" / "evaluation" / "evaluation.json").write_text(json.dumps(evaluation))
    return folder / "kinds"


@pytest.fixture(scope="module")
def page(run):
    return write_report(run).read_text("utf-8")


@pytest.mark.parametrize("content", [b"\x89PNG a picture", b"<!doctype html><title>My own page</title>"])
def test_a_file_that_is_not_an_earlier_report_is_never_replaced(run, tmp_path, capsys, content):
    out = tmp_path / "mine.html"
    out.write_bytes(content)
    assert main(["report", str(run), "--out", str(out), "--device", "cpu"]) == 2
    said = f"tunit: {out} exists already, and is not a report of `tunit report`: give another --out\n"
    assert capsys.readouterr().err == said
    assert out.read_bytes() == content


def test_an_empty_file_and_an_earlier_report_are_replaced(run, tmp_path):
    """Also if the name of the run is as long and as odd as a name can be."""
    odd, out = tmp_path / ("<\u202e" * 63), tmp_path / "mine.html"
    shutil.copytree(run, odd)
    out.touch()
    for seed in (0, 1):
        before = out.read_bytes()
        assert write_report(odd, out, seed=seed) == out
        assert out.read_bytes() not in (b"", before)


def test_every_section_is_there(page):
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Figures",
        "Compared with trivial baselines, which need no training",
        "Domains",
        "Sources by references",
        *(["Domain to domain"] if "Domain to domain" in page else []),
        "Map of styles",
        "Best and worst cases",
        "Curves",
        "Settings and versions",
    ]
    assert "random-vgg16" in page
    assert "12.5" in page
    assert "11 to 14" in page


def test_pictures_that_may_be_off_topic_are_shown_with_the_domains(run, tmp_path, monkeypatch):
    """With a limit of 0 every picture is one of them, and with one above 1 none is."""
    for limit, shown in ((0.0, True), (1.1, False)):
        monkeypatch.setattr(off_topic, "OFF_TOPIC", limit)
        page = write_report(run, tmp_path / f"{limit}.html").read_text("utf-8")
        domains = re.search(r'<section id="domains">.*?</section>', page, re.S).group()
        assert ("Perhaps off-topic" in domains) is shown
        assert ("29 of 29 pictures have an outlier score" in domains) is shown
        assert "<img src=x" not in page


def test_it_says_which_figures_are_of_held_back_pictures_and_which_of_training_pictures(run, page, tmp_path):
    assert "are of the training pictures, unless it says otherwise" in page
    assert "Of held-back pictures, by `tunit evaluate`" in page
    assert "<span>training pictures</span>" in page
    assert re.search(r"On \d+ of the training pictures, with as many groups as domains", page)
    assert 'Curves of an "evaluation"' not in html.unescape(page)  # it was not measured during the training
    shutil.copytree(run, tmp_path / "run")
    result = tmp_path / "run" / "evaluation" / "evaluation.json"
    found = json.loads(result.read_text())
    result.write_text(json.dumps(found | {"trained_on": "3 of the 28 pictures were trained on"}))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 12, "evaluation/mFID": 12.5}\n')
    again = html.unescape(write_report(tmp_path / "run", tmp_path / "again.html").read_text("utf-8"))
    assert "Of pictures that were not all held back (3 of the 28 pictures were trained on), by" in again
    assert 'Curves of an "evaluation" are of held-back pictures if the run was given any' in again


def test_older_results_say_only_in_a_note_which_pictures_were_trained_on():
    note = "1 of the 9 pictures was trained on: figures are fair only for pictures held back"
    assert measured_on({"notes": ["IOI: no", note]}) == (
        "pictures that were not all held back (1 of the 9 pictures was trained on)"
    )
    assert measured_on({"notes": ["IOI: no"]}) == measured_on({}) == "held-back pictures"
    assert measured_on({"trained_on": "", "notes": ["IOI: no"]}) == "held-back pictures"


def test_figures_of_an_older_model_are_said_to_be_so(page):
    assert "figures of the model of step 5, not of the present one (step 12)" in page


def test_a_method_without_domains_of_its_own_gets_no_remarks_about_them(tmp_path):
    for i, name in enumerate(("cats", "dogs")):
        write_pictures(tmp_path / "pictures" / name, seed=i, number=8)
    config = tiny_config("table1-a", labels="folders", domains=2, guide_only_until=0)
    start_run(tmp_path / "pictures", tmp_path / "run", config, quiet=True)
    page = write_report(tmp_path / "run").read_text("utf-8")
    assert "Collapse" not in page
    assert "trivial baselines" not in page
    assert "known class" not in page
    assert all(f"<h3>Domain {k}" in page or f"domain {k}" in page.lower() for k in range(2))


def test_it_loads_nothing_from_the_network(page):
    for tag, attributes in Elements(page).found:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", re.sub(r"<dl>.*?</dl>", "", page, flags=re.S))
    assert "@import" not in page


def test_every_picture_has_alternative_text_and_ids_are_unique(page):
    elements = Elements(page).found
    pictures = [attributes for tag, attributes in elements if tag == "img"]
    assert len(pictures) > 30
    assert all(attributes.get("alt") for attributes in pictures)
    identities = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_the_map_names_every_picture_with_its_domain_and_class(page, run):
    data = json.loads(re.search(r'id="map-data">(.*?)</script>', page, re.S).group(1))
    assert len(data["points"]) == len(data["names"]) == len(data["domains"]) == len(data["classes"]) == 29
    assert data["classNames"] == ["cats", "dogs"]
    assert all(
        data["classNames"][k] == name.split("/")[0]
        for k, name in zip(data["classes"], data["names"], strict=True)
    )
    assert all(0 <= v <= 1 for point in data["points"] for v in point)


def test_names_cannot_run_as_code(page):
    assert "<img src=x" not in page
    assert page.count("<script") == 2
    assert EVIL not in page


def test_the_command_prints_where_it_wrote_the_report(run, tmp_path, capsys):
    out = tmp_path / "deep" / "page.html"
    assert main(["report", str(run), "--out", str(out), "--device", "cpu"]) == 0
    assert out.read_text("utf-8").startswith("<!doctype html>")
    assert str(out) in capsys.readouterr().out


def test_a_folder_that_is_not_a_run_is_one_sentence(tmp_path):
    with pytest.raises(RunError, match=r"holds no model\.safetensors"):
        write_report(tmp_path)


def test_a_run_without_its_pictures_is_one_sentence(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "data")
    with pytest.raises(
        RunError, match=r"holds no pictures that can be read: .*`tunit train FOLDER --resume "
    ):
        write_report(copy)


def test_the_report_of_damaged_pictures_says_what_is_damaged(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    pixels = copy / "data" / "pictures.npy"
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(RunError, match=r"can be read \(.*pictures.npy is damaged at 1 of "):
        write_report(copy)


@pytest.fixture(scope="module")
def browser(run, page):
    with headless_chromium() as driver:
        driver.get((run / "report.html").as_uri())
        yield driver


def test_it_opens_without_errors(browser):
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
    assert browser.execute_script("return window.hacked") is None
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    assert len(browser.find_elements("css selector", "#map circle")) == 29


def test_the_map_shows_the_picture_under_the_pointer(browser):
    from selenium.webdriver import ActionChains

    browser.execute_script("document.getElementById('map').scrollIntoView({block: 'center'})")
    tip = browser.find_element("id", "tip")
    assert not tip.is_displayed()
    data = json.loads(browser.execute_script("return document.getElementById('map-data').textContent"))
    # The topmost circle, so that no other circle covers it.
    circle = browser.find_elements("css selector", "#map circle")[-1]
    ActionChains(browser).move_to_element(circle).perform()
    assert tip.is_displayed()
    assert (
        tip.text
        == f"{data['names'][-1]} (domain {data['domains'][-1]}, {data['classNames'][data['classes'][-1]]})"
    )
    place = browser.execute_script("return document.querySelector('.thumb').style.backgroundPosition")
    i, columns = 28, data["columns"]
    x, y = (float(v.removesuffix("px")) for v in place.split())
    assert (x, y) == pytest.approx((-(i % columns) * 120, -(i // columns) * 120))


def test_colours_can_show_domains_or_classes(browser):
    def legend():
        return [key.text for key in browser.find_elements("css selector", "#map-legend .key")]

    assert all(text.startswith("domain") for text in legend())
    button = browser.find_element("css selector", "[data-by=classes]")
    browser.execute_script("arguments[0].click()", button)
    assert legend() == ["cats", "dogs"]
    assert button.get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_and_light_themes_differ_and_are_readable(browser):
    def look(scheme):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        style = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        return [
            sum(int(v) for v in re.findall(r"\d+", text)[:3]) / 3 for text in browser.execute_script(style)
        ]

    (light_ink, light_paper), (dark_ink, dark_paper) = look("light"), look("dark")
    assert light_paper - light_ink > 150
    assert dark_ink - dark_paper > 150


def test_figures_are_not_replaced_by_the_page(run, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    shutil.copy(run / "evaluation" / "evaluation.json", figures)
    before = figures.read_text()
    assert main(["report", str(run), "--figures", str(figures), "--out", str(figures)]) == 2
    assert "figures.json is itself a source: give another --out" in capsys.readouterr().err
    assert figures.read_text() == before
