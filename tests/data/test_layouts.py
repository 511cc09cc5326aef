"""The paper's data sets: small copies made here in the published layout, then read by name."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tunit.cli import main
from tunit.config import Config
from tunit.config.picture_sections import LAYOUT_NAMES
from tunit.data.decoding.decode import PictureError, decode_picture
from tunit.data.finding.cropped import Cropped
from tunit.data.finding.databases import close_databases
from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import DiskFile, Found, PictureSource
from tunit.data.layouts import LAYOUTS, find_layout, layout_config, make_part, part_of
from tunit.data.packing.pack import pack_pictures
from tunit.data.packing.pack_settings import pack_settings
from tunit.data.packing.squares import Squaring, fitted
from tunit.errors import ConfigError, DataError


def picture(seed: int = 0, kind: str = "PNG", width: int = 20, height: int = 20) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def fill(root: Path, *names: str, data: bytes | None = None) -> Path:
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data or picture(seed))
    return root


def find(source: Path, layout: str, split: str = "train", *, labels: bool = True, **options: object) -> Found:
    part = make_part(layout, split, **options)  # type: ignore[arg-type]
    assert part is not None
    return find_layout(source, part, labels=labels and LAYOUTS[layout].has_classes)


def names(found: Found) -> list[str]:
    return [item.name for item in found.pictures]


def labels(found: Found) -> set[str | None]:
    return {item.label for item in found.pictures}


def split_names(source: Path, layout: str, **options: object) -> tuple[list[str], list[str]]:
    """Names of the training and validation pictures; no picture is in both."""
    train, held = (names(find(source, layout, split, **options)) for split in ("train", "validation"))  # type: ignore[arg-type]
    assert not set(train) & set(held)
    assert names(find(source, layout, "test", **options)) == held  # type: ignore[arg-type]
    return train, held


def test_every_layout_can_be_chosen_by_its_name() -> None:
    assert tuple(LAYOUTS) == LAYOUT_NAMES


# AnimalFaces

CLASSES = [f"n{20_000 + 7 * i:08}" for i in range(149)]
TEN = {CLASSES[i] for i in (11, 43, 56, 74, 89, 128, 130, 138, 140, 141)}


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """149 class folders of four crops each."""
    root = tmp_path_factory.mktemp("animals")
    return fill(root, *(f"{name}/{name}_{k}.jpg" for name in CLASSES for k in range(4)), data=picture())


def test_animal_faces_in_class_folders(animals: Path) -> None:
    train, held = split_names(animals, "animal-faces-149", held_out=1)
    assert held == [f"{name}/{name}_3.jpg" for name in CLASSES]
    assert sorted(train + held) == names(find_pictures(animals))
    assert labels(find(animals, "animal-faces-149", held_out=1)) == set(CLASSES)


def test_animal_faces_10_are_ten_by_their_index(animals: Path) -> None:
    found = find(animals, "animal-faces-10", "validation", held_out=3)
    assert labels(found) == TEN
    assert len(found.pictures) == 30
    assert all(item.name.startswith(f"{item.label}/") for item in found.pictures)
    assert labels(find(animals, "animal-faces-10", labels=False, held_out=3)) == {None}


def test_animal_faces_10_may_be_a_folder_with_only_the_ten_classes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "animals.zip", "w") as archive:
        archive.writestr("data/preview.png", picture())
        for name in TEN:
            for k in range(2):
                archive.writestr(f"data/animals/{name}/{k}.png", picture(k))
    train, held = split_names(tmp_path / "animals.zip", "animal-faces-10", held_out=1)
    assert (len(train), len(held)) == (10, 10)


def test_animal_faces_needs_the_papers_fifty_pictures_unless_told_otherwise(animals: Path) -> None:
    with pytest.raises(DataError, match=r"holds 4 pictures, too few to hold back the last 50.*held_out"):
        find(animals, "animal-faces-10")


def test_animal_faces_with_too_few_classes(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.png", "dog/1.png")
    with pytest.raises(
        DataError, match=r"not laid out as animal-faces-10 train: expected 149 .*found 2 class folders$"
    ):
        find(tmp_path, "animal-faces-10")


def imagenet(root: Path) -> Path:
    """Ten classes with two pictures of 30 x 24, and FUNIT's file: three heads in each class, two of them in one
    picture.
    """
    lines = []
    for i, name in enumerate(sorted(TEN)):
        for k in range(2):
            path = root / "train" / name / f"{name}_{k}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(2 * i + k, "PNG", 30, 24))
        boxes = ((0, "3 4 20 22"), (1, "0 0 17 18"), (1, "10 2 30 24"))
        lines += [f"{name}/{name}_{k}.JPEG {box}" for k, box in boxes]
    fill(root / "train", "n99999999/other.JPEG")
    (root / "animalface_coordinates.txt").write_text("\n".join(lines) + "\n")
    return root / "train"


def test_animal_faces_are_cut_out_where_the_coordinates_say(tmp_path: Path) -> None:
    source = imagenet(tmp_path)
    train, held = split_names(source, "animal-faces-10", held_out=1)
    first = sorted(TEN)[0]
    # Named, and therefore ordered, as the publisher's tool does.
    assert train[:2] == [f"{first}/{first}_0.JPEG_3_4_20_22.jpg", f"{first}/{first}_1.JPEG_0_0_17_18.jpg"]
    assert held[0] == f"{first}/{first}_1.JPEG_10_2_30_24.jpg"
    assert (len(train), len(held)) == (20, 10)
    for item in find(source, "animal-faces-10", held_out=1).pictures:
        image, left, top, right, bottom = item.name.removesuffix(".jpg").rsplit("_", 4)
        whole = np.asarray(Image.open(source / image))
        expected = whole[int(top) : int(bottom), int(left) : int(right)]
        np.testing.assert_array_equal(np.asarray(decode_picture(item.read())), expected)


def test_the_coordinates_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    source = imagenet(tmp_path)
    before = find(source, "animal-faces-10", held_out=1)
    table = tmp_path / "animalface_coordinates.txt"
    table.write_text(table.read_text().replace("10 2 30 24", "10 2 29 24"))
    assert find(source, "animal-faces-10", held_out=1).fingerprint != before.fingerprint


def test_coordinates_of_a_missing_or_outside_picture_are_reported(tmp_path: Path) -> None:
    source = imagenet(tmp_path)
    fill(tmp_path, "secret.png")
    with (tmp_path / "animalface_coordinates.txt").open("a") as file:
        file.write(f"../secret.png 0 0 9 9\n{min(TEN)}/gone.JPEG 0 0 9 9\n")
    found = find(source, "animal-faces-10", held_out=1)
    assert {(item.name, item.reason) for item in found.left_out} == {
        ("../secret.png_0_0_9_9.jpg", "missing"),
        (f"{min(TEN)}/gone.JPEG_0_0_9_9.jpg", "missing"),
    }
    with (tmp_path / "animalface_coordinates.txt").open("a") as file:
        file.write("a.JPEG 1 2 x\n")
    with pytest.raises(DataError, match=r"line 33 of .* is 'a.JPEG 1 2 x': expected a picture and four"):
        find(source, "animal-faces-10", held_out=1)


def left_out(found: Found) -> set[tuple[str, str]]:
    return {(item.name, item.reason) for item in found.left_out}


def test_classes_that_are_not_chosen_are_not_missing(tmp_path: Path) -> None:
    """The publisher's file names 149 classes, and AnimalFaces-10 are ten of them."""
    source = imagenet(tmp_path)
    with (tmp_path / "animalface_coordinates.txt").open("a") as file:
        file.writelines(f"{name}/{name}_0.JPEG 0 0 9 9\n" for name in CLASSES if name not in TEN)
    assert left_out(find(source, "animal-faces-10", held_out=1)) == set()


def test_only_the_chosen_classes_unusable_pictures_are_told(tmp_path: Path) -> None:
    root = tmp_path / "animals"
    fill(root, *(f"{name}/{k}.jpg" for name in CLASSES for k in range(2)), data=picture())
    other, own = min(set(CLASSES) - TEN), min(TEN)
    for name in (other, own):
        (root / name / "gone.png").symlink_to("nowhere.png")
    (root / "top.png").symlink_to("nowhere.png")
    expected = {("top.png", "unreadable"), (f"{own}/gone.png", "unreadable")}
    assert left_out(find(root, "animal-faces-10", held_out=1)) == expected
    expected.add((f"{other}/gone.png", "unreadable"))
    assert left_out(find(root, "animal-faces-149", held_out=1)) == expected


def test_a_crop_uses_stored_pixels_and_stays_in_the_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    content = DiskFile(tmp_path / "turned.png")
    cut = np.asarray(decode_picture(Cropped(content, (-3, 2, 5, 100)).read()))
    np.testing.assert_array_equal(cut, pixels[2:, :5])
    with pytest.raises(PictureError, match=r"its box \(12, 0, 20, 8\) holds nothing of the 12 x 8 picture"):
        Cropped(content, (12, 0, 20, 8)).read()


def test_a_crop_obeys_the_limit_on_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (12, 8)).save(tmp_path / "a.png")
    crop = PictureSource("a", None, Cropped(DiskFile(tmp_path / "a.png"), (0, 0, 5, 5)))
    assert fitted(crop, Squaring(4, max_pixels=96)).picture_size == (5, 5)
    with pytest.raises(PictureError, match="12 x 8 pixels, at most 95 in all allowed: raise --max-pixels"):
        fitted(crop, Squaring(4, max_pixels=95))


# Food-101

DISHES = [f"dish_{i:02}" for i in range(12)]


def food() -> dict[str, bytes]:
    files = {f"food-101/images/{dish}/{k}.jpg": picture(k, "JPEG") for dish in DISHES for k in range(3)}
    for split, ks in (("train", (0, 1)), ("test", (2,))):
        text = "".join(f"{dish}/{k}\n" for dish in DISHES for k in ks)
        files[f"food-101/meta/{split}.txt"] = text.encode()
    return files | {"food-101/meta/classes.txt": "\n".join(DISHES).encode()}


def as_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        fill(root, name, data=data)
    return root


def as_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", ["folder", "inner folder", "tar", "zip"])
def test_food_101_as_a_folder_and_as_its_archive(tmp_path: Path, kind: str) -> None:
    if kind == "tar":
        source = as_tar(tmp_path / "food-101.tar.gz", food())
    elif kind == "zip":
        source = tmp_path / "food.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name, data in food().items():
                archive.writestr(name, data)
    else:
        source = as_folder(tmp_path, food()) / ("food-101" if kind == "inner folder" else "")
    train, held = split_names(source, "food-101")
    assert train == [f"images/{dish}/{k}.jpg" for dish in DISHES for k in (0, 1)]
    assert held == [f"images/{dish}/2.jpg" for dish in DISHES]
    found = find(source, "food-101")
    assert [item.label for item in found.pictures[:3]] == ["dish_00", "dish_00", "dish_01"]
    assert found.pictures[1].read() == picture(1, "JPEG")


def test_food_10_uses_the_ten_named_classes(tmp_path: Path) -> None:
    source = as_folder(tmp_path, food())
    (tmp_path / "ten.txt").write_text("\n".join(DISHES[1:11]) + "\n")
    by_file = find(source, "food-10", classes=str(tmp_path / "ten.txt"))
    assert labels(by_file) == set(DISHES[1:11])
    assert names(find(source, "food-10", classes=", ".join(DISHES[1:11]))) == names(by_file)
    with pytest.raises(ConfigError, match=r"food-10 takes 10 classes, which the paper does not name, and 0"):
        find(source, "food-10")
    with pytest.raises(ConfigError, match="and 2 are given"):
        find(source, "food-10", classes="dish_01,dish_02")
    with pytest.raises(DataError, match="has no class 'dish_1x': did you mean 'dish_1"):
        find(source, "food-10", classes=",".join([*DISHES[1:10], "dish_1x"]))


def test_food_without_its_lists_or_with_missing_pictures(tmp_path: Path) -> None:
    source = as_folder(tmp_path, food()) / "food-101"
    (source / "images/dish_00/1.jpg").unlink()
    assert [(i.name, i.reason) for i in find(source, "food-101").left_out] == [
        ("images/dish_00/1.jpg", "missing")
    ]
    (source / "meta/test.txt").unlink()
    with pytest.raises(
        DataError, match=r"as food-101 validation: .* found no readable food-101/meta/test\.txt"
    ):
        find(tmp_path, "food-101", "validation")
    with pytest.raises(
        DataError, match=r"expected images/CLASS/ .* found dish_00/, dish_01/, dish_02/ and 9 more"
    ):
        find(source / "images", "food-101")


# AFHQ


@pytest.mark.parametrize("held", ["val", "test"])
def test_each_afhq_group_is_a_data_set(tmp_path: Path, held: str) -> None:
    groups = ("cat", "dog", "wild")
    root = fill(
        tmp_path / "afhq",
        *(f"train/{group}/{group}_{k}.png" for group in groups for k in range(3)),
        *(f"{held}/{group}/{group}_9.png" for group in groups),
    )
    for source in (root, tmp_path):
        for group in groups:
            train, validation = split_names(source, f"afhq-{group}")
            assert train == [f"train/{group}/{group}_{k}.png" for k in range(3)]
            assert validation == [f"{held}/{group}/{group}_9.png"]
    assert labels(find(root, "afhq-cat")) == {None}
    with pytest.raises(DataError, match=r"expected train/dog/, and val/dog/ or test/dog/, found cat/"):
        find(fill(tmp_path / "other", "cat/1.png"), "afhq-dog")
    with pytest.raises(DataError, match="afhq-cat has no classes"):
        find_layout(root, make_part("afhq-cat"), labels=True)  # type: ignore[arg-type]


# FFHQ


@pytest.mark.parametrize("home", ["images1024x1024/", "thumbnails128x128/", ""])
@pytest.mark.parametrize("nested", [True, False])
def test_the_last_faces_of_ffhq_are_held_back(tmp_path: Path, home: str, nested: bool) -> None:
    numbers = [0, 1, 999, 1000, 1001, 20_000]
    paths = [f"{n // 1000 * 1000:05}/{n:05}.png" if nested else f"{n:05}.png" for n in numbers]
    fill(tmp_path, *(home + path for path in paths))
    train, held = split_names(tmp_path, "ffhq", held_out=2)
    assert (train, held) == (paths[:4], paths[4:])


def test_ffhq_uses_the_full_pictures_if_there_are_thumbnails_too(tmp_path: Path) -> None:
    fill(
        tmp_path, "thumbnails128x128/00000.png", "thumbnails128x128/00001.png", "in-the-wild-images/00000.png"
    )
    fill(tmp_path, "images1024x1024/00000/00000.png", "images1024x1024/00000/00001.png")
    assert names(find(tmp_path, "ffhq", held_out=1)) == ["00000/00000.png"]
    assert names(find(tmp_path / "thumbnails128x128", "ffhq", held_out=1)) == ["00000.png"]


def test_a_folder_that_is_not_ffhq(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b/c.png")
    with pytest.raises(DataError, match=r"as ffhq train: expected images1024x1024/ .*, found a\.png, b/$"):
        find(tmp_path, "ffhq")
    with pytest.raises(DataError, match=r"holds no picture .*\(ffhq expects images1024x1024/"):
        find(fill(tmp_path / "empty", "notes.txt", data=b"words"), "ffhq")


# LSUN Car


def database(folder: Path, number: int) -> dict[str, bytes]:
    lmdb = pytest.importorskip("lmdb")
    content = {f"{7919 * k % 1000:040x}": picture(k, "WEBP" if k % 2 else "JPEG") for k in range(number)}
    with (
        lmdb.open(str(folder), map_size=1 << 20) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in content.items():
            transaction.put(key.encode(), value)
    return content


def test_lsun_car_in_its_database(tmp_path: Path) -> None:
    content = database(tmp_path / "car", 8)
    train, held = split_names(tmp_path / "car", "lsun-car", held_out=3)
    assert train + held == sorted(content)
    assert len(held) == 3
    assert {p.name: p.read() for p in find_pictures(tmp_path / "car").pictures} == content
    close_databases()


def test_a_database_is_packed_once_and_reused(tmp_path: Path) -> None:
    database(tmp_path / "car", 5)
    config = layout_config("paper", {"layout": "lsun-car", "held_out": "2", "image_size": "32"})
    settings = pack_settings(config)
    packed = pack_pictures(tmp_path / "car", tmp_path / "pack", settings, workers=1)
    assert (packed.images.shape, packed.left_out) == ((3, 32, 32, 3), [])
    assert pack_pictures(tmp_path / "car", tmp_path / "pack", settings, workers=1).reused
    other = pack_settings(config.with_overrides({"split": "test"}))
    held = pack_pictures(tmp_path / "car", tmp_path / "pack", other, workers=1)
    assert (held.reused, len(held.names)) == (False, 2)


def test_keys_of_a_database_cannot_name_other_files(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "x")) as environment, environment.begin(write=True) as transaction:
        for key in (b"../up", b"\xff\x00", b"plain.jpg", b"broken"):
            transaction.put(key, b"no picture" if key == b"broken" else picture())
    found = find_pictures(tmp_path / "x")
    assert names(found) == ["broken", "plain.jpg", "~2e2e2f7570", "~ff00"]
    assert found.pictures[2].read() == picture()
    with pytest.raises(PictureError):
        decode_picture(found.pictures[0].read())
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "data.mdb").write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(DataError, match="damaged LMDB database"):
        find_pictures(tmp_path / "y")


def test_a_database_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database(tmp_path / "car", 1)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match=r'pip install "tunit\[lsun\]"'):
        find(tmp_path / "car", "lsun-car")


def test_lsun_car_as_pictures_and_a_set_that_is_too_small(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{k}.webp" for k in range(5)))
    assert split_names(tmp_path, "lsun-car", held_out=2) == (
        ["0.webp", "1.webp", "2.webp"],
        ["3.webp", "4.webp"],
    )
    with pytest.raises(DataError, match="holds 5 pictures, too few to hold back the last 10000"):
        find(tmp_path, "lsun-car")


# Two domains


@pytest.mark.parametrize(
    ("inside", "domains"),
    [("{split}/{domain}/", ("summer", "winter")), ("set/{split}{domain}/", ("A", "B"))],
)
def test_two_domains_with_either_folder_names(tmp_path: Path, inside: str, domains: tuple[str, str]) -> None:
    for split, number in (("train", 3), ("test", 2)):
        for domain in domains:
            home = inside.format(split=split, domain=domain)
            fill(tmp_path, *(f"{home}{k}.png" for k in range(number)))
    train, held = split_names(tmp_path, "two-domains")
    assert train == [f"train/{domain}/{k}.png" for domain in domains for k in range(3)]
    assert held == [f"test/{domain}/{k}.png" for domain in domains for k in range(2)]
    assert [item.label for item in find(tmp_path, "two-domains", "test").pictures] == [
        domain for domain in domains for _ in range(2)
    ]


@pytest.mark.parametrize("home", ["", "horse2zebra/"])
def test_two_domains_tell_what_is_left_out_of_their_own_part(tmp_path: Path, home: str) -> None:
    fill(tmp_path, *(f"{home}{split}{domain}/1.png" for split in ("train", "test") for domain in "AB"))
    for folder in ("", f"{home}trainA/", f"{home}testB/", "older/trainA/"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "gone.png").symlink_to("nowhere.png")
    whole = ("gone.png", "unreadable")
    assert left_out(find(tmp_path, "two-domains")) == {whole, ("train/A/gone.png", "unreadable")}
    assert left_out(find(tmp_path, "two-domains", "test")) == {whole, ("test/B/gone.png", "unreadable")}


def test_two_domains_must_be_two(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png")
    with pytest.raises(DataError, match="found 3 in train: a, b, c"):
        find(tmp_path, "two-domains")
    with pytest.raises(DataError, match=r"two-domains validation: expected two folders .* found train/"):
        find(tmp_path, "two-domains", "validation")


# Settings


def test_the_layouts_defaults_override_the_preset_and_the_user_overrides_both(tmp_path: Path) -> None:
    config = layout_config("default", {"layout": "two-domains"})
    assert (config.data.image_size, config.networks.domains, config.augment.hue) == (128, 2, 0.0)
    assert config.data.fit == "crop"  # the preset's
    config = layout_config("default", {"layout": "two-domains", "networks.domains": "4", "image-size": 64})
    assert (config.data.image_size, config.networks.domains) == (64, 4)
    own = tmp_path / "own.toml"
    own.write_text('base = "default"\n[networks]\ndomains = 7\n[data]\nlayout = "afhq-cat"\n')
    config = layout_config(str(own), {})
    assert (config.data.image_size, config.networks.domains) == (128, 7)
    assert layout_config("default", {"domains": 3}).data.image_size == 0


def test_the_chosen_classes_are_stored_in_the_runs_config(tmp_path: Path) -> None:
    (tmp_path / "ten.txt").write_text("\n".join(DISHES[:10]))
    config = layout_config("paper", {"layout": "food-10", "classes": str(tmp_path / "ten.txt")})
    assert config.data.classes == ",".join(DISHES[:10])
    own = tmp_path / "config.toml"
    own.write_text(config.to_toml())
    assert layout_config(str(own), {}) == config
    assert part_of(config.data) == part_of(layout_config(str(own), {}).data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "validation"}, "split is 'validation', but no --layout is given"),
        ({"classes": "a,b"}, "classes is 'a,b', but no --layout is given"),
        ({"held_out": "3"}, "held_out is 3, but no --layout is given"),
        ({"layout": "afhq-cat", "held_out": "3"}, "held_out 3 has no effect for afhq-cat"),
        (
            {"layout": "afhq-cat", "classes": "a"},
            "classes are given, but afhq-cat has its own: leave out --classes",
        ),
        ({"layout": "afhq-cat", "labels": "csv"}, "labels is csv, but afhq-cat has no table"),
        ({"layout": "afhq"}, "did you mean 'ffhq'"),
        ({"layout": "food-10", "classes": "/nowhere.txt"}, "classes is /nowhere.txt, which cannot be read"),
    ],
)
def test_contradictory_settings_are_one_sentence(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        layout_config("paper", settings)


def test_packs_without_a_layout_keep_their_key() -> None:
    assert "part" not in pack_settings(Config()).as_json()


# The whole command


def test_prepare_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(
        tmp_path / "set",
        *(f"{split}{d}/{k}.png" for split in ("train", "test") for d in "AB" for k in range(2)),
    )
    monkeypatch.chdir(tmp_path)
    words = ["prepare", "set", "--layout", "two-domains", "--image-size", "32", "--workers", "1"]
    assert main([*words, "--labels", "folders"]) == 0
    out = capsys.readouterr().out
    assert "4 pictures at 32 x 32, packed: packed/two-domains-train" in out
    assert "labels: A 2, B 2" in out
    assert main([*words, "--split", "test"]) == 0
    assert "packed/two-domains-validation" in capsys.readouterr().out
    assert main([*words[:3], "ffhq"]) == 2
    err = capsys.readouterr().err
    assert "set is not laid out as ffhq train" in err
    assert len(err.strip().splitlines()) == 1
