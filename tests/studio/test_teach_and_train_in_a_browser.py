"""Teach and Train in a real browser, by keyboard and by mouse, at three widths."""

import csv
import json
import shutil
import threading
import time

import pytest
import uvicorn

from browser import headless_chromium
from tunit.studio import jobs
from tunit.studio.app import create_app
from tunit.studio.workspace import Workspace


@pytest.fixture(scope="module")
def root(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser") / "runs"
    shutil.copytree(runs / "birds", folder / "birds")
    return folder


@pytest.fixture(scope="module")
def address(root, runs):
    """A studio that serves on a real port."""
    app = create_app(Workspace(root, (runs.parent / "pictures",), device="cpu"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def driver():
    with headless_chromium() as found:
        found.set_window_size(1280, 900)
        yield found


def until(condition, seconds=90, every=0.05):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(every)
    return found


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


def table(root):
    with (root / "birds" / "studio" / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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


def test_domains_are_named_and_merged_by_mouse_and_kept_after_a_reload(teach, root, at, driver):
    name = at("name")
    name.clear()
    name.send_keys('magpie <b>"')
    before = len(entries(root))
    driver.find_element("css selector", "#rename button").click()
    until(lambda: len(entries(root)) == before + 1)
    until(lambda: at("shown-title").text == 'magpie <b>"')
    teach.refresh()
    until(lambda: at("teach").is_displayed())
    assert 'magpie <b>"' in at("kinds").text
    number = len(driver.find_elements("css selector", "#kinds [data-view]"))
    at("merge").click()
    until(lambda: len(driver.find_elements("css selector", "#kinds [data-view]")) == number - 1)
    at("undo").click()
    until(lambda: len(driver.find_elements("css selector", "#kinds [data-view]")) == number)
    assert any(row["label"] == 'magpie <b>"' for row in table(root))


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


@pytest.mark.parametrize("part", ["runs/birds/teach", "train?run=birds"])
def test_nothing_is_wider_than_the_window_and_no_error_is_logged(driver, address, part):
    driver.get(f"{address}/{part}")
    until(lambda: driver.find_elements("css selector", ".tile, .chart"))
    for width in (360, 768, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    unlabelled = """return [...document.querySelectorAll("button, input, select, [role=option]")].filter(
      (one) => one.checkVisibility() && !one.textContent.trim() && !one.ariaLabel && !one.labels?.length).length"""
    assert driver.execute_script(unlabelled) == 0
    log = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [line for line in log if "400" not in line and "409" not in line] == []


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


def test_a_training_that_is_impossible_is_reported_on_the_page(driver, address, root, at):
    driver.get(f"{address}/train")
    driver.find_element("css selector", "#new summary").click()
    driver.find_element("name", "name").send_keys("too few")
    at("start").click()
    until(lambda: driver.find_elements("css selector", '.run[data-state="failed"] .notice'), 400, 0.3)
    said = driver.find_element("css selector", '.run[data-state="failed"] .notice').text
    assert "fewer than the batch size" in said
