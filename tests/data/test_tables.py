"""Tables and lists as programs write them. The tests build each file, so they know what it contains."""

import os
import random
import string
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tunit.cli import main
from tunit.data.finding.find import find_pictures
from tunit.data.finding.found import Found
from tunit.data.finding.source_kind import kind_of
from tunit.errors import DataError, TunitError
from tunit.files.paths import without_dots

FUZZ = int(os.environ.get("TUNIT_FUZZ", "1"))  # how many times longer than usual the random tests run


def fill(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(path, "PNG")


def labels(found: Found) -> dict[str, str | None]:
    return {item.name: item.label for item in found.pictures}


def details(found: Found) -> dict[str, str]:
    return {item.name: item.detail for item in found.left_out}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """p/1.png to p/3.png, in a folder that is not the working folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fill(tmp_path / "set", "p/1.png", "p/2.png", "p/3.png")
    return tmp_path / "set"


WANTED = {"p/1.png": "cat", "p/2.png": "dog", "p/3.png": "cat"}


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("label,file_name\ncat,p/1.png\ndog,p/2.png\ncat,p/3.png\n", "label"),  # Hugging Face
        (",image_path,label\n0,p/1.png,cat\n1,p/2.png,dog\n2,p/3.png,cat\n", "label"),  # pandas' index
        ("img;class\np/1.png;cat\np/2.png;dog\np/3.png;cat\n", "class"),  # Excel with European settings
        ("sep=;\nimg;class\np/1.png;cat\np/2.png;dog\np/3.png;cat\n", "class"),
        ('sep="\nimg;class\np/1.png;cat\np/2.png;dog\np/3.png;cat\n', "class"),  # declares what cannot separate
        ('"sep=""\r\nimg,class\r\np/1.png,cat\r\np/2.png,dog\r\np/3.png,cat\r\n', "class"),
        ("sep=\r\nimg,class\r\np/1.png,cat\r\np/2.png,dog\r\np/3.png,cat\r\n", "class"),
        ("sep=|\r\nx|y\r\np/1.png|cat\r\np/2.png|dog\r\np/3.png|cat\r\n", "y"),
        ("where|what\np/1.png|cat\np/2.png|dog\np/3.png|cat\n", "what"),
        ("id\tFile Path\tlabel\n1\tp\\1.png\tcat\n2\tp\\2.png\tdog\n3\tp\\3.png\tcat\n", "label"),  # Windows
        ("p/1.png;cat\np/2.png;dog\np/3.png;cat\n", "2"),  # no header
        ("cat,p/1.png\ndog,p/2.png\ncat,p/3.png\n", "1"),
        ('"image","label"\n"p/1.png","cat"\n"p/2.png", "dog"\n"p/3.png","cat"\n', "label"),
        # an image column that holds numbers
        ("title,image,path,label\na,7,p/1.png,cat\nb,8,p/2.png,dog\nc,9,p/3.png,cat\n", "label"),
        ("file,label\rp/1.png,cat\rp/2.png,dog\rp/3.png,cat\r", "label"),  # line ends of old Macs
        ("file , label\n p/1.png , cat\n'p/2.png' , dog\np/3.png,cat\n,,\n", "label"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_tables_as_programs_write_them(folder, text, column, encoding):
    (folder / "t.csv").write_bytes(text.encode(encoding))
    found = find_pictures(folder / "t.csv", labels="csv", label_column=column)
    assert labels(found) == WANTED
    assert found.left_out == []


def test_the_chosen_column_is_reported_unless_obvious(folder):
    def notes(text: str) -> str:
        (folder / "t.csv").write_text(text)
        return " ".join(find_pictures(folder / "t.csv").notes)

    assert notes("file,label\np/1.png,cat\n") == ""
    assert notes("label,file_name\ncat,p/1.png\n") == ""
    assert "column 'what'" in notes("kind,what\ncat,p/1.png\n")
    assert "column 'path'" in notes("image,path\n5,p/1.png\n")
    assert "no header line" in notes("cat,p/1.png\n")
    assert "column 2" in notes("cat,p/1.png\n")


def test_the_user_may_name_the_picture_column(folder):
    fill(folder, "small/1.png", "small/2.png")
    path = folder / "t.csv"
    path.write_text("image,thumb,label\np/1.png,small/1.png,a\np/2.png,small/2.png,b\n")
    assert list(labels(find_pictures(path))) == ["p/1.png", "p/2.png"]
    for column in ("thumb", " THUMB ", "2"):
        found = find_pictures(path, picture_column=column, labels="csv")
        assert labels(found) == {"small/1.png": "a", "small/2.png": "b"}
    with pytest.raises(
        DataError, match=r"no column 'thumbs': name one of its columns \('image', 'thumb', 'label'\)"
    ):
        find_pictures(path, picture_column="thumbs")
    with pytest.raises(DataError, match="number from 1 to 3"):
        find_pictures(path, picture_column="4")


def test_a_picture_column_with_some_missing_files_is_still_chosen(folder):
    fill(folder, "small/1.png", "small/2.png", "small/3.png")
    (folder / "t.csv").write_text(
        "thumb,image\nsmall/1.png,p/1.png\nsmall/2.png,p/2.png\nsmall/3.png,p/gone.png\n"
    )
    found = find_pictures(folder / "t.csv")
    assert list(labels(found)) == ["p/1.png", "p/2.png"]
    assert list(details(found)) == ["p/gone.png"]


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ("gone.png", "p/1.png"),
        ("gone.PNG;cat", "p/1.png;dog"),
        ("p/gone,cat", "p/1.png,dog"),
        ("3fa2b8,cat", "9c01d4,dog"),  # files named by hashes, without suffixes
    ],
)
def test_a_missing_first_picture_without_a_header_is_reported(folder, first, rest):
    fill(folder, "9c01d4")
    (folder / "t.csv").write_text(f"{first}\n{rest}\n")
    found = find_pictures(folder / "t.csv")
    assert len(found.pictures) == 1
    assert [item.name.casefold() for item in found.left_out] == [
        first.replace(";", ",").split(",")[0].casefold()
    ]


def test_strict_refuses_a_missing_first_picture(folder, capsys):
    (folder / "t.csv").write_text("gone.png\np/1.png\n")
    words = [
        "prepare",
        str(folder / "t.csv"),
        "--out",
        str(folder / "pack"),
        "--image-size",
        "32",
        "--strict",
    ]
    assert main(words) == 2
    assert "gone.png: no such file" in capsys.readouterr().err


def test_every_row_without_a_picture_is_reported(folder):
    (folder / "t.csv").write_text("file,label\np/1.png,cat\n,dog\nhttp://x.org/a.png,cat\np,dog\n\n,,\n")
    found = find_pictures(folder / "t.csv", labels="csv")
    assert labels(found) == {"p/1.png": "cat"}
    assert details(found) == {
        "line 3 of t.csv": "it names no picture",
        "http:/x.org/a.png": "an address, not a file: download it first",
        "p": "not a regular file",
    }


def test_a_quotation_mark_that_is_not_closed_is_reported(folder):
    (folder / "t.csv").write_text('file,label\np/1.png,cat\n"p/2.png,dog\np/3.png,cat\n')
    found = find_pictures(folder / "t.csv")
    assert list(labels(found)) == ["p/1.png"]
    said = "no such file; its path has a line break, perhaps because a quotation mark is never closed"
    assert list(details(found).values()) == [said]
    # The quotation marks may all be closed: names of files may have line breaks.
    (folder / "t.csv").write_text('file,label\np/1.png,cat\n"gone\nnow.png",dog\n')
    assert details(find_pictures(folder / "t.csv")) == {"gone\nnow.png": said}


def test_paths_of_a_list_may_be_relative_to_it_or_to_the_working_folder(folder, monkeypatch):
    (folder / "lists").mkdir()
    (folder / "lists/all.txt").write_text("p/1.png\np/2.png\np/gone.png\n")
    with pytest.raises(DataError, match="holds no picture") as error:
        find_pictures(folder / "lists/all.txt")
    assert f"no such file in {folder / 'lists'} or {Path.cwd()}" in str(error.value)
    monkeypatch.chdir(folder)
    found = find_pictures(Path("lists/all.txt"))
    assert list(labels(found)) == ["p/1.png", "p/2.png"]
    assert details(found) == {"p/gone.png": f"no such file in {folder / 'lists'} or {folder}"}
    fill(folder / "lists", "p/1.png")  # the folder of the list comes first
    assert find_pictures(Path("lists/all.txt")).pictures[0].content.path == folder / "lists/p/1.png"


def test_a_list_may_be_given_by_a_path_with_dots_behind_a_link(tmp_path, monkeypatch):
    """`link/../list.txt` is the list beside the folder to which the link leads, and so are its pictures."""
    fill(tmp_path, "here/b.png", "set/deep/a.png", "set/b.png")
    (tmp_path / "set" / "list.txt").write_text("deep/a.png\nb.png\n")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "set" / "deep")
    monkeypatch.chdir(tmp_path / "here")
    found = find_pictures(Path("link/../list.txt")).pictures
    assert [picture.name for picture in found] == ["b.png", "deep/a.png"]
    assert found[0].read() == (tmp_path / "set" / "b.png").read_bytes()
    (tmp_path / "plain").symlink_to("set")  # links that `..` does not follow stay
    assert without_dots(tmp_path / "plain" / "deep" / ".." / "b.png") == tmp_path / "plain" / "b.png"


def test_lines_of_a_list_may_be_written_in_many_ways(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "home"))
    fill(folder, "größe.png", "home/h.png", "a;b, c.png", "with space.png", "na\u0308h.png")
    lines = [
        '"p/1.png"', "'with space.png'", ".\\p\\2.png", "~/h.png", "a;b, c.png", "n\u00e4h.png",
        f"file://{folder}/p/3.png",
    ]  # fmt: skip
    (folder / "l.txt").write_bytes("\r\n".join(lines).encode() + b"\r\ngr\xf6\xdfe.png\r\n")
    found = find_pictures(folder / "l.txt")
    assert found.left_out == []
    assert len(found.pictures) == 8


def test_a_text_file_may_be_a_table(folder):
    path = folder / "train.txt"
    path.write_text("p/1.png 0\np/2.png 1\np/3.png 0\n")  # like ImageNet's lists
    assert kind_of(path) == "table"
    found = find_pictures(path, labels="csv", label_column="2")
    assert labels(found) == {"p/1.png": "0", "p/2.png": "1", "p/3.png": "0"}
    path.write_bytes("image\tlabel\r\np/1.png\tcat\r\n".encode("utf-16"))  # Excel's "Unicode text"
    assert labels(find_pictures(path, labels="csv")) == {"p/1.png": "cat"}
    path.write_text("p/1.png\np/2.png\n")
    assert kind_of(path) == "list"


def test_labels_of_a_spreadsheet_in_a_western_encoding_are_text(folder):
    (folder / "t.csv").write_bytes("file;Größe\np/1.png;gro\xdf\n".encode("latin-1"))
    assert labels(find_pictures(folder / "t.csv", labels="csv", label_column="größe")) == {"p/1.png": "groß"}


def test_names_longer_than_a_file_name_can_be_are_one_sentence(folder):
    long = "x" * 300 + ".png"
    with pytest.raises(DataError, match="does not exist"):
        find_pictures(folder / long)
    (folder / "t.csv").write_text(f"file\n{long}\np/1.png\n{'y/' * 3000}\n")
    found = find_pictures(folder / "t.csv")
    assert list(labels(found)) == ["p/1.png"]
    assert len(found.left_out) == 2


def written(rng: random.Random, folder: Path, number: int) -> tuple[bytes, set[str], int]:
    """A random table, the existing pictures that it names, and how many of its rows name a missing one."""
    delimiter, there, missing = rng.choice(",;\t|"), set(), 0
    columns = rng.randint(1, 4)
    at = rng.randrange(columns)
    rows = []
    if rng.random() < 0.7:
        head = [f"col{chr(97 + i)}" for i in range(columns)]
        head[at] = rng.choice(["file", "Image", "file_name", "img path", "what", "photo"])
        rows.append(head)
    for _ in range(rng.randint(3, 12)):
        row = [rng.choice(["7", "cat", "", "a b", "x;y,z|w"]) for _ in range(columns)]
        if rng.random() < 0.75 or not there:
            name = f"p/{rng.randrange(number)}.png"
            if name in there:
                continue
            there.add(name)
        else:
            missing += 1
            name = f"p/gone{missing}.png"
        row[at] = name.replace("/", "\\") if rng.random() < 0.2 else name
        rows.append(row)
    quote = lambda cell: f'"{cell}"' if any(c in cell for c in ",;\t|") or rng.random() < 0.2 else cell  # noqa: E731
    end = rng.choice(["\n", "\r\n"])
    text = end.join(delimiter.join(map(quote, row)) for row in rows) + end * rng.randint(0, 3)
    if rng.random() < 0.1 and delimiter != "\t":
        text = f"sep={delimiter}{end}{text}"
    return text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"])), there, missing


def test_random_tables_are_read_as_intended(folder):
    fill(folder, *(f"p/{i}.png" for i in range(20)))
    for seed in range(150 * FUZZ):
        data, there, missing = written(random.Random(seed), folder, 20)
        path = folder / f"{'t.csv' if seed % 2 else 't.tsv'}"
        path.write_bytes(data)
        found = find_pictures(path)
        assert set(labels(found)) == there, (seed, data)
        assert len(found.left_out) == missing, (seed, data)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes are changed, removed, doubled or inserted."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(content):
            content[at] = rng.randrange(256)
        elif kind == 1:
            del content[at : at + rng.randint(1, 20)]
        elif kind == 2:
            content[at:at] = rng.choice(
                [b'"', b"\0", b"\r", b"\n", b";", b"\xff", b"\x1b[2J", b"\xff\xfe", b"../"]
            )
        elif kind == 3:
            content[at:at] = content[at : at + rng.randint(1, 200)]
        else:
            word = "".join(rng.choices(string.printable, k=rng.choice([3, 300, 5000])))
            content[at:at] = word.encode()
    return bytes(content)


@pytest.mark.parametrize("name", ["t.csv", "t.txt", "t"])
def test_damaged_tables_and_lists_give_rows_or_one_sentence(folder, name):
    """Every row gives a picture or a reason, or the whole file gives one error that the user can correct."""
    fill(folder, *(f"p/{i}.png" for i in range(20)))
    for seed in range(80 * FUZZ):
        rng = random.Random(seed)
        data = damaged(rng, written(rng, folder, 20)[0])
        (folder / name).write_bytes(data)
        try:
            found = find_pictures(folder / name, labels=rng.choice(["none", "folders"]))
        except TunitError as error:
            assert str(error).encode("utf-8")  # raises for lone surrogates
            assert not any(unicodedata.category(char) == "Cc" for char in str(error))
        else:
            assert all(picture.content.path.is_file() for picture in found.pictures), (seed, data)
