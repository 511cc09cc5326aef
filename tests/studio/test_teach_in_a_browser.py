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
    for _ in teach.in_schemes():
        width, colour, dot = teach.do(tile, domain)
        assert (width, colour) == ("4px", dot)
        colours.add(colour)
    assert len(colours) == 2


def test_fields_and_the_words_in_them_are_seen_in_dark_and_in_light(teach):
    behind = "at('#add-name').backgroundColor"
    for _ in teach.in_schemes():
        words, field, choice = teach.contrasts(
            ("at('#add-name', '::placeholder').color", behind),
            ("at('#add-name').borderTopColor", "at('body').backgroundColor"),
            ("at('#to').borderTopColor", behind),
        )
        assert words >= 4.5
        assert min(field, choice) >= 3


@pytest.fixture
def one_domain(teach):
    """The page with the largest domain shown; gives how many pictures it has."""
    sizes = teach.do("return [...document.querySelectorAll('#kinds .meta')].map((one) => +one.textContent)")
    size = max(sizes[:-3])
    teach.all("#kinds [data-view]")[sizes.index(size)].click()
    teach.wait("document.querySelectorAll('.tile').length === arguments[0]", size)
    return size


def test_shift_selects_from_the_picture_that_follows_the_one_left_out(teach, one_domain):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    assert one_domain > 3
    teach.do("document.querySelector('.tile').focus()")
    teach.press(Keys.END, " ", "x")
    teach.wait(
        "document.getElementById('count').textContent.startsWith(`0 of ${arguments[0]}`)", one_domain - 1
    )
    teach.do("window.addEventListener('error', () => (window.wrong = true))")
    ActionChains(teach.browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT).key_up(Keys.SHIFT).perform()
    assert teach.one("#count").text == f"2 of {one_domain - 1} selected"
    assert not teach.do("return window.wrong")


def test_keys_act_in_the_pictures_only_and_once(teach, one_domain):
    teach.click("#all")
    teach.press("x", "1", "s")
    teach.do(
        "document.querySelector('.tile').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'x', repeat: true, bubbles: true}))"
    )
    teach.settle()
    assert teach.one("#saved").text == "Nothing yet."
    teach.do("document.querySelector('.tile').focus()")
    teach.press("x")
    teach.wait("!document.querySelector('.tile')")
    teach.press("u")  # although no picture is left that could have the focus
    teach.wait("document.querySelectorAll('.tile').length === arguments[0]", one_domain)


def test_a_newer_model_is_shown_before_anything_is_said_about_it(teach):
    """As when a training writes a checkpoint while nobody has acted yet: the number of actions stays 0."""
    teach.do(
        """const real = window.fetch;
        window.sent = [];
        const newer = (now) => Object.assign(now, { model: "99 newer", domain: now.domain.map(() => 1) });
        window.fetch = async (address, how) => {
          if (address.endsWith("/act")) window.sent.push(how.body.get("model"));
          const answer = await real(address, how);
          if (!/\\/(state|pictures)$/.test(address)) return answer;
          const found = await answer.json();
          newer(found.now ?? found);
          return new Response(JSON.stringify(found));
        };"""
    )
    said = "[...document.querySelectorAll('.tile')].every((one) => one.title.includes('Domain 1'))"
    teach.wait(said)
    teach.click(".tile")
    teach.press("1")
    teach.wait("document.getElementById('notice').textContent.startsWith('The run has a newer model')")
    assert teach.do("return window.sent") == ["99 newer"]


def test_a_studio_that_does_not_answer_for_a_while_is_said_for_that_while(teach):
    teach.do("document.body.style.paddingBottom = '200vh'; scrollTo(0, document.body.scrollHeight)")
    teach.silence("/teach/state")
    teach.wait("document.getElementById('notice').textContent.startsWith('The studio does not answer')")
    assert teach.do("return document.getElementById('notice').getBoundingClientRect().bottom") < 0
    teach.silence("")
    teach.wait("document.getElementById('notice').hidden")


def test_a_right_click_does_not_hold_back_what_others_do(teach):
    teach.do(
        "document.querySelector('.tile').dispatchEvent("
        "new PointerEvent('pointerdown', {button: 2, bubbles: true}))"
    )
    act(teach, do="add", name="owl")
    teach.wait("document.getElementById('kinds').textContent.includes('owl')")


def test_the_page_that_the_button_back_shows_again_can_go_on_training(teach):
    teach.do("document.querySelector('#go button').disabled = true")
    teach.do("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    assert teach.one("#go button").is_enabled()
