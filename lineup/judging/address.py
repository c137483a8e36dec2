"""Where the judging page is, unless --port says otherwise: on this machine alone."""

from __future__ import annotations

HOST, PORT = "127.0.0.1", 8100
URL = f"http://{HOST}:{PORT}/"
