"""Requests that no page of the studio sends. Each gets a response, no server error occurs, and nothing forbidden is
done.
"""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soak.guarded import examples, guarded
from tunit.studio.app import PARTS

FEW = examples(60)
ODD = st.sampled_from(
    ["", "0", "-1", "1e999", "nan", "9" * 30, "..", "../..", "/etc/passwd", "a\0b", "%00", "%2e%2e%2f", "é", "{}",
     "[", "[" * 5000, "null", '{"do": "undo"}', '{"do": "give", "pictures": [0], "domain": 1}', '{"do": 5}',
     "<script>", "x" * 3000, "true", "0.5", "birds", "more/a later one", "\u202e", "1,2", "all", "-o", "7" * 5000]
) | st.text(max_size=8)  # fmt: skip
NAMES = st.sampled_from(
    ["action", "seen", "do", "domain", "row", "rows", "pictures", "source", "reference", "size", "name", "steps",
     "from", "strength", "format", "start", "number", "preset", "folder", "path", "domains", "seed", "step", "token",
     "files"]
)  # fmt: skip
FORBIDDEN = (
    "/start",
    "/look",
    "/resume",
    "/teach/train",
)  # these start processes; test_jobs.py tests them
ADDRESSES = [route.path for part in PARTS for route in part.ROUTES if not route.path.endswith(FORBIDDEN)]
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "accept", "range", "origin", "sec-fetch-site", "content-length", "cookie"]),
    st.sampled_from(["multipart/form-data", "multipart/form-data; boundary=x", "application/json", "text/html", "-1",
                     "bytes=9-1", "null", "same-origin", "application/x-www-form-urlencoded; charset=no", ";;="]),
    max_size=2,
)  # fmt: skip


@FEW
@given(
    address=st.sampled_from(ADDRESSES),
    place=st.sampled_from(["birds", "birds", "birds", "more/a later one", "..", "nothing"]),
    parts=st.lists(ODD, min_size=3, max_size=3),
    query=st.dictionaries(NAMES, ODD, max_size=4),
    form=st.dictionaries(NAMES, ODD, max_size=5),
    files=st.lists(st.tuples(NAMES, ODD, st.binary(max_size=60)), max_size=2),
    method=st.sampled_from(["GET", "POST", "POST", "PUT"]),
    headers=HEADERS,
)
def test_any_request_gets_a_response_without_a_server_error(
    client, runs, caplog, address, place, parts, query, form, files, method, headers
):
    from urllib.parse import quote

    path = address.replace("{run}", quote(place, errors="surrogatepass"))
    for name, part in zip(("row", "domain", "place", "name"), [*parts, parts[0]], strict=True):
        path = path.replace(f"{{{name}}}", quote(part, errors="surrogatepass"))
    form = {name: value for name, value in form.items() if value.isprintable()}
    sent = {"data": form} if method != "GET" else {}
    if files and method != "GET":
        sent["files"] = [
            (name, (file.encode("utf-8", "replace").decode(), data)) for name, file, data in files
        ]
    caplog.clear()
    with guarded(runs.parent):
        answer = client.request(method, path, params=query, headers=headers, **sent)
    assert answer.status_code < 500, (method, path, query, form, answer.text[:300])
    assert "Traceback" not in answer.text
    assert not [row for row in caplog.records if row.levelno >= logging.ERROR]


def test_only_labels_have_changed(runs):
    assert {path.name for path in (runs / "birds").iterdir()} >= {"model.safetensors", "config.toml"}


@pytest.mark.parametrize(
    "body", [b"", b"--x\r\n", b"--x--", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--", b"\0" * 9]
)
def test_a_damaged_form_is_refused(client, body):
    for address in ("/runs/birds/translate/draw", "/runs/birds/teach/act"):
        answer = client.post(
            address, content=body, headers={"content-type": "multipart/form-data; boundary=x"}
        )
        assert 400 <= answer.status_code < 500, answer.text
