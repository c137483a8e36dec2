"""Repositories of the Hugging Face hub: fetched at one commit, checked, and every failure told in one
sentence.

Everything goes through huggingface_hub, so HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN, HF_HOME, proxies and
existing caches work as its documentation says, and a download that broke off is resumed by the next run.
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
from lineup.errors import UserError

WAYS_OUT = 'go online and run again, or `dvc pull` what a teammate pushed, or name a copy of yours with weights: "file:..."'
_CARD = "README.md"
_MOST_SETTINGS_MB, _MOST_LEVELS = 16, 64


def _no_retry(record: logging.LogRecord) -> bool:
    return not re.search("thrown while requesting|^Retrying in", record.getMessage())


# huggingface_hub logs each attempt: what becomes of them is in the error, if they all fail. The rest it
# prints twice, by itself and by way of our own log, which is enough.
logging.getLogger("huggingface_hub.utils._http").addFilter(_no_retry)
logging.getLogger("huggingface_hub").handlers.clear()


@dataclass(frozen=True)
class Snapshot:
    """A repository's files at one commit.

    commit: null for a folder that came from no hub; hashes: SHA-256 by name.
    """

    folder: Path
    repository: str
    commit: str | None
    hashes: dict[str, str]

    def has(self, *names: str) -> bool:
        return any((self.folder / name).is_file() for name in names)

    def source(self) -> dict[str, Any]:
        """The facts on where an encoder came from."""
        hashes = {name: digest for name, digest in self.hashes.items() if name != _CARD}
        safetensors = [digest for name, digest in hashes.items() if name.endswith(".safetensors")]
        return {
            "repository": self.repository,
            "revision": self.commit,
            "files": hashes,
            "sha256": safetensors[0] if len(safetensors) == 1 else None,
        }

    def settings(self, name: str) -> dict[str, Any]:
        """What a JSON file holds.

        UserError where it isn't one of settings, or so large or deep that who reads it would choke.
        """
        path = self.folder / name
        fault = f"weights: {name} of {self.repository}"
        if path.stat().st_size > _MOST_SETTINGS_MB * 2**20:
            raise UserError(
                f"{fault} is larger than {_MOST_SETTINGS_MB} MB, which settings never are; choose another checkpoint"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or not _is_shallow(content):
            raise UserError(
                f"{fault} is damaged: it must be a JSON object of at most {_MOST_LEVELS} levels; choose another checkpoint, or mend a copy"
            )
        return content

    def licence(self) -> str | None:
        """As the repository's card states it: "apache-2.0", "other (dinov3-license)"; null where it states
        none.
        """
        try:
            card = metadata_load(self.folder / _CARD) or {}
        except Exception:  # a card is for people: whatever is wrong with it, the weights are as they are
            return None
        licence, name = card.get("license"), card.get("license_name")
        # Texts alone: YAML of a few bytes may print as gigabytes.
        stated = ", ".join(
            part for part in (licence if isinstance(licence, list) else [licence]) if isinstance(part, str)
        )
        return f"{stated} ({name})" if stated and isinstance(name, str) else stated or None


def _is_shallow(content: Any) -> bool:
    level = [content]
    for _ in range(_MOST_LEVELS):
        level = [
            child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        level = [child for child in level if isinstance(child, dict | list)]
    return not level


def snapshot(repository: str, revision: str | None, patterns: Sequence[str]) -> Snapshot:
    """The files of a repository that match, at the commit that `revision` (default: main) points to now.

    Files are in huggingface_hub's cache, and checked. UserError says why they can't be had, and the ways out.
    """
    allowed = [*patterns, _CARD]
    with told(repository, revision):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=allowed))
    return Snapshot(folder, repository, folder.name, _hashes(folder, allowed))


def folder(path: str, patterns: Sequence[str]) -> Snapshot:
    """A repository's files in a folder of the user's own ("file:models/clip")."""
    place = Path(path).expanduser()
    if not place.is_dir():
        raise UserError(
            f"weights: {place} is no folder; it must hold the files of a repository, as save_pretrained writes them"
        )
    return Snapshot(place, path, None, _hashes(place, [*patterns, _CARD]))


def safetensors_elsewhere(repository: str) -> str:
    """Where a repository without safetensors has them: "say revision: refs/pr/7", the open pull request that
    adds them.

    The hub's own robot opens one for most repositories of pickled weights.
    """
    try:
        offers = get_repo_discussions(repository, discussion_type="pull_request", discussion_status="open")
        found = next((offer.git_reference for offer in offers if "safetensors" in offer.title.lower()), None)
    except (
        Exception
    ):  # a hint alone: whatever keeps it from being found, the sentence that it belongs to is told
        found = None
    return (
        f"say revision: {found}, a pull request that adds them"
        if found
        else "name a revision that has them, if there is one"
    )


def _hashes(place: Path, patterns: Sequence[str]) -> dict[str, str]:
    """Of the files that match, by name.

    UserError if one isn't what the hub says it is, before anything reads it.
    """
    inside = {path.relative_to(place).as_posix(): path for path in sorted(place.rglob("*")) if path.is_file()}
    return {
        name: _checked_digest(path)
        for name, path in inside.items()
        if any(fnmatch(name, pattern) for pattern in patterns)
    }


def _checked_digest(path: Path) -> str:
    """A file's SHA-256, compared with the hub's own, after which the cache names large files."""
    digest, cached_as = weights.digest(path), path.resolve().name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", cached_as) and cached_as != digest:
        raise UserError(
            f"weights: {path} is damaged (its SHA-256 begins {digest[:8]}, not {cached_as[:8]}); remove it and run again"
        )
    return digest


@contextmanager
def told(what: str, revision: str | None = None, hub: str | None = None) -> Iterator[None]:
    """Turns what goes wrong on the way to a hub into a UserError.

    what: the repository or file; hub: default, HF_ENDPOINT.
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
    """The sentence for an error, or for the one that caused it; null if it isn't about a hub."""
    chain = _causes(error)
    for cause in chain:
        if isinstance(cause, errors.GatedRepoError):
            return f"weights: {what} is gated: accept its terms at {hub}/{what}, then set HF_TOKEN to a token of that account"
        if isinstance(cause, errors.RepositoryNotFoundError):
            return f"name: there is no {what} on {hub}, or it is private: mind its spelling, or set HF_TOKEN to a token that may read it"
        if isinstance(cause, errors.RevisionNotFoundError):
            return f"revision: {what} on {hub} has no revision '{revision or constants.DEFAULT_REVISION}'; see {hub}/{what}/commits/main"
        if isinstance(cause, errors.HFValidationError):
            return f"name: '{what}' is no repository's name; it must look like organisation/repository"
    for cause in chain:
        why = _why(cause)
        if why:
            return f"weights: {what} can't be fetched from {hub} ({why}); {WAYS_OUT}"
    return None


def _why(cause: BaseException) -> str | None:
    """A few words on a network's error.

    Classes are told by name: huggingface_hub changed its HTTP library before.
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
        return "the download broke off; the next run goes on where it can"
    if isinstance(cause, errors.FileMetadataError):
        return "what answers there is no hub"
    if isinstance(cause, errors.LocalEntryNotFoundError):
        return "the cache has no complete copy"
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """The first cause first: what huggingface_hub raises on top tells less."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain[::-1]
