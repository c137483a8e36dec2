"""Repositories of the Hugging Face hub, fetched at one commit and checked.

Everything goes through huggingface_hub. So HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN, HF_HOME, proxies and
existing caches work as it documents, and the next run resumes an interrupted download.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import get_repo_discussions, snapshot_download

from lineup.encoders.hub_errors import translate_errors
from lineup.encoders.hub_snapshot import CARD_FILE, Snapshot
from lineup.errors import UserError
from lineup.fingerprint import file_digest
from lineup.settings.encoder import EncoderSettings

# Before a repository in `name`, for libraries whose names are else those of architectures.
_REPOSITORY = "hf-hub:"


def snapshot(repository: str, revision: str | None, patterns: Sequence[str]) -> Snapshot:
    """A repository's files that match, at the commit that `revision` (default: main) points to now.

    They are in huggingface_hub's cache, and checked. Raises UserError if they can't be fetched.
    """
    allowed = [*patterns, CARD_FILE]
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
    return Snapshot(user_folder, path, None, _hashes(user_folder, [*patterns, CARD_FILE]))


def named_repository(spec: EncoderSettings, patterns: Sequence[str]) -> Snapshot | None:
    """The repository of `name: hf-hub:...`, or the folder of `weights: file:...`; None for other rows.

    Raises UserError if the row also names a transform: a repository has its own.
    """
    scheme, _, rest = spec.weights.partition(":")
    if spec.name.startswith(_REPOSITORY):
        named = snapshot(spec.name.removeprefix(_REPOSITORY), spec.revision, patterns)
    elif scheme == "file" and Path(rest).expanduser().is_dir():
        named = folder(rest, patterns)
    else:
        return None
    if spec.transform:
        raise UserError(
            f"transform: {spec.transform} is for a single file, "
            f"and {named.repository} has its own transform; remove it"
        )
    return named


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
    digest, cached_as = file_digest(path), path.resolve().name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", cached_as) and cached_as != digest:
        raise UserError(
            f"weights: {path} is damaged (its SHA-256 begins {digest[:8]}, not {cached_as[:8]}); "
            "remove it and run again"
        )
    return digest
