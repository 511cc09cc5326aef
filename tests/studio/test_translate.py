"""Translate: sources in styles of all kinds, compared with the public API; and everything that can be wrong."""

import asyncio
import base64
import io
import json
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.datastructures import FormData, UploadFile
from starlette.testclient import TestClient

from tiny_model import noise, tiny_model
from tunit.data.packing.packed import open_packed
from tunit.methods.model_file import save_model
from tunit.studio.app import create_app
from tunit.studio.uploads import picture_of
from tunit.studio.workspace import Workspace
from tunit.translation.translator import Translator
from tunit.translation.walk import between

ADDRESS = "http://127.0.0.1:8765"
BASE = "/runs/birds/translate"


@pytest.fixture(scope="module")
def translator(runs):
    return Translator.load(runs / "birds", device="cpu")


@pytest.fixture(scope="module")
def domain(translator):
    return next(k for k, size in enumerate(translator.domain_sizes) if size)


def png_of(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def post(client, what, source=None, **fields):
    files = {"source": ("me.png", source, "image/png")} if source is not None else None
    return client.post(f"{BASE}/{what}", data=fields, files=files)


def error_of(answer, status=400):
    assert answer.status_code == status, answer.text
    sentence = answer.json()["error"]
    assert len(sentence.splitlines()) == 1
    return sentence


SOURCE = noise(1, 48, 64)
REFERENCE = noise(2)


def test_an_uploaded_source_in_the_style_of_an_uploaded_reference(client, translator):
    about = post(client, "prepare", png_of(REFERENCE)).json()
    assert about["code"] == pytest.approx(translator.style(REFERENCE).tolist(), abs=1e-5)
    assert about["name"] == "me.png"
    style = json.dumps([{"code": about["code"], "weight": 1}])
    drawn = pixels_of(post(client, "draw", png_of(SOURCE), style=style))
    expected = np.asarray(translator.translate(Image.fromarray(SOURCE), REFERENCE))
    assert np.abs(drawn.astype(int) - expected).max() <= 1


def test_the_square_sent_by_the_page_gives_the_same_as_the_picture(client, domain):
    about = post(client, "prepare", png_of(SOURCE)).json()
    square = base64.b64decode(about["picture"].split(",")[1])
    assert Image.open(io.BytesIO(square)).size == (32, 32)
    assert about["size"] == [64, 48]
    assert about["aspect"] == pytest.approx(64 / 48)
    style = json.dumps([{"domain": domain}])
    first = pixels_of(post(client, "draw", square, style=style))
    assert np.array_equal(first, pixels_of(post(client, "draw", png_of(SOURCE), style=style)))


@pytest.mark.parametrize("shape", [(20, 64), (64, 21), (33, 32), (1, 90), (48, 48)])
def test_padding_is_not_part_of_the_source_that_the_page_keeps(tmp_path, shape):
    """Through the page, results have the pixels that the translator itself gives for the file."""
    (tmp_path / "padded").mkdir()
    save_model(tmp_path / "padded", tiny_model("pad"))
    picture = noise(3, *shape)
    expected = Translator.load(tmp_path / "padded", device="cpu").translate(
        Image.fromarray(picture), domain=0
    )
    with TestClient(create_app(Workspace(tmp_path, device="cpu")), base_url=ADDRESS) as client:
        url, style = "/runs/padded/translate", json.dumps([{"domain": 0}])
        about = client.post(f"{url}/prepare", files={"source": ("x.png", png_of(picture))}).json()
        kept = base64.b64decode(about["picture"].split(",")[1])
        drawn = client.post(f"{url}/draw", data={"style": style}, files={"source": ("source.png", kept)})
    assert Image.open(io.BytesIO(kept)).size == expected.size
    assert about["aspect"] == pytest.approx(expected.width / expected.height)
    assert np.abs(pixels_of(drawn).astype(int) - np.asarray(expected)).max() <= 1


def test_a_mix_of_a_domain_a_picture_and_a_code_with_a_strength(client, translator, domain, runs):
    images = open_packed(runs / "birds" / "data").images
    code = torch.linspace(-1, 1, 8)
    mix = [{"domain": domain, "weight": 0.5}, {"row": 3, "weight": 1}, {"code": code.tolist(), "weight": 0.5}]
    style = translator.domain_style(domain) * 0.25 + translator.style(images[3]) * 0.5 + code * 0.25
    drawn = pixels_of(post(client, "draw", row="7", style=json.dumps(mix), strength="0.6"))
    expected = np.asarray(translator.translate(images[7], style=style, strength=0.6))
    assert np.abs(drawn.astype(int) - expected).max() <= 1


def test_an_upload_does_not_bring_pytorch_into_the_process_that_decodes_it():
    form = FormData([("source", UploadFile(io.BytesIO(b"..."), filename="me.png"))])
    source = asyncio.run(picture_of(form, "source"))
    assert source.content.read() == b"..."
    module = type(source.content).__module__
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "False"


def test_the_sources_size_and_transparency(client, translator, domain):
    clear = np.dstack([SOURCE, np.full(SOURCE.shape[:2], 90, np.uint8)])
    style = json.dumps([{"domain": domain}])
    drawn = pixels_of(post(client, "draw", png_of(clear), style=style, own_size="1"))
    assert drawn.shape == (48, 64, 4)
    assert (drawn[..., 3] == 90).all()


def test_every_domain_at_once(client, translator, runs):
    images = open_packed(runs / "birds" / "data").images
    results = post(client, "grid", row="2").json()["results"]
    assert [one["domain"] for one in results] == [k for k, n in enumerate(translator.domain_sizes) if n]
    for one in results:
        png = base64.b64decode(one["image"].split(",")[1])
        expected = np.asarray(translator.translate(images[2], domain=one["domain"]))
        assert np.abs(np.asarray(Image.open(io.BytesIO(png))).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["webp", "gif", "mp4"])
def test_a_walk_begins_and_ends_with_the_chosen_styles(client, translator, domain, kind):
    stops = json.dumps([[{"code": [0.0] * 8}], [{"domain": domain}]])
    answer = post(client, "walk", png_of(REFERENCE), stops=stops, frames="14", kind=kind)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == {"mp4": "video/mp4"}.get(kind, f"image/{kind}")
    if kind == "mp4":
        return
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert kind == "gif" or shown.n_frames == 14  # a GIF joins equal frames
        ends = between(torch.stack([torch.zeros(8), translator.domain_style(domain)]), 14)[[0, -1]]
        for frame, style in zip((0, shown.n_frames - 1), ends, strict=True):
            shown.seek(frame)
            expected = np.asarray(translator.translate(REFERENCE, style=style)).astype(int)
            assert np.abs(np.asarray(shown.convert("RGB")) - expected).mean() < 12


def test_a_walk_to_one_style_begins_with_the_sources_style(client, translator, domain):
    answer = post(client, "walk", png_of(REFERENCE), stops=json.dumps([[{"domain": domain}]]), frames="2")
    with Image.open(io.BytesIO(answer.content)) as shown:
        own = np.asarray(translator.translate(REFERENCE, style=translator.style(REFERENCE))).astype(int)
        assert np.abs(np.asarray(shown.convert("RGB")) - own).mean() < 12


def test_all_results_in_one_archive(client, translator, domain):
    answer = post(client, "zip", png_of(SOURCE), style=json.dumps([{"domain": domain}]))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = archive.namelist()
        assert names == ["mix.png", *(f"domain-{k}.png" for k, n in enumerate(translator.domain_sizes) if n)]
        assert archive.read("mix.png") == archive.read(f"domain-{domain}.png")
    answer = post(client, "zip", png_of(SOURCE))
    assert "mix.png" not in zipfile.ZipFile(io.BytesIO(answer.content)).namelist()


def bomb(width=60_000, height=60_000):
    """A small PNG that claims to be huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"no picture at all", "unreadable"),
        (png_of(SOURCE)[:200], "cannot be used"),
        (bomb(), "--max-pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "unreadable"),
        (b"GIF89a" + bytes(40), "cannot be used"),
        (b"\x80\x04\x95cos\nsystem\n(S'touch /tmp/x'\ntR.", "unreadable"),
    ],
)
def test_an_upload_that_is_not_a_picture_is_one_sentence(client, domain, data, words):
    style = json.dumps([{"domain": domain}])
    for answer in (post(client, "prepare", data), post(client, "draw", data, style=style)):
        sentence = error_of(answer)
        assert sentence.startswith("me.png cannot be used")
        assert words in sentence


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a" * 900 + ".png", "<b>\x1b[2J.png", "\u202e.png"]
)
def test_the_name_of_an_upload_is_only_displayed(client, name):
    answer = client.post(f"{BASE}/prepare", files={"source": (name, b"nothing", "image/png")})
    sentence = error_of(answer)
    assert "unreadable" in sentence
    assert len(sentence) < 300
    assert "\x1b" not in sentence


GOOD = json.dumps([{"domain": 0}])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"style": GOOD}, "there is no source"),
        ({"style": GOOD, "row": "20"}, "there is no picture 20"),
        ({"style": GOOD, "row": "-1"}, "the number of the picture is '-1'"),
        ({"style": GOOD, "row": "../../run.json"}, "the number of the picture is"),
        ({"row": "1"}, "the style cannot be read"),
        ({"row": "1", "style": "[" * 5000}, "the style cannot be read"),
        ({"row": "1", "style": "[]"}, "from 1 to 16 parts"),
        ({"row": "1", "style": json.dumps([{"domain": 0}] * 17)}, "from 1 to 16 parts"),
        ({"row": "1", "style": '{"domain": 0}'}, "from 1 to 16 parts"),
        ({"row": "1", "style": "[3]"}, "a part of a style"),
        ({"row": "1", "style": '[{"domain": 0, "row": 1}]'}, "a part of a style"),
        ({"row": "1", "style": '[{"domain": 99}]'}, "domain 99 does not exist"),
        ({"row": "1", "style": '[{"domain": true}]'}, "a domain is True"),
        ({"row": "1", "style": '[{"domain": "0"}]'}, "a domain is '0'"),
        ({"row": "1", "style": '[{"row": 1e9}]'}, "the number of a picture is 1000000000.0"),
        ({"row": "1", "style": '[{"row": 999}]'}, "there is no picture 999"),
        ({"row": "1", "style": '[{"code": [1, 2]}]'}, "a style code has 8 numbers"),
        ({"row": "1", "style": json.dumps([{"code": [1e300] * 8}])}, "a number of a style code"),
        ({"row": "1", "style": '[{"code": [NaN, 0, 0, 0, 0, 0, 0, 0]}]'}, "a number of a style code"),
        ({"row": "1", "style": '[{"row": 1, "weight": -1}]'}, "a weight is -1"),
        ({"row": "1", "style": '[{"row": 1, "weight": 0}]'}, "all weights"),
        ({"row": "1", "style": GOOD, "strength": "nan"}, "the strength is 'nan'"),
        ({"row": "1", "style": GOOD, "strength": "1e9"}, "the strength is '1e9'"),
        ({"row": "1", "style": GOOD, "strength": "much"}, "the strength is 'much'"),
    ],
)
def test_an_invalid_field_is_one_sentence(client, fields, words):
    assert words in error_of(post(client, "draw", **fields))


def test_a_source_that_is_text_is_one_sentence(client):
    assert "source is a text" in error_of(client.post(f"{BASE}/draw", data={"style": GOOD, "source": "text"}))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"frames": "1"}, "the number of frames is '1'"),
        ({"frames": "100000"}, "from 2 to 120"),
        ({"kind": "exe"}, "kind is 'exe'"),
        ({"stops": "[]"}, "from 1 to 8 stops"),
        ({"stops": json.dumps([[{"row": 1}]] * 9)}, "from 1 to 8 stops"),
        ({"stops": "[{}]"}, "from 1 to 16 parts"),
    ],
)
def test_an_impossible_walk_is_one_sentence(client, fields, words):
    stops = json.dumps([[{"row": 1}], [{"row": 2}]])
    assert words in error_of(post(client, "walk", **({"row": "1", "stops": stops} | fields)))


def test_an_upload_over_the_limit_is_refused(runs, domain):
    workspace = Workspace(runs, device="cpu", max_upload=2000, max_pixels=1000)
    with TestClient(create_app(workspace), base_url="http://localhost") as client:
        assert "--max-upload" in error_of(post(client, "prepare", bytes(5000)), 413)
        assert "--max-pixels" in error_of(post(client, "prepare", png_of(np.zeros((40, 40, 3), np.uint8))))


def test_a_run_without_a_model_says_so(client):
    key = client.get("/").text.split("/runs/")[-1].split("/")[0]
    assert "no model yet" in client.get(f"/runs/{key}/translate").text
    assert "no model yet" in error_of(
        client.post(f"/runs/{key}/translate/draw", data={"row": "1", "style": GOOD})
    )


def test_people_at_the_same_time_get_their_own_results(client, translator, runs):
    from concurrent.futures import ThreadPoolExecutor

    images = open_packed(runs / "birds" / "data").images

    def one(i):
        style = json.dumps([{"row": (i + 5) % 20}])
        return np.asarray(Image.open(io.BytesIO(post(client, "draw", row=str(i), style=style).content)))

    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(one, range(16)))
    for i, picture in enumerate(drawn):
        expected = np.asarray(translator.translate(images[i], images[(i + 5) % 20]))
        assert np.abs(picture.astype(int) - expected).max() <= 1


def test_a_picture_is_drawn_while_others_walk(client, domain, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    begun, may_end, redraw = threading.Event(), threading.Event(), Translator.redraw

    def slow(self, sources, styles, **how):
        if len(styles) > 1:
            begun.set()
            assert may_end.wait(120)
        return redraw(self, sources, styles, **how)

    monkeypatch.setattr(Translator, "redraw", slow)
    stops = json.dumps([[{"row": 1}], [{"row": 2}]])
    with ThreadPoolExecutor(3) as pool:
        try:
            walks = [pool.submit(post, client, "walk", row="1", stops=stops, frames="24") for _ in range(2)]
            assert begun.wait(60)
            time.sleep(1)  # until the other one waits, too
            drawn = pool.submit(post, client, "draw", row="1", style=json.dumps([{"domain": domain}]))
            assert drawn.result(60).status_code == 200
        finally:
            may_end.set()
        assert [walk.result(60).status_code for walk in walks] == [200, 200]


def test_another_strength_of_the_same_source_takes_only_the_decoder(runs, domain):
    app = create_app(Workspace(runs, device="cpu"))
    style = json.dumps([{"domain": domain}])
    with TestClient(app, base_url="http://localhost") as client:
        square = png_of(noise(5))
        post(client, "prepare", square)
        post(client, "draw", square, style=style)
        library = app.state.library
        model = library.translator(library.workspace.run("birds")).model
        computed = []
        for name, network in (("E", model.guide), ("encoder", model.generator.content_encoder)):
            network.register_forward_hook(lambda *_, name=name: computed.append(name))
        drawn = pixels_of(post(client, "draw", square, style=style, strength="0.5"))
        assert computed == []
        fresh = Translator.load(runs / "birds", device="cpu").translate(noise(5), domain=domain, strength=0.5)
        assert np.abs(drawn.astype(int) - np.asarray(fresh)).max() <= 1
