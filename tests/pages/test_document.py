"""The HTML that all pages share: it loads nothing from the network, and text can neither become markup nor end a
script.
"""

import json
import re
from html.parser import HTMLParser

from tunit.pages.document import bullets, data_script, document, section, table

HOSTILE = '</script><script>alert(1)</script> & "quotes" <b>'


class Reader(HTMLParser):
    """The tags of a page in order, and the text of each."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        if self.tags:
            self.texts.setdefault(self.tags[-1], []).append(data)


def test_text_is_escaped():
    body = section("s", HOSTILE, HOSTILE, table((HOSTILE, "b"), [(HOSTILE, HOSTILE)]))
    read = Reader(document(HOSTILE, body))
    assert read.tags.count("script") == 0
    assert read.tags.count("b") == 0
    for tag in ("title", "h2", "p", "th", "td"):
        assert HOSTILE in "".join(read.texts[tag])


def test_a_page_loads_nothing_from_the_network():
    page = document("t", "<p>x</p>", style=".a{color:red}", script="let a = 1;")
    assert not re.search(r"(src|href)=\"(?!data:)|url\((?!data:)|@import|//[a-z]", page)
    assert ".a{color:red}</style>" in page
    assert "<script>let a = 1;</script></body></html>" in page
    assert "<script" not in document("t", "")


def test_data_for_a_script_are_read_back_unchanged():
    data = {"names": [HOSTILE, "é\u2028"], "n": [1, 2.5, None]}
    found = re.fullmatch(r'<script type="application/json" id="d">(.*)</script>', data_script("d", data))
    assert found is not None
    assert json.loads(found[1]) == data
    assert "<" not in found[1]


def test_an_empty_section_is_left_out_and_lists_have_their_class():
    assert section("s", "t", "lead", "") == ""
    assert bullets(["a", "<b>b</b>"], "notes") == '<ul class="notes"><li>a</li><li><b>b</b></li></ul>'
    assert bullets([]) == "<ul></ul>"
