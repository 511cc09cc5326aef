"""Explore in a real browser: answers in any order, news while something is pressed, and the browser's button Back."""

import pytest

from browser import until
from studio.page import Page
from tunit.studio import shown
from tunit.studio.run_output import RunOutput


@pytest.fixture
def page(browser, server):
    page = Page(browser, server)
    page.open("/runs/birds/explore")
    page.wait("document.getElementById('progress').hidden")
    return page


@pytest.fixture
def opened(page):
    """The page, with the first picture of the gallery opened."""
    page.click("#gallery .picture")
    page.wait("document.getElementById('one').open")
    return page


def names(page):
    """The names of the pictures in the gallery."""
    script = """const [done] = arguments, rows = [...document.querySelectorAll("#gallery .picture")];
    const base = location.pathname;
    Promise.all(rows.map((one) => fetch(`${base}/picture/${one.dataset.row}`).then((answer) => answer.json())))
      .then((all) => done(all.map((one) => one.name)));"""
    return page.browser.execute_async_script(script)


def test_fast_arrow_keys_all_count(opened, held):
    from selenium.webdriver.common.keys import Keys

    expected = names(opened)
    begun, may_answer = held(RunOutput, "neighbours")
    opened.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    until(lambda: len(begun) == 3)
    may_answer.set()
    opened.wait("document.getElementById('one-name').textContent === arguments[0]", expected[3])
    opened.settle()
    assert opened.one("#one-name").text == expected[3]


def test_a_picture_that_was_closed_does_not_open_again(opened, held):
    from selenium.webdriver.common.keys import Keys

    begun, may_answer = held(RunOutput, "neighbours")
    opened.press(Keys.ARROW_RIGHT)
    until(lambda: begun)
    opened.press(Keys.ESCAPE)
    may_answer.set()
    opened.settle()
    assert not opened.do("return document.getElementById('one').open")


def test_what_was_chosen_is_there_after_the_button_back(page):
    pick = next(one for one in page.all(".pick") if one.is_enabled())
    page.do("arguments[0].click()", pick)
    size = len(page.all("#gallery .picture"))
    page.click('.top nav a[href$="/translate"]')
    page.wait("location.pathname.endsWith('/translate')")
    page.browser.back()
    page.wait("location.pathname.endsWith('/explore')")
    page.wait("document.querySelector('.pick[aria-pressed=true]')")
    assert len(page.all("#gallery .picture")) == size


def test_the_map_stays_where_it_is_while_pictures_are_loaded(browser, own_server, held):
    """A strip is as high before it is loaded as after; it has not been loaded from this address before."""
    begun, may_answer = held(shown, "_average")
    page = Page(browser, own_server)
    page.open("/runs/birds/explore")
    page.wait("document.getElementById('progress').hidden")
    strip = "document.querySelector('.average img')"
    page.do(f"{strip}.scrollIntoView()")
    until(lambda: begun)
    heights = [page.do(f"return {strip}.offsetHeight")]
    may_answer.set()
    page.wait(f"{strip}.naturalWidth")
    heights.append(page.do(f"return {strip}.offsetHeight"))
    assert abs(heights[0] - heights[1]) <= 1
    assert page.do(f"return {strip}.offsetWidth") == pytest.approx(4 * heights[1], rel=0.05)


def test_a_request_without_an_answer_is_repeated_until_all_pictures_were_looked_at(browser, server):
    source = """const real = window.fetch; let first = true;
    window.fetch = (...all) => {
      if (!first || !String(all[0]).includes("/explore/pictures")) return real(...all);
      first = false;
      return Promise.reject(new TypeError("no answer"));
    };"""
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    page = Page(browser, server)
    try:
        page.open("/runs/birds/explore")
        page.wait("!document.getElementById('notice').hidden")
        page.wait("document.getElementById('progress').hidden")
        assert not page.one("#notice").is_displayed()
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_what_went_wrong_is_said_in_the_dialog_that_covers_the_page(opened):
    from selenium.webdriver.common.keys import Keys

    opened.do("window.addEventListener('unhandledrejection', (event) => event.preventDefault())")
    row = opened.all("#gallery .picture")[1].get_attribute("data-row")
    opened.silence(f"/explore/picture/{row}")
    opened.press(Keys.ARROW_RIGHT)
    opened.wait("document.getElementById('one').contains(document.getElementById('notice'))")
    assert opened.one("#notice").is_displayed()
    opened.silence("")
    opened.press(Keys.ESCAPE)
    opened.wait("document.getElementById('main').firstChild === document.getElementById('notice')")
    opened.click("#gallery .picture")
    opened.wait("document.getElementById('one').open && document.getElementById('notice').hidden")


def test_the_map_says_which_picture_a_key_has_reached(page):
    from selenium.webdriver.common.keys import Keys

    assert page.one("#reached").get_attribute("role") == "status"
    page.do("document.getElementById('canvas').focus()")
    page.press(Keys.ARROW_RIGHT)
    page.wait("document.getElementById('reached').textContent.startsWith('picture ')")
