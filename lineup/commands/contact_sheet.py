"""A page of photos with their captions, in one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from lineup.photos.thumbnails import thumbnail

_PAGE = Markup("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body {{ font: 14px system-ui, sans-serif; margin: 2em; color-scheme: light dark; }}
main {{ display: flex; flex-wrap: wrap; gap: 1em; }}
figure {{ margin: 0; width: 140px; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>{asked}
<main>{found}</main>
</html>
""")
_FIGURE = Markup(
    '<figure><img src="data:image/jpeg;base64,{data}" alt=""><figcaption>{caption}</figcaption></figure>\n'
)


class Picture(NamedTuple):
    """data: an image file's bytes."""

    data: bytes
    caption: str


def page(title: str, asked: Picture | None, found: Sequence[Picture]) -> str:
    """HTML; titles and captions are shown as the characters they have.

    asked: the photo that was searched with.
    """
    query = Markup("<section>{}</section>").format(_figure(asked)) if asked else ""
    return str(_PAGE.format(title=title, asked=query, found=Markup("").join(map(_figure, found))))


def _figure(picture: Picture) -> Markup:
    return _FIGURE.format(data=base64.b64encode(thumbnail(picture.data)).decode(), caption=picture.caption)
