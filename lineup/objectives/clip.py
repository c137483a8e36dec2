"""CLIP: an image finds its label's text, a text its images. Source: Radford et al., ICML 2021, figure 3."""

from __future__ import annotations

import math

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import nn
from torch.nn import functional

from lineup.encoders.encoder import TextEncoder
from lineup.encoders.encoder_folder import load_text
from lineup.objectives.objective import Context
from lineup.settings.training import CLIP

PACKAGES = ("open_clip_torch",)  # its tokenizer

_TEMPERATURE, _LARGEST_SCALE = 0.07, 100.0  # as in the paper, section 2.5


class SmallTextTower(nn.Module):
    """A text transformer for the training labels alone, from random weights: CLIP's, but with only the tokens
    that occur.

    forward: label numbers int64 [N] -> float32 [N, width].
    """

    def __init__(self, texts: list[str], width: int, layers: int) -> None:
        super().__init__()
        tokens = SimpleTokenizer(context_length=77)(texts)  # [texts, 77]; its vocabulary ships in the package
        end = tokens.argmax(dim=1)  # the end of a text is the highest token
        _, compact = tokens[:, : int(end.max()) + 1].unique(return_inverse=True)
        self.register_buffer("tokens", compact, persistent=False)  # [texts, L]
        self.register_buffer("end", end, persistent=False)
        self.register_buffer(
            "mask", nn.Transformer.generate_square_subsequent_mask(compact.shape[1]), persistent=False
        )
        self.embedding = nn.Embedding(int(compact.max()) + 1, width)
        self.positions = nn.Parameter(torch.empty(compact.shape[1], width))
        heads = next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        hidden = self.transformer(
            self.embedding(self.get_buffer("tokens")[labels]) + self.positions,
            self.get_buffer("mask"),
            is_causal=True,
        )  # [N, L, width]
        return hidden[torch.arange(len(labels), device=labels.device), self.get_buffer("end")[labels]]


class OwnTextTower(nn.Module):
    """The text tower that an encoder was trained with. forward: label numbers int64 [N] -> float32 [N, D]."""

    def __init__(self, encoder: TextEncoder, texts: list[str]) -> None:
        super().__init__()
        self.module, self.tokenize, self.texts = encoder.module, encoder.tokenize, texts

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        tokens = self.tokenize(
            [self.texts[label] for label in labels.tolist()]
        )  # a tensor, or transformers' several by name
        if isinstance(tokens, torch.Tensor):
            return self.module(tokens.to(labels.device)).float()
        return self.module({name: tensor.to(labels.device) for name, tensor in tokens.items()}).float()


class CLIPLoss(nn.Module):
    """The mean of both directions' cross entropies over cosines times a learned scale.

    With several images of a label in a batch, an image has one right text, and a text shares its target
    evenly among its images; with one each, this is CLIP's loss. Where the encoder has a text tower of its own
    and no new head, the vectors are compared as they are; else a projection, which is dropped afterwards,
    leads into the texts' space.
    """

    def __init__(self, settings: CLIP, context: Context) -> None:
        super().__init__()
        texts = [settings.prompt.replace("{label}", spoken(label)) for label in context.labels]
        own = context.facts.text_sha256 is not None
        self.text: nn.Module = (
            OwnTextTower(load_text(context.folder), texts)
            if own
            else SmallTextTower(texts, settings.text_width, settings.text_layers)
        )
        text_dim = settings.text_width
        if own:
            with torch.inference_mode():
                text_dim = self.text(torch.zeros(1, dtype=torch.int64)).shape[1]
        together = own and context.facts.head is None and text_dim == context.dim
        self.projection = nn.Identity() if together else nn.Linear(context.dim, text_dim, bias=False)
        start = -math.log(settings.temperature or _TEMPERATURE)
        if own and settings.temperature is None and context.facts.logit_scale is not None:
            start = context.facts.logit_scale
        self.log_scale = nn.Parameter(torch.tensor(start))

    @property
    def pretrained(self) -> nn.Module | None:
        return self.text if isinstance(self.text, OwnTextTower) else None

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """vectors: [B, D]; labels: int64 [B] -> scalar."""
        present, own_text = labels.unique(return_inverse=True)  # [T], [B]
        images, texts = (
            functional.normalize(self.projection(vectors)),
            functional.normalize(self.text(present)),
        )
        scale = self.log_scale.exp().clamp(max=_LARGEST_SCALE)
        logits = scale * images @ texts.T  # [B, T]
        own_images = functional.one_hot(own_text, len(present)).T.float()  # [T, B]
        of_texts = functional.cross_entropy(logits.T, own_images / own_images.sum(dim=1, keepdim=True))
        return (functional.cross_entropy(logits, own_text) + of_texts) / 2


def spoken(label: str) -> str:
    """A folder's name as words: "dog-face" -> "dog face"."""
    return " ".join(label.replace("_", " ").replace("-", " ").split())


def build(settings: CLIP, context: Context) -> nn.Module:
    return CLIPLoss(settings, context)
