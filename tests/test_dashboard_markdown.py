"""Text from data in places that read markdown: shown as it is, whatever it holds, and without needless backslashes."""

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dashboard.page import plain

READER = MarkdownIt("commonmark").enable(["strikethrough", "table"])
SIGNS = "\\`*_{}[]()<>#+-.!|~$:&;=@ \n\tabz019"


def read(markdown: str) -> str:
    """What a reader of the rendered markdown sees; fails where there is an element beside the paragraph."""
    rendered = READER.render(markdown).removeprefix("<p>").removesuffix("</p>\n")
    assert "<" not in rendered, rendered
    return html.unescape(rendered)


@given(st.text(SIGNS, min_size=1) | st.text(st.characters(exclude_categories=["Cs", "Cc"])))
@example("<script>alert(1)</script> **bold** _so_ [x](y) ![x](y) `a`")
@example("1. one")
@example("&lt;b&gt; &#42;")
@example("# head")
@example("- - -")
def test_what_is_read_is_what_was_written(text: str) -> None:
    one_line = " ".join(text.split())
    assert read(plain(text)) == one_line if one_line else plain(text) == ""


@pytest.mark.parametrize(
    "text", ["Star Trek: First Contact", "user_id", "Se7en (1995)", "E.T. - the film!", "50 % + 1"]
)
def test_ordinary_names_keep_their_looks_for_those_who_hear_them(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize("text", [":red[x]", ":material/home:", ":smile:", "www.example.org", "a@example.org", "$x$"])
def test_what_only_the_browser_reads_is_escaped_too(text: str) -> None:
    first = re.search(r"[:.@$]", text)
    assert first is not None
    assert plain(text)[first.start()] == "\\"
