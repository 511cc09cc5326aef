"""A page of the studio in a browser."""

import base64
import io
import time

import numpy as np
from PIL import Image

from browser import WIDTHS, resized

DESKTOP = WIDTHS["desktop"]


class Page:
    """A page in the browser, at a given width."""

    def __init__(self, browser, server, width=DESKTOP):
        self.browser, self.server, self.width = browser, server, width

    def open(self, address, width=None):
        resized(self.browser, width or self.width)
        self.browser.get(self.server + address)

    def away(self):
        """Moves the mouse away from everything: where it was left, it would point at things."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        actions = ActionBuilder(self.browser)
        actions.pointer_action.move_to_location(0, 0)
        actions.perform()

    def do(self, script, *values):
        return self.browser.execute_script(script, *values)

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def wait(self, script, *values):
        """Waits until a JavaScript expression is true; returns its value."""
        end = time.monotonic() + 90
        while time.monotonic() < end:
            value = self.do(f"return {script}", *values)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}; notice: {self.one('#notice').text}")

    def settle(self):
        """Waits for answers that are under way, and for the page to show them."""
        self.browser.execute_async_script("setTimeout(arguments[0], 1000)")

    def click(self, selector):
        # Scroll first: the bar at the top of the page would cover it.
        self.do("arguments[0].scrollIntoView({block: 'center'})", element := self.one(selector))
        element.click()

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def choose(self, selector, value):
        event = (
            "arguments[0].dispatchEvent(new Event('input')); arguments[0].dispatchEvent(new Event('change'))"
        )
        self.do(f"arguments[0].value = arguments[1]; {event}", self.one(selector), value)

    def add_domain(self, number):
        """Adds a domain to the mix of styles in Translate."""
        self.choose("#domain-add", number)
        self.click("#domain-form button")

    def blob(self, source):
        """The picture that an <img> shows, decoded."""
        # While the page gives it another picture, it has none; then try again.
        script = """const [selector, done] = arguments; const i = document.querySelector(selector);
        const read = () => {
          const c = document.createElement('canvas'); c.width = i.naturalWidth; c.height = i.naturalHeight;
          c.getContext('2d').drawImage(i, 0, 0); done(c.toDataURL());
        };
        const look = () => i.decode().then(read, () => setTimeout(look, 20));
        look();"""
        data = self.browser.execute_async_script(script, source)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB"))

    def silence(self, part):
        """Lets requests fail whose address ends with `part`, as if the studio had ended; "" for none any more."""
        self.do(
            """const [part] = arguments, real = (window.real ??= window.fetch);
            window.fetch = (address, how) => part && String(address).endsWith(part)
              ? Promise.reject(new TypeError("no answer")) : real(address, how);""",
            part,
        )

    def contrasts(self, *pairs):
        """The contrast, as WCAG defines it, of pairs (expression for a colour, expression for the one behind it)."""
        script = """const at = (selector, part) => getComputedStyle(document.querySelector(selector), part);
        const light = (colour) => {
          const [r, g, b] = colour.match(/\\d+/g).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
        return [PAIRS].map(([a, b]) => [light(a), light(b)]).map(([a, b]) => Math.max(a, b) / Math.min(a, b))"""
        return self.do(script.replace("PAIRS", ", ".join(f"[{a}, {b}]" for a, b in pairs)))

    def in_schemes(self):
        """Shows the page in light and then in dark."""
        try:
            for scheme in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                self.browser.execute_async_script(
                    "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
                )
                yield scheme
        finally:
            self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def errors(self):
        """The console's messages except information; each refused request is one message."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]

    def sticks_out(self, width):
        return self.do("return document.documentElement.scrollWidth") > width
