"""A newcomer's clock: from `pip install` to the first translation of their own pictures in the studio, without code.

    pip wheel . --no-deps -w build && python benchmarks/newcomer.py build/tunit-*.whl PHOTOS

Does what docs/studio.md, "The first time", tells: installs the wheel into a new environment, starts the studio in the
folder around a copy of PHOTOS, and, in a headless Chromium, trains and translates. It is measured how long each part
takes. The person's own part is estimated by the keystroke-level model (Card, Moran and Newell, 1980): 1.1 s to
point, 0.1 s for each press or release of the button, 0.28 s for each key, 0.4 s between mouse and keyboard, 1.35 s to
think before each action; and reading at 200 words a minute: that section, and every page (of a run in training its
card, not its curves and its log).
"""

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import write

ROOT = Path(__file__).parent.parent
POINT, CLICK, KEY, HANDS, THINK, READ = 1.1, 0.2, 0.28, 0.4, 1.35, 60 / 200
ENVIRONMENT = {
    k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "OMP_NUM_THREADS")
}  # a newcomer has neither
# What is shown, without curves, samples and log, and of a choice only what is chosen.
SHOWN = """
const kinds = ["h1", "h2", "p", "label", "b", "button", "a", "summary"].map((kind) => `main ${kind}`);
const read = (one) => one.checkVisibility() && !one.closest("#watch");
return [...document.querySelectorAll(kinds)].filter(read).map((one) => {
  const copy = one.cloneNode(true);
  for (const choice of copy.querySelectorAll("select")) choice.replaceWith(choice.selectedOptions[0]?.text ?? "");
  return copy.textContent.replace(/\\s+/g, " ").trim();
}).join("\\n");
"""
COMMANDS = ("python -m venv .venv", ". .venv/bin/activate", 'pip install "tunit[studio]"', "tunit studio")


class Person:
    """Uses the pages, and counts what a person would need for it."""

    def __init__(self, driver: Any) -> None:
        self.driver, self.clicks, self.keys = driver, 0, 0
        self.words: dict[str, int] = {}  # read on each page
        self.seen: set[str] = set()

    def read(self) -> None:
        """Reads each line of the page that was not on it before; a line with another number is no new one."""
        page = self.driver.title.split(" - ")[0].split(" with ")[0]
        text = self.driver.execute_script(SHOWN)
        for line in (re.sub(r"\d+", "0", line) for line in text.splitlines()):
            self.words[page] = self.words.get(page, 0) + (0 if line in self.seen else len(line.split()))
            self.seen.add(line)

    def find(self, selector: str, seconds: float = 60) -> Any:
        """The element, as soon as it can be used."""
        end = time.monotonic() + seconds
        while True:
            for one in self.driver.find_elements("css selector", selector):
                if one.is_enabled():
                    return one
            if time.monotonic() > end:
                raise SystemExit(
                    f"{selector} did not appear; the page says: {self.driver.page_source[:20000]}"
                )
            time.sleep(0.1)

    def click(self, selector: str) -> None:
        found = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        found.click()
        self.clicks += 1
        self.read()

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self.find(selector).send_keys(text)
        self.keys += len(text)

    def choose(self, selector: str, text: str) -> None:
        self.click(selector)
        options = self.find(selector).find_elements("tag name", "option")
        next(one for one in options if one.text.endswith(text)).click()
        self.clicks += 1

    def seconds(self, guide: str) -> dict[str, Any]:
        """Seconds of the person for everything, the commands and the guide's words included."""
        typed = sum(len(line) + 1 for line in COMMANDS)
        actions = self.clicks + len(COMMANDS)
        words = len(re.sub(r"\]\(.*?\)|```", " ", guide).split()) + sum(self.words.values())
        return {
            "clicks": self.clicks,
            "keys": self.keys + typed,
            "words": words,
            "words on each page": self.words,
            "acting, seconds": self.clicks * (POINT + CLICK)
            + (self.keys + typed) * KEY
            + actions * (THINK + HANDS),
            "reading, seconds": words * READ,
        }


def browser() -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_window_size(1280, 900)
    return driver


def installed(wheel: Path, folder: Path) -> Path:
    """The new environment's command."""
    subprocess.run(["python3", "-m", "venv", str(folder / ".venv")], check=True)
    pip = [
        str(folder / ".venv" / "bin" / "pip"),
        "install",
        "--quiet",
        f"tunit[studio] @ {wheel.resolve().as_uri()}",
    ]
    subprocess.run(pip, check=True, env=ENVIRONMENT)
    return folder / ".venv" / "bin" / "tunit"


def first_translation(person: Person, steps: int, picture: Path, clock: Any) -> None:
    """Train and translate as the guide tells."""
    person.read()
    person.click('a[href="/train"].button')
    person.click("#new summary")
    person.choose('[name="folder"]', "/photos")
    person.click("#look")
    person.find("#look:enabled", 600)
    person.read()
    clock("looking at the pictures")
    person.type('[name="name"]', "first")
    person.type('[name="steps"]', str(steps))
    person.click("#start")
    card = '.run[data-run="first"]'
    person.find(f'{card}[data-state="finished"], {card}[data-state="failed"]', 3600)
    person.read()
    clock("training")
    person.click(f'{card} a[href$="/translate"]')
    person.find("#source-file").send_keys(str(picture))  # its own dialog: two clicks more
    person.clicks += 3
    person.click("#grid-draw")
    person.find("#grid img")
    person.read()
    clock("the first translation, in every domain")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="copy the run and a screenshot to this folder")
    args = parser.parse_args()
    guide = (ROOT / "docs" / "studio.md").read_text().split("## The first time")[1].split("\n## ")[0]
    parts: dict[str, float] = {}
    result: dict[str, Any] = {"pictures": len(list(args.photos.iterdir())), "steps": args.steps}
    result["load before"], began = os.getloadavg()[0], time.monotonic()

    def clock(part: str) -> None:
        parts[part] = time.monotonic() - began - sum(parts.values())
        print(f"{part}: {parts[part]:.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(args.photos, folder / "photos")
        tunit = installed(args.wheel, folder)
        clock("installing")
        studio = subprocess.Popen(
            [tunit, "studio", "--port", "0"], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
        )
        driver = browser()
        try:
            said = studio.stdout.readline() if studio.stdout else ""
            while "http" not in said:
                said = studio.stdout.readline() if studio.stdout else ""
            driver.get(said.split()[said.split().index("at") + 1].rstrip("."))
            clock("starting the studio")
            person = Person(driver)
            picture = next(iter(sorted((folder / "photos").iterdir())))
            first_translation(person, args.steps, picture, clock)
            if args.keep:
                args.keep.mkdir(parents=True, exist_ok=True)
                driver.execute_script("scrollTo(0, 0)")
                driver.save_screenshot(str(args.keep / "translate.png"))
                shutil.copytree(folder / "first", args.keep / "first", dirs_exist_ok=True)
        finally:
            driver.quit()
            studio.terminate()
            studio.wait()
    own = person.seconds(guide)
    spent = own["acting, seconds"] + own["reading, seconds"]
    result |= {
        "load after": os.getloadavg()[0],
        "waiting, seconds": parts,
        "waiting, seconds in all": sum(parts.values()),
    }
    result |= {
        "person": own,
        "person, seconds in all": spent,
        "minutes in all": (spent + sum(parts.values())) / 60,
    }
    print(write("newcomer", result).read_text())


if __name__ == "__main__":
    main()
