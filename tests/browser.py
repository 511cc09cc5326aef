"""A page's elements without a browser, and a real headless Chromium where there is one."""

import html.parser
import os
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


class Elements(html.parser.HTMLParser):
    """`found`: the elements of a page in order, each a tag and its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@contextmanager
def headless_chromium(*flags, requests=False):
    """A driver whose console's entries are in the log `browser`. Skips where there is none, and fails in CI.

    requests: whether all that it asks for is in the log `performance`.
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
