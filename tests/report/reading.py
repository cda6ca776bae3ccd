"""What a browser makes of a page: its tags, checked for balance, its text and its headings."""
from __future__ import annotations

from html.parser import HTMLParser

_VOID = frozenset({"meta", "link", "img", "br", "hr", "input", "col"})


class Page(HTMLParser):
    """A parsed page. Raises `AssertionError` for a tag that closes what is not open."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> while {self.open[-3:]} are open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.text += data

    def attributes(self, name: str) -> list[str | None]:
        """The values of an attribute wherever it stands."""
        return [attrs[name] for _, attrs in self.tags if name in attrs]
