"""The translator, compared with direct calls of the networks, for every kind of picture and every fit."""

import io
import math
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_model import (
    DOMAINS,
    SIZE,
    WIDTH,
    noise,
    redrawn,
    save_tiny,
    style_of,
    tiny_model,
    to_input,
    write,
)
from tunit.clustering.outliers import appearance, outlier_scores
from tunit.data.batching.augment import to_uint8
from tunit.data.packing.fit import fit_picture
from tunit.errors import ConfigError, DataError, RunError
from tunit.translation import results
from tunit.translation.inputs import Square
from tunit.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_close(image, pixels, levels=1):
    """Equal, except that a value between two levels may be rounded either way."""
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - pixels.astype(int)).max() <= levels


# One picture and one style


def test_a_translation_is_the_generator_with_the_references_style_code(model, translator):
    source, reference = noise(1), noise(2)
    expected = redrawn(model, source, style_of(model, reference))
    assert np.array_equal(np.asarray(translator.translate(source, reference)), expected)
    other = redrawn(model, source, style_of(model, noise(3)))
    assert np.abs(expected.astype(int) - other).max() > 20  # the style really changes this model's pictures


@pytest.mark.parametrize("kind", ["path", "text", "pillow", "array", "tensor"])
def test_all_kinds_of_picture_objects_give_the_same(kind, model, translator, tmp_path):
    def as_kind(seed):
        path = write(tmp_path / f"{seed}.png", seed)
        kinds = {
            "path": lambda: path,
            "text": lambda: str(path),
            "pillow": lambda: Image.open(path),
            "array": lambda: noise(seed),
            "tensor": lambda: to_input(noise(seed))[0],
        }
        return kinds[kind]()

    expected = redrawn(model, noise(1), style_of(model, noise(2)))
    assert_close(translator.translate(as_kind(1), as_kind(2)), expected)


def test_a_path_may_begin_with_the_home_folder_or_be_a_url(translator, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path / "1.png", 1)
    expected = np.asarray(translator.translate(path, domain=0))
    for given in ("~/1.png", Path("~/1.png"), path.as_uri()):
        assert np.array_equal(np.asarray(translator.translate(given, domain=0)), expected)
        assert len(translator.interpolate(given, [noise(2)], frames=2)) == 2
    (from_list,) = translator.translate([path.as_uri()], domain=0)
    assert np.array_equal(np.asarray(from_list), expected)
    pytest.importorskip("fsspec", reason='needs pip install "tunit[cloud]"')
    with pytest.raises(DataError, match="the store memory://nothing/here holds no picture"):
        translator.translate("memory://nothing/here", domain=0)


def test_several_references_are_averaged(model, translator):
    mean = torch.stack([style_of(model, noise(seed)) for seed in (2, 3, 4)]).mean(0)
    torch.testing.assert_close(translator.style([noise(2), noise(3), noise(4)]), mean)
    result = translator.translate(noise(1), [noise(2), noise(3), noise(4)])
    assert_close(result, redrawn(model, noise(1), mean))


def test_a_domain_and_a_style_code(model, translator):
    assert torch.equal(translator.domain_style(2), model.domain_styles[2])
    expected = redrawn(model, noise(1), model.domain_styles[2])
    assert_close(translator.translate(noise(1), domain=2), expected)
    assert_close(translator.translate(noise(1), style=model.domain_styles[2]), expected)


# Many pictures


def test_the_batch_size_does_not_change_results(model):
    sources = [noise(seed) for seed in range(7)]
    results = [Translator(model, batch=batch).translate(sources, noise(9)) for batch in (1, 3, 32)]
    for source, *images in zip(sources, *results, strict=True):
        expected = redrawn(model, source, style_of(model, noise(9)))
        for image in images:
            assert_close(image, expected)
    styles = [Translator(model, batch=batch).style(sources) for batch in (1, 3, 32)]
    torch.testing.assert_close(styles[0], styles[1])
    torch.testing.assert_close(styles[0], styles[2])


def test_redraw_reads_sources_only_when_needed(model):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield noise(len(taken))

    stream = Translator(model, batch=4).redraw(endless(), model.domain_styles)
    _, images = next(stream)
    assert len(images) == DOMAINS
    assert len(taken) == 4
    for image, style in zip(images, model.domain_styles, strict=True):
        assert_close(image, redrawn(model, noise(1), style))


def test_a_folder_an_archive_and_a_tensor_with_several_pictures(model, translator, tmp_path):
    for seed in (1, 2):
        write(tmp_path / "folder" / f"{seed}.png", seed)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for seed in (1, 2):
            archive.write(tmp_path / "folder" / f"{seed}.png", f"{seed}.png")
    both = torch.cat([to_input(noise(1)), to_input(noise(2))])
    expected = [redrawn(model, noise(seed), model.domain_styles[0]) for seed in (1, 2)]
    for sources in (tmp_path / "folder", str(tmp_path / "a.zip"), both, np.stack([noise(1), noise(2)])):
        results = translator.translate(sources, domain=0)
        assert isinstance(results, list)
        for image, pixels in zip(results, expected, strict=True):
            assert_close(image, pixels)


def test_classify_and_guide_return_the_guides_predictions(model, translator):
    pictures = [noise(seed) for seed in range(5)]
    with torch.no_grad():
        expected = model.guide(torch.cat([to_input(picture) for picture in pictures]))
    guidance = translator.guide(pictures)
    torch.testing.assert_close(guidance.logits, expected.logits)
    torch.testing.assert_close(guidance.style, expected.style)
    domains, confidences, styles = translator.classify(pictures)
    assert domains.tolist() == expected.logits.argmax(1).tolist()
    exact = np.exp(expected.logits.double().numpy())
    np.testing.assert_allclose(confidences, (exact / exact.sum(1, keepdims=True)).max(1), rtol=1e-5)
    assert styles.shape == (5, WIDTH)
    assert translator.classify(pictures[0]).domains.tolist() == domains[:1].tolist()


# Modes, orientation, fits


def test_transparent_cmyk_grey_and_rotated_sources(model, translator, tmp_path):
    style = model.domain_styles[0]
    pixels = noise(1)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:16] = 255
    clear = np.dstack([pixels, mask])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    on_white = np.where(mask[:, :, None] > 0, pixels, np.uint8(255))
    grey = Image.fromarray(pixels).convert("L")
    cmyk = Image.fromarray(pixels).convert("CMYK")
    cmyk.save(tmp_path / "cmyk.tif")
    turned = Image.fromarray(np.rot90(pixels))  # orientation 6: a turn to the right makes it upright
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    cases = [
        (tmp_path / "clear.png", on_white),
        (Image.fromarray(clear), on_white),
        (grey, np.asarray(grey)[:, :, None].repeat(3, axis=2)),
        (cmyk, np.asarray(cmyk.convert("RGB"))),
        (tmp_path / "cmyk.tif", np.asarray(cmyk.convert("RGB"))),
        (tmp_path / "turned.png", pixels),
        (Image.open(tmp_path / "turned.png"), pixels),
    ]
    for number, (source, expected) in enumerate(cases):
        result = translator.translate(source, style=style)
        if number < 2:  # transparency is kept
            assert np.array_equal(np.asarray(result.getchannel("A")), mask)
            result = result.convert("RGB")
        assert_close(result, redrawn(model, expected, style))


@pytest.mark.parametrize(("height", "width"), [(40, 100), (90, 30), (64, 64), (20, 31)])
def test_sizes_of_every_fit(height, width, model, translator):
    source = noise(1, height, width)
    longer = max(height, width)
    padded = (round(width * SIZE / longer), round(height * SIZE / longer))
    shorter = (min(height, width),) * 2
    fifty_of_source = (round(50 * width / longer), round(50 * height / longer))
    sizes = {  # fit: sizes (of the model, of the original, with 50 pixels on the longer side)
        "stretch": ((SIZE, SIZE), (width, height), fifty_of_source),
        "crop": ((SIZE, SIZE), shorter, (50, 50)),
        "pad": (padded, (width, height), fifty_of_source),
    }
    for fit, (own, original, fifty) in sizes.items():
        for resize, size in ((None, own), ("original", original), (50, fifty)):
            assert translator.translate(source, domain=0, fit=fit, resize=resize).size == size


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_sources_are_fitted_as_requested_or_else_as_in_training(fit, translator):
    source = noise(1, 40, 70)
    own = tiny_model(fit=fit)
    square = redrawn(own, fit_picture(Image.fromarray(source), SIZE, fit), own.domain_styles[0])
    if fit == "pad":
        # A picture of 40 x 70 covers rows 7 to 24 of 32; the rest of the square is background.
        assert (fit_picture(Image.fromarray(np.zeros_like(source)), SIZE, fit) == 0).all(
            axis=(1, 2)
        ).sum() == 18
        square = square[7:25]
    assert_close(Translator(own).translate(source, domain=0), square)
    assert_close(translator.translate(source, domain=0, fit=fit), square)


def test_original_size_of_a_jpeg_is_the_size_of_the_file(translator, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(noise(1, 301, 503)).save(tmp_path / "large.jpg", exif=exif)
    for fit, size in (("stretch", (301, 503)), ("pad", (301, 503)), ("crop", (301, 301))):
        image = translator.translate(tmp_path / "large.jpg", domain=0, fit=fit, resize="original")
        assert image.size == size


def test_a_very_long_picture_keeps_one_row_when_padded(translator):
    assert translator.translate(noise(1, 2, 900), domain=0, fit="pad").size == (SIZE, 1)
    assert translator.translate(noise(1, 2, 900), domain=0, fit="pad", resize="original").size == (900, 2)


# Loading


def test_a_saved_model_is_loaded_from_its_folder_or_file(tmp_path):
    model = save_tiny(tmp_path / "run")
    expected = redrawn(model, noise(1), model.domain_styles[0])
    for run in (tmp_path / "run", str(tmp_path / "run" / "model.safetensors")):
        translator = Translator.load(run, device="cpu")
        assert (translator.number_of_domains, translator.image_size) == (DOMAINS, SIZE)
        assert translator.domain_sizes == [5, 0, 2]
        assert_close(translator.translate(noise(1), domain=0), expected)


def test_a_model_can_be_loaded_in_inference_mode(tmp_path):
    save_tiny(tmp_path)
    expected = Translator.load(tmp_path).translate(noise(1), domain=0)
    with torch.inference_mode():
        found = Translator.load(tmp_path).translate(noise(1), domain=0)
    assert np.array_equal(found, expected)


def test_bfloat16_results_are_close(model, translator):
    exact = np.asarray(translator.translate(noise(1), domain=0)).astype(int)
    near = np.asarray(Translator(model, precision="bfloat16").translate(noise(1), domain=0)).astype(int)
    assert 0 < np.abs(exact - near).mean() < 8


def test_float32_is_not_rounded_to_tf32_on_a_gpu(model, monkeypatch):
    translator, used = Translator(model), []
    content = translator._engine._content
    monkeypatch.setattr(
        translator._engine,
        "_content",
        lambda x: used.append(torch.backends.cudnn.allow_tf32) or content(x),
    )
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default
    translator.translate(noise(1), domain=0)
    assert used == [False]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_pictures(tmp_path):
    model = save_tiny(tmp_path)
    translator = Translator.load(tmp_path, device="cuda")
    expected = redrawn(model, noise(1), style_of(model, noise(2)))
    assert_close(translator.translate(noise(1), noise(2)), expected, levels=3)


# Errors


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_too_little_memory_for_a_batch_is_one_sentence(model, monkeypatch, error):
    def broken(x):
        raise error

    translator = Translator(model, batch=3)
    monkeypatch.setattr(translator._engine, "_content", broken)
    with pytest.raises(ConfigError, match="too little memory for batches of 3: lower the batch"):
        translator.translate(noise(1), domain=0)


def test_missing_models_devices_and_precisions_are_refused(tmp_path, model):
    with pytest.raises(RunError, match=r"holds no model\.safetensors: give the folder of a run"):
        Translator.load(tmp_path)
    for device in ("gpu", "meta", "mps"):
        with pytest.raises(ConfigError, match=f"device is .{device}.*take auto(, | or )cpu"):
            Translator.load(tmp_path, device=device)
    with pytest.raises(ConfigError, match="device is 'cuda:99', but torch sees"):
        Translator.load(tmp_path, device="cuda:99")
    with pytest.raises(ConfigError, match="precision is 'float8': take one of float32, bfloat16"):
        Translator(model, precision="float8")
    with pytest.raises(ConfigError, match="batch is 0"):
        Translator(model, batch=0)


def test_exactly_one_style_must_be_given(translator):
    with pytest.raises(
        ConfigError, match="was given none of them: give exactly one of reference, domain and"
    ):
        translator.translate(noise(1))
    with pytest.raises(ConfigError, match="was given reference and domain"):
        translator.translate(noise(1), noise(2), domain=0)
    with pytest.raises(ConfigError, match=r"style codes of shape \(3,\) do not fit: this model's are \(8,\)"):
        translator.translate(noise(1), style=torch.zeros(3))


def test_a_style_code_may_be_a_tensor_an_array_or_a_list(translator):
    code = translator.style(noise(2))
    expected = np.asarray(translator.translate(noise(1), style=code))
    for same in (code.double(), code.numpy(), code.tolist()):
        assert (np.asarray(translator.translate(noise(1), style=same)) == expected).all()
        ((_, (image,)),) = translator.redraw(noise(1), [same], strength=np.float32(1))
        assert (np.asarray(image) == expected).all()


def test_one_code_where_several_are_taken_is_one_sentence(translator):
    with pytest.raises(
        ConfigError, match=r"several style codes are \(M, 8\), and this is one: give code\[None\]"
    ):
        translator.redraw(noise(1), torch.zeros(8))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_the_content_of_a_file_is_no_picture_and_is_called_what_it_is(translator, tmp_path, kind):
    data = kind(write(tmp_path / "a.png").read_bytes())
    with pytest.raises(
        DataError, match=f"^a {kind.__name__} .*is not a picture: give a path, a Pillow image"
    ):
        translator.translate(data, domain=0)


@pytest.mark.parametrize("strength", [1e300, -1e38])
def test_a_strength_that_leaves_the_range_of_numbers_is_refused(translator, strength):
    assert np.asarray(translator.translate(noise(1), domain=0, strength=1e6)).std() > 0
    with pytest.raises(ConfigError, match=r"strength is -?1e\+.*: take at most 1,000,000"):
        translator.translate(noise(1), domain=0, strength=strength)


@pytest.mark.parametrize("number", [2, 0.5, np.float32(0.5), torch.tensor(2)])
def test_a_single_number_is_no_style_code(translator, number):
    sentence = f"a style code is {float(number):g}: give 8 numbers, or the number of a domain as domain"
    for call in (
        lambda: translator.translate(noise(1), style=number),
        lambda: translator.redraw(noise(1), number),
    ):
        with pytest.raises(ConfigError, match=sentence):
            call()


def test_a_style_code_may_be_of_whole_numbers(translator):
    expected = np.asarray(translator.translate(noise(1), style=torch.arange(8.0)))
    for same in (list(range(8)), np.arange(8, dtype=np.uint8), torch.arange(8)):
        assert (np.asarray(translator.translate(noise(1), style=same)) == expected).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"domain": "2"}, "domain '2' does not exist: this model has domains 0 to 2"),
        ({"domain": 0.5}, "domain 0.5 does not exist"),
        ({"domain": [0]}, r"domain \[0\] does not exist"),
        ({"domain": True}, "domain True does not exist"),
        ({"domain": 0, "strength": "much"}, "strength is 'much': take a number"),
        ({"domain": 0, "strength": None}, "strength is None: take a number"),
        ({"domain": 0, "strength": math.inf}, "strength is inf: take a number"),
        ({"domain": 0, "resize": (3, 4)}, r"size \(3, 4\) is not a size"),
        ({"domain": 0, "resize": 20.5}, "size 20.5 is not a size"),
        ({"domain": 0, "resize": math.inf}, "size inf is not a size"),
        ({"domain": 0, "resize": True}, "size True is not a size"),
        ({"style": [math.nan] * 8}, "a style code has a value that is not finite"),
        ({"style": [1e39] + [0] * 7}, "a style code has a value that is not finite"),
        ({"domain": 0, "fit": ["crop"]}, "is unknown: use one of"),
        ({"style": "tiger"}, "a str is no style code: give an array of 8 numbers"),
        ({"style": [[1.0], [1.0, 2.0]]}, "a list is no style code"),
        ({"style": [True] * 8}, r"style codes of type torch.bool do not fit: give real numbers"),
        ({"style": [1j] * 8}, r"style codes of type torch.complex128 do not fit: give real numbers"),
    ],
)
def test_a_value_of_a_wrong_kind_is_one_sentence(given, message, translator):
    with pytest.raises(ConfigError, match=message) as error:
        translator.translate(noise(1), **given)
    assert "\n" not in str(error.value)


def test_a_model_that_is_loaded_wrongly_is_one_sentence(model):
    with pytest.raises(ConfigError, match="None is not a path: give the folder of a run"):
        Translator.load(None)
    for name in ("batch", "max_pixels"):
        for value in ("8", 0.5, None):
            with pytest.raises(ConfigError, match=f"{name} is {value!r}: take at least 1"):
                Translator(model, **{name: value})


def test_domains_that_do_not_exist_or_are_empty_are_refused(translator):
    for k in (-1, 3):
        with pytest.raises(ConfigError, match=f"domain {k} does not exist: this model has domains 0 to 2"):
            translator.domain_style(k)
    with pytest.raises(ConfigError, match="is in domain 1, so this domain has none: take one of 0, 2"):
        translator.domain_style(1)
    with pytest.raises(ConfigError, match="no average style of any domain: give a reference"):
        Translator(tiny_model(sizes=(0, 0, 0))).domain_style(0)


def test_fits_and_sizes_that_do_not_exist_are_refused(translator):
    with pytest.raises(ConfigError, match="fit 'zoom' is unknown"):
        translator.translate(noise(1), domain=0, fit="zoom")
    for resize, message in (
        ("large", "size 'large' is not a size"),
        (0, "size 0 is out of range"),
        (10**6, "range"),
    ):
        with pytest.raises(ConfigError, match=message):
            translator.translate(noise(1), domain=0, resize=resize)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (7, "a int is not a picture: give a path"),
        (None, "a NoneType is not a picture"),
        (np.zeros((4, 4), np.uint8), r"a ndarray of shape \(4, 4\) is not a picture"),
        (np.zeros((4, 4, 4), np.uint8), r"a ndarray of shape \(4, 4, 4\) is not a picture"),
        (np.zeros((4, 4, 3), np.float32), "an array of float32 is unknown"),
        (torch.zeros(3, 16, 16), r"shape \(3, 16, 16\) does not fit: a float tensor must be \(3, 32, 32\)"),
        (
            torch.zeros(3, 32, 32, dtype=torch.uint8),
            r"a torch.uint8 tensor of shape \(3, 32, 32\) does not fit",
        ),
        (torch.full((3, 32, 32), 200.0), r"values from 200 to 200: scale pictures to \[-1, 1\]"),
        (torch.full((3, 32, 32), float("nan")), "values from nan"),
        (Image.new("I;16", (4, 4)), "mode I;16 is unknown"),
        (np.zeros((0, 5, 3), np.uint8), r"a ndarray of shape \(0, 5, 3\) is not a picture"),
        (Image.new("RGB", (0, 0)), "a Pillow image of 0 x 0 pixels is empty: give one with pixels"),
        (Image.new("RGBA", (5, 0)), "a Pillow image of 5 x 0 pixels is empty"),
        ([], "no picture was given that can be used"),
        ("nowhere.png", "nowhere.png does not exist"),
    ],
)
def test_an_object_that_is_not_a_picture_is_refused(picture, message, translator):
    with pytest.raises(DataError, match=message):
        translator.guide(picture)


def broken(folder: Path) -> Path:
    """A folder with two good pictures and a JPEG that is cut short."""
    write(folder / "a.png", 1)
    write(folder / "c.png", 2)
    whole = io.BytesIO()
    Image.fromarray(noise(3, 64, 64)).save(whole, "JPEG")
    (folder / "b.jpg").write_bytes(whole.getvalue()[:500])
    return folder


def test_a_bad_picture_is_an_error_or_is_skipped_and_reported(model, translator, tmp_path):
    folder = broken(tmp_path / "p")
    with pytest.raises(
        DataError, match=r"b\.jpg cannot be used \(truncated: .*\): repair it or leave it out"
    ):
        translator.translate(folder, domain=0)
    reported = []
    results = translator.translate(folder, domain=0, report=reported.append)
    assert [(item.name, item.reason) for item in reported] == [("b.jpg", "truncated")]
    for image, seed in zip(results, (1, 2), strict=True):
        assert_close(image, redrawn(model, noise(seed), model.domain_styles[0]))
    mean = (style_of(model, noise(1)) + style_of(model, noise(2))) / 2
    torch.testing.assert_close(translator.style(folder, report=reported.append), mean)
    assert len(translator.classify(folder, report=reported.append).domains) == 2
    reported.clear()
    listed = [folder / "a.png", folder / "missing.jpg", tmp_path / "nowhere", folder / "c.png"]
    assert [
        np.asarray(one).tolist() for one in translator.translate(listed, domain=0, report=reported.append)
    ] == [np.asarray(one).tolist() for one in results]
    assert [item.name for item in reported] == [str(listed[1]), str(listed[2])]
    with pytest.raises(DataError, match=r"missing\.jpg"):
        translator.translate(listed, domain=0)


def test_a_single_bad_picture_is_always_an_error(translator, tmp_path):
    bad = broken(tmp_path / "p") / "b.jpg"
    for call in (translator.style, translator.classify):
        with pytest.raises(DataError, match=r"b\.jpg cannot be used"):
            call(bad, report=lambda item: None)
    with pytest.raises(DataError, match=r"b\.jpg cannot be used"):
        translator.translate(bad, domain=0, report=lambda item: None)
    with pytest.raises(DataError, match="no reference was given that can be used"):
        translator.style([bad, bad], report=lambda item: None)
    path = tmp_path / "short.png"
    path.write_bytes(write(tmp_path / "whole.png", 1).read_bytes()[:300])
    with Image.open(path) as opened, pytest.raises(DataError, match="picture 0 cannot be used"):
        translator.style(opened)


# Tables, threads, the size of the source


def test_the_table_of_domains_has_the_guides_predictions(model, translator, tmp_path):
    for seed in range(14):
        write(tmp_path / f"{seed:02d}.png", seed)
    with torch.no_grad():
        expected = model.guide(torch.cat([to_input(noise(seed)) for seed in range(14)]))
    sure, domains = expected.logits.softmax(1).max(1)
    for pictures, names in (
        (tmp_path, [f"{seed:02d}.png" for seed in range(14)]),
        ([noise(seed) for seed in range(14)], [f"picture {seed}" for seed in range(14)]),
    ):
        table = translator.domains(pictures)
        assert [row.picture for row in table] == names
        assert [row.domain for row in table] == domains.tolist()
        np.testing.assert_allclose([row.confidence for row in table], sure, rtol=1e-4)
        squares = to_uint8(torch.cat([to_input(noise(seed)) for seed in range(14)])).numpy()
        np.testing.assert_allclose(
            [row.outlier for row in table], outlier_scores(appearance(squares)), atol=1e-3
        )


def test_names_of_pictures_in_memory_count_those_that_are_left_out(translator, tmp_path):
    data = io.BytesIO()
    Image.fromarray(noise(1, 200, 200)).save(data, "JPEG")
    cut = Image.open(io.BytesIO(data.getvalue()[:1500]))
    left_out = []
    table = translator.domains([noise(2), cut, noise(3)], report=left_out.append)
    assert [item.name for item in left_out] == ["picture 1"]
    assert [row.picture for row in table] == ["picture 0", "picture 2"]
    for seed in range(3):
        write(tmp_path / f"{seed}.png", seed)
    table = translator.domains([noise(4), tmp_path, noise(5)])
    assert [row.picture for row in table] == ["picture 0", "0.png", "1.png", "2.png", "picture 2"]


def test_fewer_large_results_wait_in_memory(monkeypatch):
    """However many styles: what counts is the number of pixels."""
    monkeypatch.setattr(results, "MOST_PIXELS", 3 * 10 * 500 * 400, raising=False)
    square, taken = Square(torch.zeros(3, SIZE, SIZE), (0, 0, SIZE, SIZE), (50, 40)), []

    def drawn():
        for i in range(20):
            taken.append(i)
            yield noise(i), square, [noise(i)] * 10

    for resize, most in ((500, 4), ("original", 16)):  # one more than allowed, before the first is yielded
        taken.clear()
        stream = results.resized_results(drawn(), resize, "stretch", ahead=15)
        for i, (_, images) in enumerate(stream):
            assert images[0].size == ((500, 400) if resize == 500 else (50, 40))
            assert len(taken) - i <= most
        assert len(taken) == 20


def test_threads_may_share_a_translator(model, translator, tmp_path):
    files = [write(tmp_path / f"{seed}.png", seed) for seed in range(4)]
    style = style_of(model, noise(9))
    expected = [redrawn(model, noise(seed), style) for seed in range(4)]
    wrong = []

    def work(turn):
        for step in range(6):
            seed = (turn + step) % 4
            source = files[seed] if step % 2 else noise(seed)
            image = translator.translate(source, noise(9))
            if np.abs(np.asarray(image).astype(int) - expected[seed]).max() > 1:
                wrong.append((turn, step))
            if translator.classify(noise(seed)).domains.shape != (1,):
                wrong.append((turn, step))

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, turn) for turn in range(4)]:
            future.result()
    assert wrong == []


def test_results_may_have_the_size_of_the_source(translator):
    assert translator.translate(noise(1, 40, 100), domain=0, restore_size=True).size == (100, 40)
    with pytest.raises(ConfigError, match="give one of them"):
        translator.translate(noise(1), domain=0, resize=50, restore_size=True)
