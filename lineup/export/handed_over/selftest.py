# SPDX-License-Identifier: Apache-2.0
"""Checks that this folder computes here what it computed where it was exported.

`python selftest.py` embeds ten photos and searches with them. It exits with 0 if vectors and answers agree;
else it prints what differs and by how much, and exits with 1.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lineup_row
import numpy as np

FOLDER = Path(__file__).resolve().parent


def differences(folder: Path) -> list[str]:
    """What differs, a sentence each; empty if nothing does. It prints a line for each photo."""
    row = lineup_row.Row(folder)
    expected: dict[str, Any] = json.loads((folder / "selftest/expected.json").read_text(encoding="utf-8"))
    differing: list[str] = []
    with np.load(folder / "selftest/vectors.npz") as stored:
        wanted = {space: stored[space] for space in row.settings["spaces"]}
    for number, photo in enumerate(expected["photos"]):
        file, least = folder / photo["file"], expected["least_cosine"]
        try:
            embedded = {space: row.embed([file], space)[0] for space in wanted}
        except lineup_row.BadPhoto as error:
            differing.append(str(error))
            continue
        cosines = {space: cosine(embedded[space], vectors[number]) for space, vectors in wanted.items()}
        differing += [
            f"{photo['file']}: the vector of {space} has a cosine of {value:.6f} to the row's own, "
            f"instead of {least:g} or more"
            for space, value in cosines.items()
            if not value >= least
        ]
        hits = row.search(file, k=len(photo["answers"]))
        differing += wrong_answers(photo, hits, expected["score_tolerance"])
        nearest = f"{hits[0].path} ({hits[0].score:.4f})" if hits else "none"
        print(f"{photo['file']}: cosine {min(cosines.values()):.7f}, nearest {nearest}")
    return differing


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The cosine of two vectors [D]; 0 if one has no length."""
    lengths = float(np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other.astype(np.float64)))
    return float(one.astype(np.float64) @ other.astype(np.float64)) / lengths if lengths else 0.0


def wrong_answers(photo: Mapping[str, Any], hits: Sequence[lineup_row.Hit], tolerance: float) -> list[str]:
    """Ranks with another image or another score. Images whose scores differ by rounding may change places."""
    answers = photo["answers"]
    if len(hits) != len(answers):
        return [f"{photo['file']}: has {len(hits)} answers instead of {len(answers)}"]
    wrong: list[str] = []
    scores = [answer["score"] for answer in answers]
    for rank, (hit, answer) in enumerate(zip(hits, answers, strict=True), 1):
        beside = [*scores[max(rank - 2, 0) : rank - 1], *scores[rank : rank + 1]]
        tied = rank == len(answers) or any(abs(score - answer["score"]) <= tolerance for score in beside)
        if abs(hit.score - answer["score"]) > tolerance or (hit.image_id != answer["image_id"] and not tied):
            wrong.append(
                f"{photo['file']}: rank {rank} is {hit.path} ({hit.score:.6f}) instead of {answer['path']} "
                f"({answer['score']:.6f}), a difference of {abs(hit.score - answer['score']):.6f}"
            )
    return wrong


def other_versions(versions: Mapping[str, str]) -> list[str]:
    """Packages that are installed in another version than where the folder was exported."""
    other: list[str] = []
    for package, version in versions.items():
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed != version:
            other.append(f"{package} {installed} instead of {version}")
    return other


def main() -> int:
    """The exit code."""
    differing = differences(FOLDER)
    if not differing:
        print("ok: vectors and answers are those of the row")
        return 0
    print(*differing, sep="\n", file=sys.stderr)
    settings = json.loads((FOLDER / "settings.json").read_text(encoding="utf-8"))
    if other := other_versions(settings["versions"]):
        print(f"installed here: {', '.join(other)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
