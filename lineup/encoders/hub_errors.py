"""Errors on the way to a hub, each in one sentence with its fix."""

from __future__ import annotations

import errno
import logging
import re
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, errors

from lineup.errors import UserError

_HINT = (
    "go online and run again, or `dvc pull` what a teammate pushed, "
    'or use a copy of yours with weights: "file:..."'
)


def _is_not_about_retries(record: logging.LogRecord) -> bool:
    return not re.search("thrown while requesting|^Retrying in", record.getMessage())


# huggingface_hub logs each failed attempt, and raises an error once all have failed: the error is enough. Its
# handler would print what our own log prints already.
logging.getLogger("huggingface_hub.utils._http").addFilter(_is_not_about_retries)
logging.getLogger("huggingface_hub").handlers.clear()


@contextmanager
def translate_errors(what: str, revision: str | None = None, hub: str | None = None) -> Iterator[None]:
    """Turns an error on the way to a hub into a UserError.

    Args:
        what: the repository or file that is fetched.
        hub: its address, by default that of HF_ENDPOINT.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _reason(error, what, revision, hub or constants.ENDPOINT)
        if reason is None:
            raise
        raise UserError(reason) from None


def _reason(error: BaseException, what: str, revision: str | None, hub: str) -> str | None:
    """The sentence for an error, or for the one that caused it; None if it isn't about a hub."""
    chain = _causes(error)
    for cause in chain:
        if isinstance(cause, errors.GatedRepoError):
            return (
                f"weights: {what} is gated: accept its terms at {hub}/{what}, "
                "then set HF_TOKEN to a token of that account"
            )
        if isinstance(cause, errors.RepositoryNotFoundError):
            return (
                f"name: there is no {what} on {hub}, or it is private: check its spelling, "
                "or set HF_TOKEN to a token that may read it"
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            missing = revision or constants.DEFAULT_REVISION
            return f"revision: {what} on {hub} has no revision '{missing}'; see {hub}/{what}/commits/main"
        if isinstance(cause, errors.HFValidationError):
            return f"name: '{what}' is not a repository's name; it must look like organisation/repository"
    for cause in chain:
        fault = _network_fault(cause)
        if fault:
            return f"weights: {what} can't be fetched from {hub} ({fault}); {_HINT}"
    return None


def _network_fault(cause: BaseException) -> str | None:
    """An error of the network, in a few words; None for other errors.

    Classes are compared by name, because huggingface_hub has changed its HTTP library before.
    """
    kinds, message = {kind.__name__ for kind in type(cause).__mro__}, str(cause)
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return None
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, and the cache has no complete copy"
    if isinstance(cause, errors.HfHubHTTPError):
        status = cause.response.status_code
        return (
            f"access is refused, {status}: set HF_TOKEN to a token that may read it"
            if status in (401, 403)
            else f"it answered {status}"
        )
    if isinstance(cause, urllib.error.HTTPError):
        return f"it answered {cause.code}"
    if re.search(
        r"Name or service not known|name resolution|getaddrinfo|nodename nor servname|No address associated",
        message,
    ):
        return "its address can't be found"
    if "ProxyError" in kinds:
        return f"the proxy fails: {message}"
    if kinds & {"TimeoutException", "TimeoutError"}:
        return "it doesn't answer in time"
    if kinds & {"ConnectError", "ConnectionRefusedError", "URLError"}:
        return f"it can't be reached: {message}"
    broken = re.match("Consistency check failed|invalid hash value|retrieval incomplete", message)
    if broken or kinds & {"RemoteProtocolError", "ReadError", "IncompleteRead", "ConnectionError"}:
        return "the download broke off; the next run resumes it where it can"
    if isinstance(cause, errors.FileMetadataError):
        return "the server is not a Hugging Face hub"
    if isinstance(cause, errors.LocalEntryNotFoundError):
        return "the cache has no complete copy"
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """An error and its causes, root cause first, as huggingface_hub's outer errors are less specific."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain[::-1]
