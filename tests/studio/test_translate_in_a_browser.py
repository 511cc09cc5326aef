"""Translate in a real browser: what is shown together belongs together, in whatever order answers arrive."""

import pytest
from PIL import Image

from browser import until
from studio.page import Page
from tiny_model import noise
from tunit.studio import redrawn, translate

ABOUT = "document.getElementById('source-about').textContent"
DRAWN = "!document.getElementById('download').disabled"
FIRST = "document.querySelector('#domain-add option:nth-child(2)').value"


@pytest.fixture
def page(browser, server):
    page = Page(browser, server)
    page.open("/runs/birds/translate")
    return page


@pytest.fixture
def files(tmp_path):
    """Pictures of several shapes, and a file that is none."""
    for i, (name, height, width) in enumerate((("first", 48, 64), ("second", 64, 48))):
        Image.fromarray(noise(i, height, width)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_text("no picture")
    return tmp_path


def take(page, path):
    page.one("#source-file").send_keys(str(path))
    page.wait(f"{ABOUT}.startsWith('{path.name}')")


def test_results_of_another_source_are_not_shown(page, files, held):
    take(page, files / "first.png")
    grid, may_draw_grid = held(redrawn.Source, "everywhere")
    walk, may_walk = held(redrawn.Source, "walk")
    page.click("#grid-draw")
    page.click("#walk")
    until(lambda: grid and walk)
    take(page, files / "second.png")
    may_draw_grid.set()
    may_walk.set()
    page.settle()
    assert not page.all("#grid img, #walk-shown img")


def test_a_source_is_shown_even_if_a_later_file_is_no_picture(page, files, held):
    begun, may_end = held(translate, "_prepared", lambda source: source.picture.name == "first.png")
    page.one("#source-file").send_keys(str(files / "first.png"))
    until(lambda: begun)
    page.one("#source-file").send_keys(str(files / "broken.png"))
    page.wait("!document.getElementById('notice').hidden")
    may_end.set()
    page.wait(f"{ABOUT}.startsWith('first.png')")
    page.errors()


def test_a_result_is_shown_and_saved_only_with_its_own_source(page, files, held):
    take(page, files / "first.png")
    page.add_domain(page.do(f"return {FIRST}"))
    page.wait(DRAWN)
    before = page.one("#before").get_attribute("src")
    begun, may_end = held(redrawn.Source, "redrawn")
    take(page, files / "second.png")
    until(lambda: begun)
    assert not page.one("#download").is_enabled()
    assert page.one("#before").get_attribute("src") == before
    may_end.set()
    page.wait(DRAWN)
    assert (
        page.one("#before").get_attribute("src") == page.one("#source-picture").get_attribute("src") != before
    )


def test_of_many_wishes_only_the_newest_is_drawn(page, files, held):
    take(page, files / "first.png")
    begun, may_end = held(redrawn.Source, "redrawn")
    page.add_domain(page.do(f"return {FIRST}"))
    until(lambda: begun)
    for strength in (0.2, 0.4, 0.6, 0.8):
        page.choose("#strength", strength)
        page.browser.execute_async_script("setTimeout(arguments[0], 150)")
    may_end.set()
    until(lambda: len(begun) > 1)
    page.settle()
    assert [args[2] for args in begun] == [1.0, 0.8]


def test_a_sentence_about_a_file_stays_when_the_result_is_drawn_again(page, files):
    take(page, files / "first.png")
    page.add_domain(page.do(f"return {FIRST}"))
    page.wait(DRAWN)
    page.one("#reference-file").send_keys(str(files / "broken.png"))
    page.wait("!document.getElementById('notice').hidden")
    before = page.one("#after").get_attribute("src")
    page.choose("#strength", 0.5)
    page.wait("document.getElementById('after').src !== arguments[0]", before)
    assert page.one("#notice").text.startswith("Broken.png cannot be used")
    page.errors()


def test_a_file_that_was_changed_must_be_chosen_again(page, files):
    take(page, files / "first.png")
    page.add_domain(page.do(f"return {FIRST}"))
    page.wait(DRAWN)
    Image.fromarray(noise(9, 50, 50)).save(files / "first.png")
    page.click("#own-size")
    page.click("#download")
    page.wait("!document.getElementById('notice').hidden")
    assert page.one("#notice").text.startswith("first.png was changed, moved or removed")


def test_the_source_that_is_downloaded_is_the_one_shown_then(page, files):
    take(page, files / "first.png")
    page.add_domain(page.do(f"return {FIRST}"))
    page.wait(DRAWN)
    page.click("#own-size")
    page.do(
        "const read = File.prototype.arrayBuffer, call = window.fetch;"
        "let free; const taken = new Promise((done) => (free = done)); window.free = free; window.sent = [];"
        "File.prototype.arrayBuffer = async function () { await taken; return read.call(this); };"
        "window.fetch = (address, how) => {"
        "  if (how?.body?.get?.('own_size')) window.sent.push(how.body.get('source').name);"
        "  return call(address, how); };"
    )
    page.click("#download")
    page.do("document.getElementById('source-about').textContent = ''; File.prototype.arrayBuffer = "
            "Blob.prototype.arrayBuffer;")  # fmt: skip
    take(page, files / "second.png")
    page.do("window.free()")
    page.wait("window.sent.length")
    assert page.do("return window.sent") == ["first.png"]


def test_everything_is_downloaded_even_if_no_style_has_a_weight(page, files):
    take(page, files / "first.png")
    page.add_domain(page.do(f"return {FIRST}"))
    page.wait(DRAWN)
    page.choose("#parts input[type=range]", 0)
    page.do("const save = HTMLAnchorElement.prototype.click; window.saved = [];"
            "HTMLAnchorElement.prototype.click = function () { window.saved.push(this.download); };")  # fmt: skip
    page.click("#zip")
    page.wait("window.saved.length || !document.getElementById('notice').hidden")
    assert page.do("return window.saved") == ["first-all.zip"]


def test_arrow_keys_choose_a_domain_and_the_button_adds_it(page):
    from selenium.webdriver.common.keys import Keys

    page.do("document.getElementById('domain-add').focus()")
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    chosen = page.do("const one = document.getElementById('domain-add'); return one.selectedOptions[0].text")
    assert not page.all(".part")
    page.press(Keys.TAB, Keys.ENTER)
    assert [part.text for part in page.all(".part-name")] == [chosen]
    page.press(Keys.ENTER)
    assert page.do("return document.activeElement.id") == "domain-add"


def test_a_part_that_is_taken_away_leaves_the_focus_and_the_other_parts(page):
    page.open("/runs/birds/translate?reference=3")
    page.wait("document.querySelector('.part')")
    slider = page.one(".part input")
    page.do("arguments[0].focus()", slider)
    for number in page.do("return [...document.querySelectorAll('#domain-add option')].map((o) => o.value)")[
        1:3
    ]:
        page.choose("#domain-add", number)
        page.do("document.getElementById('domain-form').requestSubmit()")
    assert page.do("return document.activeElement === arguments[0]", slider)
    label = "return document.activeElement.ariaLabel"
    names = [part.text for part in page.all(".part-name")]
    for taken, focused in ((1, 1), (1, 0)):
        page.do("document.querySelectorAll('.away')[arguments[0]].click()", taken)
        del names[taken]
        assert page.do(label) == f"take {names[focused]} away"
    page.click(".away")
    assert page.do("return document.activeElement.id") == "domain-add"


def test_the_hint_in_place_of_a_result_is_seen_in_dark_and_in_light(page):
    for _ in page.in_schemes():
        [hint] = page.contrasts(("at('#result-hint').color", "at('#compare').backgroundColor"))
        assert hint >= 4.5


def test_a_walk_keeps_its_end_when_another_style_is_taken_away(page, files):
    for i, name in enumerate(("first.png", "second.png"), 1):
        page.one("#reference-file").send_keys(str(files / name))
        page.wait(f"document.querySelectorAll('.part').length === {i}")
    page.add_domain(page.do(f"return {FIRST}"))
    chosen = "document.getElementById('walk-to').selectedOptions[0].text"
    second = "[...document.getElementById('walk-to').options].find((one) => one.text === 'second.png')"
    page.do(f"{second}.selected = true")
    page.click("#parts .away")
    assert [part.text for part in page.all(".part-name")][:1] == ["second.png"]
    assert page.do(f"return {chosen}") == "second.png"
    page.click("#parts .away")
    assert page.do(f"return {chosen}") == page.one(".part-name").text  # the first style, as at the beginning
