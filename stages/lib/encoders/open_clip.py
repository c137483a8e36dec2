"""Encoders of open_clip: any architecture with any pretrained tag, and repositories with a configuration of their own."""

from __future__ import annotations

import torch
from open_clip.tokenizer import SimpleTokenizer


def tokenize(texts: list[str]) -> torch.Tensor:
    """texts -> int64 [N, 77]: CLIP's byte-pair encoding; its vocabulary ships in open_clip's package (no network)."""
    return SimpleTokenizer(context_length=77)(texts)
