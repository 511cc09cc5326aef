"""Explore and Translate in a real browser: all steps that a person takes, on a phone, a tablet and a desktop."""

import base64
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from browser import WIDTHS
from studio.page import DESKTOP, Page
from tiny_model import noise
from tunit.data.packing.packed import open_packed
from tunit.studio import output_thread
from tunit.translation.translator import Translator


@pytest.fixture(params=WIDTHS.values(), ids=list(WIDTHS))
def width(request):
    return request.param


@pytest.fixture
def page(browser, server, width):
    page = Page(browser, server, width)
    page.errors()
    yield page
    assert page.errors() == []


@pytest.fixture
def explore(page):
    page.open("/runs/birds/explore")
    page.wait("document.getElementById('progress').hidden")
    return page


def shown(page):
    return [int(one.get_attribute("data-place")) for one in page.all("#gallery .picture")]


def test_galleries_can_be_used_before_the_map_is_drawn(browser, own_server, monkeypatch, held):
    """What was chosen, and the focus, stay when the map and further pictures follow."""
    _, may_draw = held(output_thread, "laid_out")
    for name, value in {
        "GLIMPSE": 6,
        "MOST_LAID_OUT": 12,
        "read_output": lambda *_: None,
    }.items():
        monkeypatch.setattr(output_thread, name, value)
    page = Page(browser, own_server)
    page.open("/runs/birds/explore")
    page.wait("document.querySelectorAll('#gallery .picture').length === 12")
    assert page.one("#map-later").is_displayed()
    assert not page.one("#map-parts").is_displayed()
    page.wait("document.getElementById('state').textContent.includes('the map follows')")
    assert "12 of 20" in page.one("#state").text
    pick = next(one for one in page.all(".pick") if one.is_enabled())
    domain = pick.get_attribute("data-domain")
    assert pick.find_element("css selector", ".meta").text.endswith(" so far")
    page.do("arguments[0].click()", pick)
    row = page.do("const p = document.querySelector('#gallery .picture'); p.focus(); return p.dataset.row")
    page.do("document.activeElement.click()")
    page.wait("document.getElementById('one').open")
    assert not page.one("#where-part").is_displayed()
    page.press("\ue00c")  # Escape
    may_draw.set()
    page.wait("document.getElementById('progress').hidden")
    assert page.one("#map-parts").is_displayed()
    pick = page.one(f'.pick[data-domain="{domain}"]')
    assert pick.get_attribute("aria-pressed") == "true"
    assert page.one("#count").text == f"{pick.find_element('css selector', '.meta').text} of 20"
    assert page.do("return document.activeElement.dataset.row") == row
    assert page.do("return document.activeElement.isConnected")
    assert page.errors() == []


def test_a_domain_filters_the_gallery_and_the_filter_can_be_removed(explore):
    assert len(shown(explore)) == 20
    pick = next(one for one in explore.all(".pick") if one.is_enabled())
    size = int(pick.find_element("css selector", ".meta").text)
    explore.do("arguments[0].click()", pick)
    assert pick.get_attribute("aria-pressed") == "true"
    assert len(shown(explore)) == size
    assert explore.one("#count").text == f"{size} of 20"
    if size < 20:
        explore.click("#all")
    assert len(shown(explore)) == 20


def free_place(found, width, height):
    """The place of the map, counted from its middle, that is farthest from all points."""
    sides = np.array([width, height])
    points = 16 + np.array([found["x"], found["y"]]).T / 10_000 * (sides - 32)
    places = np.stack(np.meshgrid(*(np.linspace(8, side - 8, 40) for side in sides)), -1).reshape(-1, 2)
    apart = np.linalg.norm(places[:, None] - points, axis=-1).min(1)
    assert apart.max() > 20
    return (places[apart.argmax()] - sides / 2).round().astype(int).tolist()


def test_a_lasso_filters_the_gallery(explore):
    from selenium.webdriver import ActionChains

    explore.do("document.getElementById('canvas').scrollIntoView({block: 'center'})")
    canvas = explore.one("#canvas")
    width, height = canvas.size["width"], canvas.size["height"]
    move = ActionChains(explore.browser, duration=30).move_to_element_with_offset(
        canvas, 4 - width // 2, 4 - height // 2
    )
    move.click_and_hold().move_by_offset(width // 2 - 4, 0).move_by_offset(0, height - 8)
    move.move_by_offset(4 - width // 2, 0).release().perform()
    found = explore.browser.execute_async_script(
        "const done = arguments[0]; fetch(location.pathname + '/pictures').then((r) => r.json()).then(done)"
    )
    left = [i for i, x in enumerate(found["x"]) if 16 + x / 10_000 * (width - 32) < width / 2]
    assert 0 < len(left) < 20
    assert sorted(shown(explore)) == left
    free = free_place(found, width, height)
    ActionChains(explore.browser).move_to_element_with_offset(canvas, *free).click().perform()
    assert sorted(shown(explore)) == left  # a click outside all points keeps the lasso's choice
    explore.one("#canvas").send_keys("\ue00c")  # Escape
    assert len(shown(explore)) == 20


def test_a_lasso_is_drawn_with_a_finger(explore):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    explore.do("document.getElementById('canvas').scrollIntoView({block: 'center'})")
    canvas = explore.one("#canvas")
    width, height = canvas.size["width"], canvas.size["height"]
    finger = ActionChains(explore.browser, duration=30, devices=[PointerInput("touch", "finger")])
    around = finger.w3c_actions.pointer_action
    around.move_to(canvas, 4 - width // 2, 4 - height // 2)
    around.pointer_down()
    for x, y in ((0, 4 - height // 2), (0, height // 2 - 4), (4 - width // 2, height // 2 - 4)):
        around.move_to(canvas, x, y)
    around.pointer_up()
    before = explore.do("return scrollY")
    finger.perform()
    assert explore.do("return scrollY") == before  # the map is drawn on, not scrolled
    assert 0 < len(shown(explore)) < 20
    explore.click("#all")
    assert len(shown(explore)) == 20


def test_arrow_keys_move_between_pictures_on_the_map_and_in_the_dialog(explore):
    from selenium.webdriver.common.keys import Keys

    explore.away()
    explore.do("document.getElementById('canvas').focus()")
    explore.press(Keys.ARROW_RIGHT)
    explore.wait("!document.getElementById('tip').hidden")
    explore.press(Keys.ENTER)
    explore.wait("document.getElementById('one').open")
    name = explore.one("#one-name").text
    assert name.endswith(".png")
    assert len(explore.all("#neighbours .picture")) == 12
    facts = explore.one("#one-facts").text
    assert "confidence" in facts
    assert "off-topic" in facts
    direction = Keys.ARROW_RIGHT if explore.one("#next").is_enabled() else Keys.ARROW_LEFT
    explore.press(direction)
    explore.wait("document.getElementById('one-name').textContent !== arguments[0]", name)
    explore.press(Keys.ESCAPE)
    assert not explore.do("return document.getElementById('one').open")
    explore.do("document.getElementById('canvas').focus()")
    explore.press("l")  # up to 48 neighbours: here all pictures
    assert len(shown(explore)) == 20


def test_a_picture_can_be_opened_in_translate(explore):
    explore.do("document.querySelector('#gallery .picture').click()")
    explore.wait("document.getElementById('one').open")
    explore.do("document.getElementById('as-source').click()")
    explore.wait("location.pathname.endsWith('/translate')")
    explore.wait("document.getElementById('source-about').textContent")


@pytest.fixture
def uploads(tmp_path):
    paths = {}
    for name, seed in (("me.png", 1), ("like this.png", 2)):
        paths[name] = tmp_path / name
        Image.fromarray(noise(seed, 48, 64 if seed == 1 else 48)).save(paths[name])
    (tmp_path / "broken.png").write_text("no picture")
    return tmp_path


def test_a_portrait_keeps_its_shape_and_a_result_goes_with_its_styles(page, tmp_path):
    Image.fromarray(noise(3, 160, 60)).save(tmp_path / "tall.png")
    page.open("/runs/birds/translate")
    page.one("#source-file").send_keys(str(tmp_path / "tall.png"))
    page.wait("document.getElementById('source-about').textContent")
    shape = "const i = document.getElementById('source-picture'); return i.offsetWidth / i.offsetHeight"
    assert abs(page.do(shape) - 60 / 160) < 0.02
    page.add_domain("0")
    page.wait("!document.getElementById('download').disabled")
    page.click("#parts .away")
    page.wait("document.getElementById('download').disabled")
    assert page.do("return document.getElementById('after').hidden")


def test_of_two_sources_the_last_one_is_shown(page, tmp_path):
    for name, seed in (("slow.png", 1), ("fast.png", 2)):
        Image.fromarray(noise(seed, 48, 48)).save(tmp_path / name)
    page.open("/runs/birds/translate")
    page.do(
        """const real = window.fetch; let first = true; window.slow = false;
        window.fetch = async (...all) => {
          const late = first;
          first = false;
          const answer = await real(...all);
          if (late) { await new Promise((done) => setTimeout(done, 1500)); window.slow = true; }
          return answer;
        };"""
    )
    page.one("#source-file").send_keys(str(tmp_path / "slow.png"))
    page.one("#source-file").send_keys(str(tmp_path / "fast.png"))
    page.wait("document.getElementById('source-about').textContent.startsWith('fast.png')")
    page.wait("window.slow")
    time.sleep(0.3)  # so that the late answer has been handled
    assert page.one("#source-about").text.startswith("fast.png")


def test_a_source_and_a_reference_give_a_result(page, uploads, runs):
    page.open("/runs/birds/translate")
    page.one("#source-file").send_keys(str(uploads / "me.png"))
    page.one("#reference-file").send_keys(str(uploads / "like this.png"))
    page.wait("!document.getElementById('download').disabled")
    page.wait("document.getElementById('after').complete")
    translator = Translator.load(runs / "birds", device="cpu")
    expected = np.asarray(translator.translate(uploads / "me.png", uploads / "like this.png")).astype(int)
    assert np.abs(page.blob("#after") - expected).max() <= 2
    assert "like this.png" in page.one("#after").get_attribute("alt")

    page.choose("#split", 50)
    assert "50%" in page.do("return document.getElementById('after').style.clipPath")
    before = page.one("#after").get_attribute("src")
    page.choose("#strength", 0)
    page.wait("document.getElementById('after').src !== arguments[0]", before)
    page.wait("document.getElementById('after').complete")
    own = np.asarray(translator.translate(uploads / "me.png", style=translator.style(uploads / "me.png")))
    assert np.abs(page.blob("#after") - own.astype(int)).max() <= 2


def test_a_mix_a_grid_and_a_walk(page, runs):
    page.open("/runs/birds/translate?source=2")
    page.wait("document.getElementById('source-about').textContent")
    domains = page.do(
        "return [...document.querySelectorAll('#domain-add option')].slice(1).map((o) => o.value)"
    )
    page.add_domain(domains[0])
    page.click("#reference-pick")
    page.wait("document.querySelectorAll('#picked .picture').length === 20")
    page.do("document.querySelectorAll('#picked .picture')[5].click()")
    page.wait("document.querySelectorAll('.part').length === 2")
    page.choose(".part input", 0)  # of the domain; only the picture remains
    translator, images = (
        Translator.load(runs / "birds", device="cpu"),
        open_packed(runs / "birds" / "data").images,
    )
    expected = np.asarray(translator.translate(images[2], images[5])).astype(int)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        is_drawn = page.do("return document.getElementById('after').naturalWidth") == 32
        if is_drawn and np.abs(page.blob("#after") - expected).max() <= 2:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the mix was never drawn")

    page.click("#grid-draw")
    page.wait("document.querySelectorAll('#grid img').length === arguments[0]", len(domains))
    page.choose("#frames", 24)
    page.click("#walk")
    page.wait("document.querySelector('.walk-shown img')?.naturalWidth === 32")


GIVE = """
const [selector, kind, data, name] = arguments;
const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0)), held = new DataTransfer();
held.items.add(new File([bytes], name, {type: "image/png"}));
const options = {bubbles: true, cancelable: true, dataTransfer: held, clipboardData: held};
const event = kind === "drop" ? new DragEvent(kind, options) : new ClipboardEvent(kind, options);
document.querySelector(selector).dispatchEvent(event);
"""


@pytest.fixture
def downloads(page, tmp_path):
    """The folder into which the browser saves what is downloaded."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    how = {"behavior": "allow", "downloadPath": str(folder)}
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", how)
    yield folder
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "deny"})


def downloaded(folder, name):
    """The file of this name or pattern, as soon as the browser has saved it."""
    end = time.monotonic() + 30
    while not (found := list(folder.glob(name))):
        assert time.monotonic() < end, list(folder.iterdir())
        time.sleep(0.05)
    return found[0]


def test_pictures_are_dropped_and_pasted_and_results_downloaded(page, uploads, downloads, runs):
    translator = Translator.load(runs / "birds", device="cpu")
    source, reference = uploads / "me.png", uploads / "like this.png"
    page.open("/runs/birds/translate")
    content = base64.b64encode(source.read_bytes()).decode()
    page.do(GIVE, "body", "paste", content, source.name)
    page.wait("document.getElementById('source-about').textContent.startsWith('me.png: 64 x 48')")
    content = base64.b64encode(reference.read_bytes()).decode()
    page.do(GIVE, "#reference-drop", "drop", content, reference.name)
    page.wait("!document.getElementById('download').disabled")

    page.click("#download")
    expected = np.asarray(translator.translate(source, reference)).astype(int)
    with Image.open(downloaded(downloads, "me-translated.png")) as image:
        assert np.abs(np.asarray(image) - expected).max() <= 2
    (downloads / "me-translated.png").unlink()
    page.click("#own-size")
    page.click("#download")
    with Image.open(downloaded(downloads, "me-translated.png")) as image:
        assert image.size == (64, 48)
    page.click("#zip")
    with zipfile.ZipFile(downloaded(downloads, "me-all.zip")) as archive:
        assert len(archive.namelist()) == 1 + sum(size > 0 for size in translator.domain_sizes)


def test_a_walk_is_a_video_and_can_be_downloaded(page, downloads):
    av = pytest.importorskip("av")
    page.open("/runs/birds/translate?source=2")
    page.wait("!document.getElementById('walk').disabled")
    page.choose("#kind", "mp4")
    page.choose("#frames", 24)
    page.click("#walk")
    page.wait("document.querySelector('.walk-shown video')?.videoWidth === 32")
    page.click(".walk-shown button")
    with av.open(str(downloaded(downloads, "*-walk.mp4"))) as video:
        assert sum(1 for _ in video.decode(video=0)) == 24


def test_a_file_that_is_not_a_picture_is_one_sentence_on_the_page(browser, server, uploads):
    page = Page(browser, server)
    page.open("/runs/birds/translate")
    page.one("#source-file").send_keys(str(uploads / "broken.png"))
    page.wait("!document.getElementById('notice').hidden")
    assert page.one("#notice").text.startswith("Broken.png cannot be used (unreadable")
    assert all("400" in message for message in page.errors())  # the refused request and nothing else


def test_nothing_is_wider_than_the_window_and_controls_have_names(page, width):
    for address in ("/", "/runs/birds/explore", "/runs/birds/translate?source=1&reference=2"):
        page.open(address)
        if "explore" in address:
            page.wait("document.getElementById('progress').hidden")
            page.do("document.querySelector('#gallery .picture').click()")
            page.wait("document.getElementById('one').open")
        if "translate" in address:
            page.wait("!document.getElementById('download').disabled")
        assert not page.sticks_out(width), address
        nameless = """const named = (e) => e.alt || e.querySelector('img')?.alt || e.textContent.trim() || e.ariaLabel
            || e.labels?.length || e.getAttribute('alt') === '';
            return [...document.querySelectorAll('img, button, input, select, a')].filter((e) => !named(e))
            .map((e) => e.outerHTML)"""
        assert page.do(nameless) == []
    page.open("/runs/birds/translate", 320)
    assert not page.sticks_out(320)


@pytest.mark.parametrize("width", [DESKTOP])
def test_themes_differ_and_focus_is_visible(page):
    inks = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        page.open("/")
        style = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        inks.append([sum(map(int, text[4:-1].split(","))) / 3 for text in page.do(style)])
        page.press("\ue004")  # Tab
        assert page.do("return getComputedStyle(document.activeElement).outlineWidth") == "3px"
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    (ink, paper), (dark_ink, dark_paper) = inks
    assert paper - ink > 150
    assert dark_ink - dark_paper > 150
