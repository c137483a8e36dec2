"""Sends a submission once, and remembers on this machine that it did.

A submission is identified by its URL and its bytes. It is recorded before it is sent. So it is not sent a
second time unless the user asks for it, whatever happens after that: a time-out, a lost connection, an
interrupted run. A response of 5xx means that the server failed, and so it is sent again.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from lineup import paths
from lineup.errors import UserError
from lineup.storage import files

RECORDS = paths.CACHE / "submissions"
_MAX_RETRIES = 3
_CONNECT_SECONDS = 10.0
_MAX_RESPONSE_BYTES = 2**20
_CHUNK_BYTES = 8_192
_MAX_SHOWN_CHARACTERS = 300
_SEND_AGAIN = "--again sends it once more"


def send(
    url: str, body: bytes, *, again: bool = False, seconds: float = 120, pause_seconds: float = 1
) -> float:
    """Sends a submission.

    Args:
        again: send it even if it was sent there before.
        seconds: how long the server may take to answer.
        pause_seconds: before the first retry; each later pause is twice as long.
    Returns:
        The accuracy that the server answers with.
    Raises:
        UserError: what the server said, or that it said nothing, and whether it may have the submission.
    """
    address = _address(url)
    record = _record_path(url, body)
    _record_sending(record, address, again)
    stream = _ReadOnce(body)
    try:
        response, text = _post(url, stream, record.stem, seconds, pause_seconds)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if not stream.was_read:
            record.unlink()
            raise UserError(f"{address}: can't be reached ({_reason(error)}); nothing was sent") from None
        raise UserError(
            f"{address}: didn't answer within {seconds:g} s, or hung up ({_reason(error)}); "
            f"it may have the submission: look there first, {_SEND_AGAIN}"
        ) from None
    if not 200 <= response.status_code < 300:
        record.unlink()
        target = f"; it points to {response.headers['Location']!r}" if response.is_redirect else ""
        raise UserError(
            f"{address}: refused the submission with {response.status_code} {response.reason!r}{target}: "
            f"{_shown(text)}"
        )
    accuracy = _accuracy(text)
    answer = {"accuracy": accuracy, "answer": text[:_MAX_SHOWN_CHARACTERS]}
    files.write_json(record, {"url": address, "time": _now(), "state": "answered", **answer})
    if accuracy is None:
        raise UserError(
            f"{address}: took the submission, but answered without an accuracy: {_shown(text)}; {_SEND_AGAIN}"
        )
    return accuracy


def _address(url: str) -> str:
    """The URL as it is shown, without a password or a query. UserError if it is not an http address."""
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
    except ValueError:
        parts, host = None, None
    if not parts or not host or parts.scheme not in ("http", "https"):
        raise UserError(
            f"--url is {url!r}, which is not an http address; use one such as https://example.org/retrieval/"
        )
    return f"{parts.scheme}://{host}{parts.path}"


def _record_path(url: str, body: bytes) -> Path:
    digest = hashlib.sha256(url.encode(errors="surrogateescape") + b"\0" + body).hexdigest()
    return RECORDS / f"{digest}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _record_sending(record: Path, address: str, again: bool) -> None:
    """UserError if there is a record and `again` is not set. Of two runs at once, only one gets through."""
    record.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"url": address, "time": _now(), "state": "sent, no answer yet"})
    try:
        with record.open("w" if again else "x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        try:
            earlier = json.loads(record.read_text(encoding="utf-8"))
        except ValueError:  # another run is just writing it, or was stopped there
            earlier = {}
        accuracy = earlier.get("accuracy")
        outcome = "no accuracy came back" if accuracy is None else f"accuracy {accuracy}"
        when = earlier.get("time", "at an unknown time")
        raise UserError(
            f"{address}: this submission was sent there before ({when}, {outcome}); {_SEND_AGAIN}"
        ) from None


class _ReadOnce(io.BytesIO):
    """A request's body that knows whether any of it was read, and hence may have left this machine."""

    was_read = False

    def read(self, size: int | None = -1, /) -> bytes:
        self.was_read = True
        return super().read(size)


def _post(
    url: str, body: io.BytesIO, key: str, seconds: float, pause_seconds: float
) -> tuple[requests.Response, str]:
    """The last response and its text, of which only the beginning is read if it is long.

    Every retry has the same Idempotency-Key: a server that knows the header counts them as one.
    A redirect is not followed, since a redirected POST may become a GET, or go to somebody else.
    """
    deadline = time.monotonic() + seconds
    retries = urllib3.Retry(
        total=_MAX_RETRIES,
        connect=0,
        read=0,
        other=0,
        redirect=0,
        status=_MAX_RETRIES,
        status_forcelist=range(500, 600),
        allowed_methods=["POST"],
        backoff_factor=pause_seconds,
        respect_retry_after_header=False,  # a Retry-After may ask for days
        raise_on_status=False,
    )
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key}
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        with session.post(
            url,
            data=body,
            headers=headers,
            timeout=(min(_CONNECT_SECONDS, seconds), seconds),
            allow_redirects=False,
            stream=True,
        ) as response:
            received = b""
            for chunk in response.iter_content(_CHUNK_BYTES):
                received += chunk
                if time.monotonic() > deadline:
                    raise requests.ReadTimeout("the answer came too slowly")
                if len(received) > _MAX_RESPONSE_BYTES:
                    break
            return response, received[:_MAX_RESPONSE_BYTES].decode("utf-8", errors="replace")


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: requests wraps urllib3's errors, and those wrap others."""
    inner = getattr(error, "reason", None)
    if not isinstance(inner, BaseException):
        inner = next((argument for argument in error.args if isinstance(argument, BaseException)), None)
    if inner is not None:
        return _reason(inner)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_MAX_SHOWN_CHARACTERS]


def _accuracy(text: str) -> float | None:
    """The number in {"accuracy": 0.5}; None if the answer holds no finite number there."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    value = answer.get("accuracy") if isinstance(answer, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _shown(text: str) -> str:
    if not text.strip():
        return "an empty answer"
    return repr(text[:_MAX_SHOWN_CHARACTERS]) + (" and more" if len(text) > _MAX_SHOWN_CHARACTERS else "")
