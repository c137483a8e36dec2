"""Repositories of the Hugging Face hub, fetched at one commit and checked; each error is one sentence.

Everything goes through huggingface_hub. So HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN, HF_HOME, proxies and
existing caches work as it documents, and the next run resumes an interrupted download.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import constants, errors, get_repo_discussions, metadata_load, snapshot_download

from lineup.encoders import weights
from lineup.encoders.encoder_config import JsonObject
from lineup.errors import UserError

HINT = (
    "go online and run again, or `dvc pull` what a teammate pushed, "
    'or use a copy of yours with weights: "file:..."'
)
_CARD = "README.md"
_MAX_SETTINGS_MB, _MAX_JSON_LEVELS = 16, 64


def _is_not_about_retries(record: logging.LogRecord) -> bool:
    return not re.search("thrown while requesting|^Retrying in", record.getMessage())


# huggingface_hub logs each failed attempt, and raises an error once all have failed: the error is enough. Its
# handler would print what our own log prints already.
logging.getLogger("huggingface_hub.utils._http").addFilter(_is_not_about_retries)
logging.getLogger("huggingface_hub").handlers.clear()


@dataclass(frozen=True)
class Snapshot:
    """A repository's files at one commit.

    Attributes:
        commit: None for a folder of the user's.
        hashes: SHA-256 of each file, by its path in the folder.
    """

    folder: Path
    repository: str
    commit: str | None
    hashes: dict[str, str]

    def has(self, *names: str) -> bool:
        """Whether the repository has any of these files."""
        return any((self.folder / name).is_file() for name in names)

    def source(self) -> JsonObject:
        """The `EncoderConfig.source` of an encoder from this repository."""
        hashes = {name: digest for name, digest in self.hashes.items() if name != _CARD}
        safetensors = [digest for name, digest in hashes.items() if name.endswith(".safetensors")]
        return {
            "repository": self.repository,
            "revision": self.commit,
            "files": hashes,
            "sha256": safetensors[0] if len(safetensors) == 1 else None,
        }

    def settings(self, name: str) -> JsonObject:
        """The content of a JSON file.

        Raises UserError if it isn't a JSON object, or is so large or deep that a library would run out of
        memory or stack.
        """
        path = self.folder / name
        fault = f"weights: {name} of {self.repository}"
        if path.stat().st_size > _MAX_SETTINGS_MB * 2**20:
            raise UserError(
                f"{fault} is larger than {_MAX_SETTINGS_MB} MB, which settings never are; "
                "choose another checkpoint"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or not _is_shallow(content):
            raise UserError(
                f"{fault} is damaged: it must be a JSON object of at most {_MAX_JSON_LEVELS} levels; "
                "choose another checkpoint, or correct a copy"
            )
        return content

    def licence(self) -> str | None:
        """What the repository's card states: "apache-2.0", "other (dinov3-license)", or None."""
        try:
            card = metadata_load(self.folder / _CARD) or {}
        except Exception:  # the card is for people to read, and its faults don't touch the weights
            return None
        licence, name = card.get("license"), card.get("license_name")
        # Only strings are taken, because a few bytes of YAML (nested aliases) can expand to gigabytes.
        stated = ", ".join(
            part for part in (licence if isinstance(licence, list) else [licence]) if isinstance(part, str)
        )
        return f"{stated} ({name})" if stated and isinstance(name, str) else stated or None


def _is_shallow(content: Any) -> bool:
    level = [content]
    for _ in range(_MAX_JSON_LEVELS):
        level = [
            child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        level = [child for child in level if isinstance(child, dict | list)]
    return not level


def snapshot(repository: str, revision: str | None, patterns: Sequence[str]) -> Snapshot:
    """A repository's files that match, at the commit that `revision` (default: main) points to now.

    They are in huggingface_hub's cache, and checked. Raises UserError if they can't be fetched.
    """
    allowed = [*patterns, _CARD]
    with translate_errors(repository, revision):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=allowed))
    return Snapshot(folder, repository, folder.name, _hashes(folder, allowed))


def folder(path: str, patterns: Sequence[str]) -> Snapshot:
    """A repository's files in a folder of the user's ("file:models/clip")."""
    user_folder = Path(path).expanduser()
    if not user_folder.is_dir():
        raise UserError(
            f"weights: {user_folder} is not a folder; "
            "it must hold the files of a repository, as save_pretrained writes them"
        )
    return Snapshot(user_folder, path, None, _hashes(user_folder, [*patterns, _CARD]))


def safetensors_elsewhere(repository: str) -> str:
    """A hint at the revision of a repository that has safetensors: "set revision: refs/pr/7, ...".

    Hugging Face's robot opens a pull request that adds them to most repositories of pickled weights.
    """
    try:
        requests = get_repo_discussions(repository, discussion_type="pull_request", discussion_status="open")
        revision = next(
            (request.git_reference for request in requests if "safetensors" in request.title.lower()), None
        )
    except Exception:  # only the hint is lost; the error that it belongs to is still reported
        revision = None
    return (
        f"set revision: {revision}, a pull request that adds them"
        if revision
        else "set a revision that has them, if there is one"
    )


def _hashes(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the files that match, by their path in the folder.

    Raises UserError if a file isn't the one that the hub has, before anything reads it.
    """
    files = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    return {
        name: _checked_digest(path)
        for name, path in files.items()
        if any(fnmatch(name, pattern) for pattern in patterns)
    }


def _checked_digest(path: Path) -> str:
    """A file's SHA-256. The cache names a large file after the hub's own SHA-256, which is compared."""
    digest, cached_as = weights.digest(path), path.resolve().name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", cached_as) and cached_as != digest:
        raise UserError(
            f"weights: {path} is damaged (its SHA-256 begins {digest[:8]}, not {cached_as[:8]}); "
            "remove it and run again"
        )
    return digest


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
            return f"weights: {what} can't be fetched from {hub} ({fault}); {HINT}"
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
