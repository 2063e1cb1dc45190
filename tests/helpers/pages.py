"""An HTML page as the tests of reports read it."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Every address on a page, and its tags' balance."""

    def __init__(self):
        super().__init__()
        self.addresses, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
