"""One HTML page that needs nothing else: a body, what it is of, and the scripts that draw it, with uPlot among them.

Responsible for that a page asks no network, that names in it cannot become markup, and that uPlot's licence goes with
it. It knows nothing of what is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

_MARK = b"<!-- scripts -->\n"


class Page:
    """A page to be written; what is added is for its scripts to read, by the id of an element."""

    def __init__(self, body: Traversable, scripts: Sequence[Traversable]) -> None:
        """`body` is HTML in which `/* styles */` and `<!-- scripts -->` mark where these go."""
        self._body, self._scripts = body, scripts
        self._shared = files("ringtape.tape") / "plot_page"
        self._elements: list[tuple[str, str, str]] = []

    def add_json(self, id_: str, value: Any) -> None:
        """A value as JSON that cannot end the element it is in: names in it may be anybody's."""
        self._elements.append((id_, "application/json", json.dumps(value).replace("<", "\\u003c")))

    def add_text(self, id_: str, text: str) -> None:
        """Text in which there is no markup, as base64."""
        assert "<" not in text
        self._elements.append((id_, "application/octet-stream", text))

    def write(self, write: Callable[[bytes], object], begins_with: bytes) -> None:
        """Write it in pieces; `begins_with` is what it is known by."""
        styles = [(self._shared / name).read_bytes() for name in ("uPlot.min.css", "page.css")]
        body, end = self._body.read_bytes().split(_MARK)
        write(begins_with)
        write(body.replace(b"/* styles */", b"\n".join(styles)))
        for id_, kind, text in self._elements:
            write(f'<script id="{id_}" type="{kind}">{text}</script>\n'.encode())
        # Its licence asks to go with every copy of it, and a page is one.
        write(b"<script>\n/*\n" + (self._shared / "uPlot.LICENSE").read_bytes() + b"*/\n</script>\n")
        for script in (self._shared / "uPlot.iife.min.js", *self._scripts):
            write(b"<script>\n" + script.read_bytes() + b"\n</script>\n")
        write(end)
