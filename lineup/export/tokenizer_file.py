"""A text tower's tokenizer as a file of the package `tokenizers`, which needs nothing else to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, processors

from lineup.encoders.encoder import TextEncoder
from lineup.storage import files

# What CLIP takes for a word, in the paper's code and in open_clip's.
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP_PAD_ID = 0


@dataclass(frozen=True)
class TokenizerFile:
    """How lineup_row.py uses the file; pad_to_max_length: whether every text has that many tokens."""

    tokenizer: str
    max_length: int
    pad_id: int
    pad_token: str
    pad_to_max_length: bool


def write(
    encoder: TextEncoder,
    source: Path,
    file: Path,
    samples: Mapping[str, Mapping[str, torch.Tensor]],
) -> TokenizerFile | None:
    """Writes a file that gives the tower's own tokens; None, and no file, where none does.

    Args:
        source: the encoder's folder.
        samples: what the tower's tokenizer gave for some texts, by text; several lengths of text.
    """
    read = _stored(source) or _of_clip(encoder.tokenize)
    if read is None:
        return None
    tokenizer, pad_token, pad_id = read
    lengths = {next(iter(sample.values())).shape[1] for sample in samples.values()}
    stated = (encoder.config.text or {}).get("max_length")
    described = TokenizerFile(file.name, int(stated or max(lengths)), pad_id, pad_token, len(lengths) == 1)
    tokenizer.enable_truncation(described.max_length)
    tokenizer.enable_padding(
        pad_id=pad_id,
        pad_token=pad_token,
        length=described.max_length if described.pad_to_max_length else None,
    )
    if not _same_tokens(tokenizer, samples):
        return None
    tokenizer.save(str(file))
    return described


def _same_tokens(tokenizer: tokenizers.Tokenizer, samples: Mapping[str, Mapping[str, torch.Tensor]]) -> bool:
    for text, sample in samples.items():
        encoding = tokenizer.encode(text)
        given = {"input_ids": encoding.ids, "tokens": encoding.ids, "attention_mask": encoding.attention_mask}
        if any(given.get(name) != tensor[0].tolist() for name, tensor in sample.items()):
            return False
    return True


def _stored(source: Path) -> tuple[tokenizers.Tokenizer, str, int] | None:
    """The tokenizer in an encoder's folder, with its padding; None where there is none."""
    file, settings = source / "tokenizer/tokenizer.json", source / "tokenizer/tokenizer_config.json"
    if not file.exists() or not settings.exists():
        return None
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    pad_token = files.read_json(settings).get("pad_token")
    pad_token = pad_token["content"] if isinstance(pad_token, dict) else pad_token
    pad_id = tokenizer.token_to_id(pad_token) if pad_token else None
    return None if pad_id is None else (tokenizer, str(pad_token), pad_id)


def _of_clip(tokenize: Any) -> tuple[tokenizers.Tokenizer, str, int] | None:
    """open_clip's tokenizer of CLIP, which is code, as a file; None for any other."""
    ranks, vocabulary = getattr(tokenize, "bpe_ranks", None), getattr(tokenize, "encoder", None)
    if not isinstance(ranks, dict) or not isinstance(vocabulary, dict):
        return None
    merges: Sequence[Any] = sorted(ranks, key=ranks.__getitem__)
    model = models.BPE(
        vocab=vocabulary, merges=merges, continuing_subword_prefix="", end_of_word_suffix="</w>"
    )
    tokenizer = tokenizers.Tokenizer(model)
    spaces = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])  # type: ignore[assignment]
    words = pre_tokenizers.Split(tokenizers.Regex(_CLIP_WORDS), behavior="removed", invert=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])  # type: ignore[assignment]
    names = {number: word for word, number in vocabulary.items()}
    start, end = names[tokenize.sot_token_id], names[tokenize.eot_token_id]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{start} $A {end}", special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])]
    )
    return tokenizer, names[_CLIP_PAD_ID], _CLIP_PAD_ID
