"""Teach and Train in a real browser, by keyboard and by mouse, on a phone, a tablet and a desktop."""

import json
import shutil
import sys
import threading
import time

import pytest
import uvicorn

from browser import WIDTHS, headless_chromium, resized, until
from studio.label_tables import label_rows
from tunit.studio import command_lines, jobs
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace

DESKTOP = WIDTHS["desktop"]
# Replaces tunit where a training, or a look at pictures, is started only to see that the page can do so.
FAKE = (
    "import sys, time; print('said by', sys.argv[1], flush=True); time.sleep(60 * (sys.argv[1] == 'train'))"
)


@pytest.fixture(scope="module", params=WIDTHS.values(), ids=list(WIDTHS))
def width(request):
    return request.param


@pytest.fixture(scope="module")
def root(runs, tmp_path_factory, width):
    """A folder of runs for the tests at this width."""
    folder = tmp_path_factory.mktemp("browser") / "runs"
    shutil.copytree(runs / "birds", folder / "birds")
    return folder


@pytest.fixture(scope="module")
def window():
    with headless_chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(root, runs, window):
    """A studio that serves on a real port."""
    app = create_app(Workspace(root, (runs.parent / "pictures",), device="cpu"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    window.get("about:blank")  # a page that asks for news would log that the studio has gone
    server.should_exit = True
    thread.join()


@pytest.fixture
def driver(window, width):
    resized(window, width)
    return window


@pytest.fixture
def at(driver):
    return lambda name: driver.find_element("id", name)


@pytest.fixture
def teach(driver, address, at):
    driver.get(f"{address}/runs/birds/teach")
    until(lambda: at("teach").is_displayed(), 120)
    return driver


@pytest.fixture
def keys(driver):
    from selenium.webdriver import ActionChains

    def press(*words):
        for word in words:
            ActionChains(driver).send_keys(word).perform()

    return press


@pytest.fixture
def click(driver):
    """Clicks an element that is really there to be clicked, not under another one."""
    from selenium.common.exceptions import StaleElementReferenceException

    def do(selector):
        for _ in range(5):
            found = driver.find_element("css selector", selector)
            try:
                driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
                return found.click()
            except StaleElementReferenceException:
                continue  # the page has just drawn this part anew, as it does when something changes
        raise AssertionError(f"{selector} is drawn anew all the time")

    return do


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(command_lines, "TUNIT", (sys.executable, "-c", FAKE))


def job(run):
    return json.loads((run / "studio" / "job.json").read_text())["command"][3:]


def table(root):
    return label_rows(root / "birds")


def entries(root):
    path = root / "birds" / "studio" / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()[1:]] if path.exists() else []


def show_all(driver, at):
    driver.find_element("css selector", '[data-view="-2"]').click()
    until(lambda: at("shown-title").text == "All pictures")


def test_keys_select_label_and_undo(teach, root, at, keys):
    from selenium.webdriver.common.keys import Keys

    show_all(teach, at)
    teach.execute_script("document.querySelector('.tile').focus()")
    keys(" ", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, " ")
    assert at("count").text == "2 of 20 selected"
    keys("2")
    until(lambda: len(entries(root)) == 1)
    assert entries(root)[0]["do"] == "give"
    assert entries(root)[0]["domain"] == 1
    assert len(entries(root)[0]["pictures"]) == 2
    until(lambda: at("saved").text == "1 action, all saved.")
    assert sum(row["by"] == "person" for row in table(root)) == 2
    keys("u")
    until(lambda: len(entries(root)) == 2)
    until(lambda: sum(row["by"] == "person" for row in table(root)) == 0)
    keys("r", "a", "x")
    until(lambda: len(entries(root)) == 4)
    until(lambda: table(root) == [])
    keys("u", "u")
    until(lambda: len(entries(root)) == 6)


def test_domains_are_named_and_merged_by_mouse_and_kept_after_a_reload(teach, root, at, driver, click):
    name = at("name")
    name.clear()
    name.send_keys('magpie <b>"')
    before = len(entries(root))
    click("#rename button")
    until(lambda: len(entries(root)) == before + 1)
    until(lambda: at("shown-title").text == 'magpie <b>"')
    teach.refresh()
    until(lambda: at("teach").is_displayed())
    assert 'magpie <b>"' in at("kinds").text
    number = len(driver.find_elements("css selector", "#kinds [data-view]"))
    click("#merge")
    until(lambda: len(driver.find_elements("css selector", "#kinds [data-view]")) == number - 1)
    click("#undo")
    until(lambda: len(driver.find_elements("css selector", "#kinds [data-view]")) == number)
    assert any(row["label"] == 'magpie <b>"' for row in table(root))


def test_pictures_get_a_domain_by_touch_or_mouse_and_a_domain_is_split(teach, root, at, driver, click):
    def done(number):
        """The last action, once the page shows that there are so many."""
        until(lambda: at("saved").text.startswith(f"{number} action"))
        return entries(root)[-1]

    show_all(driver, at)
    before = len(entries(root))
    places = [
        int(tile.get_attribute("data-place")) for tile in driver.find_elements("css selector", ".tile")[:2]
    ]
    for place in places:
        click(f'.tile[data-place="{place}"]')
    assert at("count").text == "2 of 20 selected"
    click("#give")
    given = done(before + 1)
    assert (given["do"], given["pictures"]) == ("give", sorted(places))
    click(f'.tile[data-place="{places[0]}"]')
    click("#leave-out")
    assert done(before + 2)["pictures"] == places[:1]
    labels = {row["picture"]: row["label"] for row in table(root) if row["by"] == "person"}
    assert len(labels) == 1
    click(f'.tile[data-place="{places[0]}"]')
    click("#forget")
    assert done(before + 3)["do"] == "forget"
    click("#kinds [data-view]")
    split = driver.find_element("css selector", "#kinds [data-view]")
    size = int(split.find_element("css selector", ".meta").text)
    number = int(split.get_attribute("data-view"))
    click("#split")
    found = done(before + 4)
    assert (found["do"], found["domain"]) == ("split", number)
    assert 0 < len(found["part"]) < size
    click("#undo")
    done(before + 5)


def test_training_continues_with_the_labels_by_a_click(teach, root, at, driver, click, fake, keys):
    show_all(driver, at)
    before = len(entries(root))
    click(".tile")
    click("#give")
    until(lambda: len(entries(root)) == before + 1)
    click("#go button")
    until(lambda: "/train?run=" in driver.current_url)
    card = '.run[data-run*="birds"][data-state="starting"]'
    until(lambda: driver.find_elements("css selector", card))
    given = job(root / "birds taught")
    assert given[:2] == ["train", str(root / "birds taught" / "studio" / "trained-on.csv")]
    assert given[given.index("--from") + 1] == str(root / "birds")
    click(f"{card} button")  # Stop and save
    until(lambda: not jobs.state_of(root / "birds taught").runs)


def test_changes_in_another_tab_are_shown(teach, driver, root, at, keys):
    show_all(driver, at)
    first, page = driver.current_window_handle, driver.current_url
    driver.switch_to.new_window("tab")
    driver.get(page)
    until(lambda: at("teach").is_displayed())
    second = driver.current_window_handle
    driver.switch_to.window(first)
    driver.execute_script("document.activeElement.blur()")
    add = at("add-name")
    add.send_keys("owl")
    driver.find_element("css selector", "#add button").click()
    until(lambda: "owl" in at("kinds").text)
    driver.switch_to.window(second)
    driver.execute_script("document.querySelector('.tile').click()")
    keys("1")
    until(lambda: "owl" in at("kinds").text)  # at once, or by the check every few seconds
    driver.close()
    driver.switch_to.window(first)


@pytest.mark.parametrize("width", [DESKTOP], ids=["desktop"], indirect=True)
def test_after_a_refused_action_nothing_has_to_be_done_again(teach, driver, at, click):
    show_all(driver, at)
    assert (
        driver.execute_script("return getComputedStyle(document.querySelector('.tile')).borderBottomWidth")
        == "4px"
    )
    driver.execute_script(
        """const real = window.fetch;
        window.fetch = (address, how) => String(address).endsWith("/teach/act")
          ? Promise.resolve(new Response('{"error": "not now"}', {status: 409})) : real(address, how);"""
    )
    click(".tile")
    click("#give")
    until(lambda: at("notice").text == "Not now")
    assert at("count").text.startswith("1 of ")
    at("add-name").send_keys("owl")
    click("#add button")
    until(lambda: driver.execute_script("return document.querySelector('#add-name').value") == "owl")
    click("#kinds [data-view]")
    at("name").send_keys("half a name")
    typed = at("name").get_property("value")
    click(".tile")
    assert at("name").get_property("value") == typed


@pytest.mark.parametrize("part", ["runs/birds/teach", "train?run=birds"])
def test_nothing_is_wider_than_the_window_and_no_error_is_logged(driver, address, width, part):
    driver.get(f"{address}/{part}")
    until(lambda: driver.find_elements("css selector", ".tile, .chart"))
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    unlabelled = """return [...document.querySelectorAll("button, input, select, [role=option]")].filter(
      (one) => one.checkVisibility() && !one.textContent.trim() && !one.ariaLabel && !one.labels?.length).length"""
    assert driver.execute_script(unlabelled) == 0
    log = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [line for line in log if "400" not in line and "409" not in line] == []


def test_a_folder_is_looked_at_and_a_training_started_stopped_and_compared(
    driver, address, root, runs, at, click, fake
):
    def lines():
        """How many runs the first chart compares."""
        return driver.execute_script(
            "return document.querySelector('.chart')?.querySelectorAll('polyline').length"
        )

    driver.get(f"{address}/train?run=birds")
    click("#new summary")
    folder = at("order").find_element("name", "folder")
    next(one for one in folder.find_elements("tag name", "option") if one.text == "pictures/jays").click()
    click("#look")
    until(lambda: at("findings").text == "said by prepare")
    at("order").find_element("name", "name").send_keys("jays")
    at("order").find_element("name", "steps").send_keys("9")
    click("#start")
    card = '.run[data-run="jays"]'
    until(lambda: driver.find_elements("css selector", f'{card}[data-state="starting"]'))
    given = job(root / "jays")
    assert given[:2] == ["train", str(runs.parent / "pictures" / "jays")]
    assert given[given.index("--steps") + 1] == "9"
    until(lambda: "said by train" in at("logs").text)
    click(f"{card} button")  # Stop and save
    until(lambda: driver.find_elements("css selector", f'{card}[data-state="stopped"]'))

    # A run with a curve, to compare with: both are chosen, so both have a line.
    log = (root / "birds" / "metrics.jsonl").read_text()
    (root / "jays" / "metrics.jsonl").write_text(log)
    until(lambda: lines() == 2)
    to_translate = driver.find_element("css selector", '.run[data-run="birds"] a[href$="/translate"]')
    assert to_translate.get_attribute("href") == f"{address}/runs/birds/translate"
    click(f"{card} input[type=checkbox]")
    until(lambda: lines() == 1)


@pytest.mark.parametrize("width", [DESKTOP], ids=["desktop"], indirect=True)
def test_a_press_that_lasts_longer_than_the_time_between_updates_is_a_click(driver, address, root, at):
    from selenium.webdriver import ActionChains

    def curves():
        return driver.execute_script("return document.querySelector('#charts').innerHTML")

    driver.get(f"{address}/train?run=birds")
    until(lambda: "polyline" in curves())
    before = curves()
    box = driver.find_element("css selector", '[data-run="birds"] input[type=checkbox]')
    ActionChains(driver).click_and_hold(box).perform()
    log = root / "birds" / "metrics.jsonl"
    last = json.loads(log.read_text().splitlines()[-1])
    with log.open("a") as file:
        file.write(json.dumps(last | {"step": last["step"] + 1}) + "\n")
    until(lambda: curves() != before)  # the page has been updated
    ActionChains(driver).release().perform()
    until(lambda: "run=birds" not in driver.current_url)


@pytest.mark.parametrize("width", [DESKTOP], ids=["desktop"], indirect=True)
def test_a_log_that_was_closed_stays_closed_and_keeps_the_focus(driver, address, root):
    driver.get(f"{address}/train?run=birds")
    until(lambda: driver.find_elements("css selector", "#logs details[open]"))
    driver.find_element("css selector", "#logs summary").click()
    until(lambda: driver.find_elements("css selector", "#logs details:not([open])"))
    held = """const summary = document.querySelector('#logs summary'), live = document.getElementById('live');
    return [document.activeElement === summary, live.firstChild === (window.said ??= live.firstChild)]"""
    assert driver.execute_script(held) == [True, True]
    output = root / "birds" / "studio" / "train.log"
    output.parent.mkdir(exist_ok=True)
    with output.open("a") as file:
        file.write("a new line\n")
    until(
        lambda: "a new line" in driver.find_element("css selector", "#logs pre").get_property("textContent")
    )
    assert driver.find_elements("css selector", "#logs details:not([open])")
    assert driver.execute_script(held) == [True, True]  # the focus; and the state was not read aloud again


@pytest.mark.parametrize("width", [DESKTOP], ids=["desktop"], indirect=True)
def test_a_run_is_watched_and_resumed(driver, address, root, at):
    driver.get(f"{address}/train?run=birds")
    until(lambda: driver.find_elements("css selector", ".chart polyline"))
    until(lambda: driver.execute_script("return document.querySelector('#samples img').naturalWidth") > 0)
    card = '[data-run="birds"]'
    driver.find_element("css selector", f"{card} input[inputmode]").send_keys("14")
    buttons = driver.find_elements("css selector", f"{card} button")
    next(button for button in buttons if button.text == "Resume").click()
    until(lambda: jobs.state_of(root / "birds") == jobs.State(jobs.FINISHED, 14, 14), 400, 0.3)
    until(lambda: "step 14 of 14" in driver.find_element("css selector", card).text)


@pytest.fixture
def unusable(runs):
    """A folder with a file that is no picture, among those of the studio."""
    folder = runs.parent / "pictures" / "unusable"
    folder.mkdir()
    (folder / "a.png").write_text("no picture")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("width", [DESKTOP], ids=["desktop"], indirect=True)
def test_a_training_that_is_impossible_is_reported_on_the_page(driver, address, root, at, unusable):
    driver.get(f"{address}/train")
    driver.find_element("css selector", "#new summary").click()
    choice = driver.find_element("name", "folder")
    next(option for option in choice.find_elements("tag name", "option") if "unusable" in option.text).click()
    driver.find_element("name", "name").send_keys("no pictures")
    at("start").click()
    until(lambda: driver.find_elements("css selector", '.run[data-state="failed"] .notice'), 400, 0.3)
    said = driver.find_element("css selector", '.run[data-state="failed"] .notice').text
    assert "holds no picture that can be used" in said
