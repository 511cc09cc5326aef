"""The page that runs a model in the browser: opened in Chromium and compared with PyTorch."""

import base64
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from browser import headless_chromium
from tiny_model import SIZE, noise, save_tiny, to_input
from tunit.cli import main
from tunit.data.packing.fit import FIT_MODES, fit_picture
from tunit.errors import ConfigError
from tunit.files.result_names import RUNTIME_FILES
from tunit.reporting import browser_runtime
from tunit.reporting.browser_runtime import find_runtime
from tunit.translation.translator import Translator

RAW = 1e-3  # networks in WebAssembly and in PyTorch differ only by rounding
LEVELS = 1  # levels of 0 to 255, after both results are rounded to 8 bits
SHAPES = (
    (SIZE, SIZE),
    (50, 75),
    (401, 300),
    (33, 31),
)  # (height, width): the model's size, larger, so large that it is averaged in blocks first, odd


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder `out` with the page, next to its run."""
    folder = tmp_path_factory.mktemp("page")
    save_tiny(folder / "run")
    try:
        find_runtime()
    except ConfigError as error:
        pytest.skip(f"no onnxruntime-web: {error}")
    assert main(["export", str(folder / "run"), "--format", "browser", "--out", str(folder / "out")]) == 0
    return folder


@pytest.fixture(scope="module")
def translator(page):
    return Translator.load(page / "run", device="cpu")


class Served(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def browser(page):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=page / "out"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with headless_chromium(requests=True) as driver:
        driver.set_script_timeout(60)
        driver.get(f"http://127.0.0.1:{server.server_address[1]}/index.html")
        waiting(driver, 120).until(lambda d: "Loading" not in d.find_element("id", "message").text)
        assert driver.execute_script("return document.body.dataset.ready"), said(driver)
        yield driver
    server.shutdown()
    server.server_close()


def said(browser):
    return browser.find_element("id", "message").text


def waiting(browser, seconds=60):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, seconds, poll_frequency=0.05)


def settled(browser, text):
    waiting(browser).until(lambda d: said(d) == text)


def shows(browser, expected):
    """Waits until the page shows a result: "Done." alone may be about the one before."""
    waiting(browser).until(lambda d: said(d) == "Done." and levels_apart(d, expected) <= LEVELS)


def set_strength(browser, value):
    slider = browser.find_element("id", "strength")
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, value
    )


def asked(browser, script, *values):
    """The result of asynchronous JavaScript, which may import the page's modules; `given` holds the values."""
    whole = f"""const done = arguments[arguments.length - 1], given = arguments;
    (async () => {{ {script} }})().then(done, (error) => done(String(error)));"""
    answer = browser.execute_async_script(whole, *values)
    assert not isinstance(answer, str), answer
    return answer


def written(seed, shape):
    data = io.BytesIO()
    Image.fromarray(noise(seed, *shape)).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def redrawn(browser):
    uri = browser.execute_script("return document.getElementById('result').toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def saved(folder, name, seed, shape):
    path = folder / name
    Image.fromarray(noise(seed, *shape)).save(path)
    return path


def levels_apart(browser, image):
    return np.abs(redrawn(browser) - np.asarray(image).astype(int)).max()


def test_the_networks_give_the_same_as_pytorch(browser, page, translator):
    model = translator.model
    for seed in range(3):
        x, style = to_input(noise(seed)), torch.randn(model.settings.style_width)
        with torch.no_grad():
            expected = model.guide(x).style[0].numpy(), model.generator(x, style[None])[0].numpy().ravel()
        script = """const page = await import("./page.js"), x = Float32Array.from(given[0]);
        return [Array.from(await page.styleOf(x)), Array.from(await page.drawn(x, Float32Array.from(given[1])))];"""
        answer = asked(browser, script, x.flatten().tolist(), style.tolist())
        for ours, theirs in zip(expected, answer, strict=True):
            assert np.abs(ours - theirs).max() <= RAW * max(1, np.abs(ours).max())


@pytest.mark.parametrize("fit", FIT_MODES)
def test_pictures_are_fitted_as_in_training(browser, fit):
    script = """const { square } = await import("./picture.js");
    const file = new File([Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0))], "a.png");
    return Array.from((await square(file, { image_size: given[2], fit: given[1], background: [250, 10, 99] })).x);"""
    for seed, shape in enumerate(SHAPES):
        theirs = np.array(asked(browser, script, written(seed, shape), fit, SIZE)).reshape(3, SIZE, SIZE)
        pixels = fit_picture(Image.fromarray(noise(seed, *shape)), SIZE, fit, (250, 10, 99))
        ours = pixels.astype(np.float64).transpose(2, 0, 1)
        assert np.abs((theirs + 1) * 127.5 - ours).max() <= LEVELS + 1e-3, (fit, shape)


def test_a_picture_a_style_and_a_translation(browser, translator, tmp_path):
    exact, large = (saved(tmp_path, f"{i}.png", i, shape) for i, shape in ((1, SHAPES[0]), (2, SHAPES[1])))
    browser.find_element("id", "source").send_keys(str(exact))
    settled(browser, "Now choose a style.")
    for domain in (2, 0):
        browser.find_element("css selector", f"[data-number='{domain}']").click()
        shows(browser, translator.translate(exact, domain=domain))
    browser.find_element("id", "reference").send_keys(str(large))
    with Image.open(large) as image:
        seen = fit_picture(image, SIZE, translator.model.fit)
    for strength in (1.0, 0.5, 1.0):
        set_strength(browser, strength)
        shows(browser, translator.translate(exact, seen, strength=strength))


def test_a_picture_is_dropped_onto_the_page(browser, translator, tmp_path):
    """The browser itself dispatches the events, as for a file from the desktop."""
    exact = saved(tmp_path, "dropped.png", 7, SHAPES[0])
    browser.find_element("css selector", "[data-number='2']").click()
    place = browser.execute_script("""const drop = document.getElementById("source-drop");
    drop.scrollIntoView({ block: "center" });
    const { left, top } = drop.getBoundingClientRect();
    return { x: left + 10, y: top + 10 };""")
    data = {"items": [], "files": [str(exact)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    shows(browser, translator.translate(exact, domain=2))


BROKEN = "broken.png is not a picture that this browser can read: give a PNG, JPEG or WebP file."


def broken(folder):
    path = folder / "broken.png"
    path.write_text("no picture")
    return path


def test_a_file_that_is_not_a_picture_is_one_sentence(browser, tmp_path):
    browser.find_element("id", "source").send_keys(str(broken(tmp_path)))
    settled(browser, BROKEN)


def test_a_picture_that_is_chosen_while_the_model_is_being_loaded_is_shown(browser, tmp_path):
    source = """const real = window.fetch, allowed = new Promise((done) => (window.allow = done));
    window.fetch = async (...all) => (await allowed, real(...all));"""
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    try:
        browser.refresh()
        browser.find_element("id", "source").send_keys(str(saved(tmp_path, "early.png", 5, SHAPES[0])))
        browser.execute_script("allow()")
        settled(browser, "Now choose a style.")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


SLOWLY = """
const { prototype } = (await import("./runtime/ort.wasm.min.mjs")).InferenceSession, { run } = prototype;
prototype.run = async function (...all) {
  await new Promise((done) => setTimeout(done, 1000));
  return run.apply(this, all);
};
window.asBefore = () => (prototype.run = run);
return 1;
"""


def test_a_result_that_follows_does_not_hide_the_sentence_about_a_file(browser, translator, tmp_path):
    exact = saved(tmp_path, "a.png", 1, SHAPES[0])
    browser.find_element("id", "source").send_keys(str(exact))
    browser.find_element("css selector", "[data-number='2']").click()
    shows(browser, translator.translate(exact, domain=2))
    asked(browser, SLOWLY)
    try:
        set_strength(browser, 0.5)
        browser.find_element("id", "source").send_keys(str(broken(tmp_path)))
        settled(browser, BROKEN)
        expected = translator.translate(exact, domain=2, strength=0.5)
        waiting(browser).until(lambda d: levels_apart(d, expected) <= LEVELS)
        assert said(browser) == BROKEN
    finally:
        browser.execute_script("asBefore()")
    set_strength(browser, 1)
    shows(browser, translator.translate(exact, domain=2))


def test_nothing_leaves_the_computer(browser):
    """By the browser's own log, all requests go to the page's origin; and a script that tries another one is
    blocked.
    """
    origin = browser.current_url.rpartition("/")[0] + "/"
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [entry["params"]["request"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
    assert {request["url"] for request in sent} >= {origin + "page.js", origin + "translator.onnx"}
    outside = [
        request["url"] for request in sent if not request["url"].startswith((origin, "blob:", "data:"))
    ]
    assert outside == []
    assert {request["method"] for request in sent} == {"GET"}
    other = "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), (e) => done(e.name))"
    browser.get_log("browser")
    assert browser.execute_async_script(other) == "TypeError"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_the_page_fits_on_a_phone(browser):
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_has_all_its_files(page):
    about = json.loads((page / "out" / "export.json").read_text())
    assert [entry["file"] for entry in about["files"]] == ["style_encoder.onnx", "translator.onnx"]
    assert all(domain["thumbnail"] is None for domain in about["domains"])  # the run contains no pictures
    assert all((page / "out" / "runtime" / name).is_file() for name in RUNTIME_FILES)


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A fake npm whose archive contains files of this test; returns these files."""
    files = {name: name.encode() * 3 for name in RUNTIME_FILES}
    with tarfile.open(tmp_path / "brought", "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "npm"
    script.write_text(
        f"#!/bin/sh\necho once >> {tmp_path}/called\ncp {tmp_path}/brought onnxruntime-web.tgz\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path / "cache"))
    return files


def test_files_from_npm_are_checked_and_cached(npm, tmp_path, monkeypatch):
    with pytest.raises(
        ConfigError, match=r"what npm downloaded is not onnxruntime-web@.* SHA-256 .*--runtime"
    ):
        find_runtime()
    right = {name: hashlib.sha256(data).hexdigest() for name, data in npm.items()}
    monkeypatch.setattr(browser_runtime, "CHECKSUMS", right)
    found = find_runtime()
    assert {path.name: path.read_bytes() for path in found.iterdir()} == npm
    assert find_runtime() == find_runtime(found) == found
    assert (tmp_path / "called").read_text() == "once\nonce\n"
    (found / next(iter(npm))).write_bytes(b"other")
    with pytest.raises(ConfigError, match="SHA-256 sums differ"):
        find_runtime(found)


def test_if_npm_is_missing_or_fails_one_sentence_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"there is no npm here to fetch it: call `npm install"):
        find_runtime()
    (tmp_path / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(ConfigError, match=r"npm cannot fetch onnxruntime-web@\S+ \(no network\)"):
        find_runtime()
    save_tiny(tmp_path / "run")
    run = str(tmp_path / "run")
    assert main(["export", run, "--format", "browser", "--runtime", "nowhere"]) == 2
    assert "nowhere does not hold onnxruntime-web" in capsys.readouterr().err
    assert main(["export", run, "--no-pictures"]) == 2
    assert "are for --format browser" in capsys.readouterr().err


def test_thumbnails_of_an_earlier_page_do_not_stay(tmp_path, monkeypatch):
    def write(run, model, folder, *others, pictures):
        if pictures:
            (folder / "domains").mkdir()
            (folder / "domains" / "domain_0.webp").touch()
        return {}

    monkeypatch.setattr("tunit.reporting.browser_folder.write_browser_folder", write)
    monkeypatch.setattr("tunit.reporting.browser_runtime.find_runtime", lambda given: tmp_path)
    save_tiny(tmp_path / "run")
    words = ["export", str(tmp_path / "run"), "--format", "browser", "--out", str(tmp_path / "page")]
    shown = tmp_path / "page" / "domains"
    assert main(words) == 0
    (shown / "domain_5.webp").touch()
    assert main([*words, "--overwrite"]) == 0
    assert [path.name for path in shown.iterdir()] == ["domain_0.webp"]
    assert main([*words, "--overwrite", "--no-pictures"]) == 0
    assert not shown.exists()
    shown.mkdir()  # somebody's own
    assert main([*words, "--overwrite", "--no-pictures"]) == 0
    assert shown.is_dir()
