"""A page of photos with captions, as one self-contained HTML file: `lineup search --open` shows it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from lineup.photos.thumbnails import thumbnail

_PAGE = Markup("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body {{ font: 14px system-ui, sans-serif; margin: 2em; color-scheme: light dark; }}
main {{ display: flex; flex-wrap: wrap; gap: 1em; }}
figure {{ margin: 0; width: 140px; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>{query}
<main>{results}</main>
</html>
""")
_FIGURE = Markup(
    '<figure><img src="data:image/jpeg;base64,{data}" alt=""><figcaption>{caption}</figcaption></figure>\n'
)


class Picture(NamedTuple):
    """A photo, as the bytes of an image file, and the caption below it."""

    data: bytes
    caption: str


def page(title: str, query: Picture | None, results: Sequence[Picture]) -> str:
    """The page's HTML, in which title and captions are text and never markup.

    query: the photo that was searched with; None if the search was by text.
    """
    searched = Markup("<section>{}</section>").format(_figure(query)) if query else ""
    return str(_PAGE.format(title=title, query=searched, results=Markup("").join(map(_figure, results))))


def _figure(picture: Picture) -> Markup:
    return _FIGURE.format(data=base64.b64encode(thumbnail(picture.data)).decode(), caption=picture.caption)
