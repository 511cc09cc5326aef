"""Reads a page's elements without a browser, and starts a headless Chromium if it is installed."""

import html.parser
import os
import shutil
import time
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
WIDTHS = {"phone": 360, "tablet": 800, "desktop": 1400}  # in CSS pixels


class Elements(html.parser.HTMLParser):
    """`found`: the elements of a page in order. Each has its tag and its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@contextmanager
def headless_chromium(*flags, requests=False):
    """A browser driver. Its log `browser` has the console's messages.

    If no browser is installed, the test is skipped; in CI it fails. requests: also log every request, in
    `performance`.
    """
    if not (CHROMIUM and DRIVER):
        if os.environ.get("CI"):
            pytest.fail("the browser test needs chromium and chromium-driver: see .ci/packages.txt")
        pytest.skip("no chromium and chromedriver here")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *flags):
        options.add_argument(flag)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL"} | ({"performance": "ALL"} if requests else {})
    )
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def resized(driver, width):
    """Gives the browser the width of a device; below 700 CSS pixels it behaves like a phone's."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def until(condition, seconds=90, every=0.05):
    """Waits until a condition is true; returns its value.

    A page may replace an element between finding and reading it; then the condition is not true yet.
    """
    from selenium.common.exceptions import StaleElementReferenceException

    end = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except StaleElementReferenceException:
            pass
        assert time.monotonic() < end, "never true"
        time.sleep(every)
