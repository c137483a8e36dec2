"""Sends a submission once: repeated only where the server says by a 5xx that it failed, and remembered on
this machine.

A submission is known by its URL and bytes. It is noted before it's sent, so that whatever happens afterwards
(a time-out, a lost connection, an interrupted run), it isn't sent a second time unless that is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import LocationParseError, MaxRetryError, NewConnectionError
from urllib3.util import Retry

from lineup import paths
from lineup.errors import UserError
from lineup.storage import files

NOTES = paths.CACHE / "submissions"
_LARGEST_ANSWER = 2**20
_SHOWN = 300  # characters of an answer that isn't understood


def send(
    url: str, body: bytes, *, again: bool = False, seconds: float = 120, pause_seconds: float = 1
) -> float:
    """The accuracy that the server answers with.

    seconds: how long the server may be silent; pause_seconds: before the first repetition, doubled for each
    of at most 3. UserError tells what the server said, or that it said nothing, and whether it may have the
    submission.
    """
    place = _place(url)
    note = _note(url, body)
    _take_note(note, place, again)
    try:
        response, text = _post(url, body, note.stem, seconds, pause_seconds)
    except (
        requests.RequestException,
        LocationParseError,
    ) as error:  # the latter of a host's name: requests lets it through
        if _never_sent(error):
            note.unlink()
            raise UserError(f"{place}: can't be reached ({_reason(error)}); nothing was sent") from None
        raise UserError(
            f"{place}: didn't answer within {seconds:g} s, or hung up ({_reason(error)}); it may have the submission: "
            "look there first, --again sends it once more"
        ) from None
    if not 200 <= response.status_code < 300:
        note.unlink()
        hint = f"; it points to {response.headers['Location']!r}" if response.is_redirect else ""
        raise UserError(
            f"{place}: refused the submission with {response.status_code} {response.reason!r}{hint}: {_shown(text)}"
        )
    accuracy = _accuracy(text)
    files.write_json(
        note, {**_now(place), "state": "answered", "accuracy": accuracy, "answer": text[:_SHOWN]}
    )
    if accuracy is None:
        raise UserError(
            f"{place}: took the submission, but answered without an accuracy: {_shown(text)}; --again sends it once more"
        )
    return accuracy


def _place(url: str) -> str:
    """The URL as it's shown, without a password or a query. UserError if it is none."""
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        parts, host = None, None
    if not parts or not host or parts.scheme not in ("http", "https"):
        raise UserError(
            f"--url is {url!r}, which is no address; it should look like https://example.org/retrieval/"
        )
    return f"{parts.scheme}://{host}{parts.path}"


def _note(url: str, body: bytes) -> Path:
    digest = hashlib.sha256(url.encode(errors="surrogateescape") + b"\0" + body).hexdigest()
    return NOTES / f"{digest}.json"


def _now(place: str) -> dict[str, Any]:
    return {"url": place, "time": datetime.now(UTC).isoformat(timespec="seconds")}


def _take_note(note: Path, place: str, again: bool) -> None:
    """UserError if there is a note already and `again` isn't set. Two runs at once can't both get through."""
    note.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**_now(place), "state": "sent, no answer yet"})
    try:
        with note.open("w" if again else "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        try:
            earlier = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            earlier = {}  # another run is just writing it, or was stopped there
        outcome = (
            f"accuracy {earlier['accuracy']}"
            if earlier.get("accuracy") is not None
            else "no accuracy came back"
        )
        when = earlier.get("time", "at an unknown time")
        raise UserError(
            f"{place}: this submission was sent there before ({when}, {outcome}); --again sends it once more"
        ) from None


def _post(
    url: str, body: bytes, key: str, seconds: float, pause_seconds: float
) -> tuple[requests.Response, str]:
    """The last response and its text.

    The same Idempotency-Key goes with every repetition: servers that know it count once.
    """
    deadline = time.monotonic() + seconds
    retry = Retry(
        total=3,
        connect=0,
        read=0,
        other=0,
        redirect=0,
        status=3,
        status_forcelist=range(500, 600),
        allowed_methods=["POST"],
        backoff_factor=pause_seconds,
        respect_retry_after_header=False,  # it may say days
        raise_on_status=False,
    )
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key}
        timeout = (min(10.0, seconds), seconds)
        # A redirected POST may become a GET, or be sent to somebody else: it is told, not followed.
        response = session.post(
            url, data=body, headers=headers, timeout=timeout, allow_redirects=False, stream=True
        )
        with response:
            received = b""
            for piece in response.iter_content(8_192):
                received += piece
                if time.monotonic() > deadline:
                    raise requests.ReadTimeout("the answer came too slowly")
                if len(received) > _LARGEST_ANSWER:
                    break
            return response, received[:_LARGEST_ANSWER].decode("utf-8", errors="replace")


def _never_sent(error: Exception) -> bool:
    """Whether no byte of the submission can have left; where that isn't certain, no."""
    cause: BaseException | None = (
        error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
    )
    if isinstance(cause, MaxRetryError):
        cause = cause.reason
    inner = cause.args[-1] if cause is not None and cause.args else None
    unsafe = isinstance(cause, ssl.SSLCertVerificationError) or isinstance(
        inner, ssl.SSLCertVerificationError
    )
    refused = (
        requests.ConnectTimeout,
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidHeader,
        LocationParseError,
    )
    return isinstance(error, refused) or isinstance(cause, NewConnectionError) or unsafe


def _reason(error: Exception) -> str:
    """The innermost cause, in one line."""
    cause: BaseException = error
    while True:
        inner = getattr(cause, "reason", None) or next(
            (arg for arg in cause.args if isinstance(arg, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            return f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:_SHOWN]
        cause = inner


def _accuracy(text: str) -> float | None:
    """Of {"accuracy": 0.5}; None if the answer holds no finite number there."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    value = answer.get("accuracy") if isinstance(answer, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _shown(text: str) -> str:
    return (
        repr(text[:_SHOWN]) + (" and more" if len(text) > _SHOWN else "")
        if text.strip()
        else "an empty answer"
    )
