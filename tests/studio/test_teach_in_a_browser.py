"""Teach in a real browser: what was chosen or typed is not lost if an action is refused or somebody else acts."""

import shutil
import time

import pytest

from studio.conftest import serving
from studio.page import Page
from tunit.errors import ConfigError
from tunit.studio.labels import RunLabels


@pytest.fixture
def teach(browser, runs, tmp_path):
    """The page of a run about which nothing was said yet, with all of its pictures shown."""
    shutil.copytree(runs / "birds", tmp_path / "runs" / "birds")
    (tmp_path / "pictures").mkdir()
    with serving(tmp_path / "runs") as address:
        page = Page(browser, address)
        page.open("/runs/birds/teach")
        page.wait("document.querySelector('.tile')")
        page.click('[data-view="-2"]')
        page.wait("document.querySelectorAll('.tile').length === 20")
        yield page
        page.browser.get("about:blank")  # a page that asks for news would log that the studio has gone


@pytest.fixture
def refused(monkeypatch):
    """Lets every action be refused."""

    def refuse(*_):
        raise ConfigError("no room on the disk: make some")

    monkeypatch.setattr(RunLabels, "act", refuse)


def act(teach, **action):
    """Another person acts. Gives the number of actions."""
    script = """const [action, done] = arguments, base = location.pathname, form = new FormData();
    fetch(`${base}/state`).then((answer) => answer.json()).then(({ number }) => {
      form.append("action", JSON.stringify(action)); form.append("seen", number);
      return fetch(`${base}/act`, { method: "POST", body: form });
    }).then((answer) => answer.json()).then((now) => done(now.number));"""
    return teach.browser.execute_async_script(script, action)


def test_what_was_chosen_and_typed_stays_if_an_action_is_refused(teach, refused):
    teach.click(".tile")
    teach.press("1")
    teach.wait("document.getElementById('notice').textContent.startsWith('No room')")
    teach.wait("document.querySelectorAll('.tile[aria-selected=true]').length === 1")
    teach.one("#add-name").send_keys("owl")
    teach.do("document.getElementById('notice').textContent = ''")
    teach.click("#add button")
    teach.wait("document.getElementById('notice').textContent.startsWith('No room')")
    assert teach.one("#add-name").get_attribute("value") == "owl"


def test_a_typed_name_stays_while_pictures_are_selected(teach):
    teach.click("#kinds [data-view]")
    name = teach.one("#name")
    name.send_keys("magpie")
    teach.click(".tile")
    assert name.get_attribute("value") == "magpie"
    teach.click("#rename button")
    teach.wait("document.getElementById('shown-title').textContent === 'magpie'")
    teach.click('[data-view="1"]')
    assert name.get_attribute("value") == ""
    teach.click('[data-view="0"]')
    assert name.get_attribute("value") == "magpie"


def test_a_button_that_is_held_down_and_an_open_list_are_not_replaced(teach):
    from selenium.webdriver import ActionChains

    button = teach.one('[data-view="-1"]')
    ActionChains(teach.browser).move_to_element(button).click_and_hold().perform()
    act(teach, do="add", name="owl")
    time.sleep(5)  # the page asks for news every four seconds
    ActionChains(teach.browser).release().perform()
    assert teach.one("#shown-title").text == "Left out"
    teach.wait("document.getElementById('kinds').textContent.includes('owl')")

    first = teach.do("const to = document.getElementById('to'); to.focus(); return to.firstChild")
    act(teach, do="add", name="wren")
    teach.wait("document.getElementById('kinds').textContent.includes('wren')")
    assert first == teach.do("return document.getElementById('to').firstChild")
    teach.do("document.getElementById('to').blur()")
    assert "wren" in teach.one("#to").text


def test_tiles_show_the_colour_of_their_domain_in_dark_and_in_light(teach):
    tile = """const tile = document.querySelector('.tile'), style = getComputedStyle(tile);
    const dot = document.querySelector(`[data-dot="${arguments[0]}"]`);
    return [style.borderBottomWidth, style.borderBottomColor, getComputedStyle(dot).backgroundColor]"""
    domain = teach.do(
        "return [...document.querySelectorAll('[data-dot]')].find((dot) => "
        "document.querySelector('.tile').title.includes(`Domain ${dot.dataset.dot}`)).dataset.dot"
    )
    colours = set()
    try:
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            teach.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            teach.browser.execute_async_script(
                "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
            )
            width, colour, dot = teach.do(tile, domain)
            assert (width, colour) == ("4px", dot)
            colours.add(colour)
    finally:
        teach.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(colours) == 2
