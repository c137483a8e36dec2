"""Names of photos in data/raw: those of the source where they can stand, legible and unique ones elsewhere.

A name follows from the source's name and label alone. Where two would be one, also on a disk that ignores
capitals, each gets a hash.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from lineup.layouts.layout import Role, SourcePhoto
from lineup.layouts.roles import digest
from lineup.photos import raw_folder, raw_tables

FOLDERS: dict[Role, str] = {"train": "train", "query": "test/query", "gallery": "test/gallery"}
_ROLES: dict[str, Role] = {folder: role for role, folder in FOLDERS.items()}
# Most disks allow 255. The rest is for a hash and for temporary names.
_MAX_NAME_BYTES = 200
_MAX_LEGIBLE_CHARACTERS = 40
_HASH_DIGITS = 12


def paths(
    photos: Iterable[SourcePhoto], roles: Mapping[str, tuple[Role, ...]], taken: Iterable[str] = ()
) -> dict[str, dict[Role, str]]:
    """The paths below data/raw: photo's name -> role -> path.

    Args:
        roles: of each photo.
        taken: paths that other photos of data/raw have.
    """
    photos = [*photos]
    folders = _label_folders(photo.label for photo in photos)
    inside = {photo.name: (folders[photo.label], _file_name(photo)) for photo in photos if photo.path is None}
    used = Counter({_key(_inside(path)) for path in taken})
    used.update(_key("/".join(parts)) for parts in inside.values())
    # A loose photo must not have the name of a label's folder either.
    used.update({f"/{name.partition('/')[0]}" for name in used if not name.startswith("/")})
    result: dict[str, dict[Role, str]] = {}
    for photo in photos:
        if photo.path is not None:
            result[photo.name] = dict.fromkeys(roles[photo.name], photo.path)
            continue
        folder, file = inside[photo.name]
        if used[_key(f"{folder}/{file}")] > 1:
            suffix = PurePosixPath(file).suffix
            file = _hashed(file.removesuffix(suffix), photo.name) + suffix
        result[photo.name] = {
            role: "/".join(filter(None, (FOLDERS[role], folder, file))) for role in roles[photo.name]
        }
    return result


def role_of(path: str) -> Role | None:
    """The role that a path below data/raw means; None outside train/, test/query/ and test/gallery/."""
    return next((role for folder, role in _ROLES.items() if path.startswith(f"{folder}/")), None)


def label_of(path: str) -> str | None:
    """The label that a path's folder means without labels.csv."""
    folder, _, _ = _inside(path).partition("/")
    return raw_tables.normal_label(folder)


def _inside(path: str) -> str:
    """label/file, from a path below data/raw; "/file" if the photo is loose."""
    role = role_of(path)
    name = path.removeprefix(f"{FOLDERS[role]}/") if role else path
    return name if "/" in name else f"/{name}"


def _label_folders(labels: Iterable[str | None]) -> dict[str | None, str]:
    """The folder of each label as a photo has it; empty without a label."""
    normal = {label: raw_tables.normal_label(label or "") for label in {*labels}}
    alike = Counter(_key(label) for label in {*normal.values()} if label is not None)
    return {
        label: ""
        if name is None
        else name
        if _can_stand(name) and alike[_key(name)] == 1
        else _hashed(name, f"label {name}")
        for label, name in normal.items()
    }


def _file_name(photo: SourcePhoto) -> str:
    name = PurePosixPath(photo.name)
    suffix = name.suffix if photo.crop is None else ".png"
    if _can_stand(name.name):
        return name.stem + suffix
    return _hashed(name.stem, photo.name) + (suffix if _can_stand(f"x{suffix}") else "")


def _can_stand(name: str) -> bool:
    """Whether a folder or file of data/raw may have this name, and preprocess reads it."""
    return (
        raw_folder.is_photo_name(name)
        and name.isprintable()
        and name.strip() == name
        and not {*name} & {"/", "\\"}
        and not name.lower().endswith((".dvc", ".pyc"))
        and name not in ("__pycache__", "dvc.yaml", "dvc.lock")
        and len(name.encode()) <= _MAX_NAME_BYTES
    )


def _hashed(name: str, unique: str) -> str:
    legible = re.sub(r"[^\w.() -]+", "_", name)[:_MAX_LEGIBLE_CHARACTERS].strip(" ._")
    return f"{legible}~{digest(unique)[:_HASH_DIGITS]}"


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
