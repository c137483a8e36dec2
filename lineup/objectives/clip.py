"""CLIP: an image finds the text of its label, and a text finds its images.

Source: Radford et al., ICML 2021, figure 3.
"""

from __future__ import annotations

import math

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import nn
from torch.nn import functional

from lineup.encoders.encoder import TextEncoder
from lineup.encoders.encoder_folder import load_text
from lineup.objectives.objective import Context, Objective
from lineup.settings.trained_objectives import CLIP

PACKAGES = ("open_clip_torch",)  # for its tokenizer

_FIRST_TEMPERATURE, _LARGEST_SCALE = 0.07, 100.0  # section 2.5 of the paper


class SmallTextTower(nn.Module):
    """A text transformer for the training labels alone, which starts from random weights.

    It is built as CLIP's own, with a vocabulary of only those tokens that occur in the labels' texts.
    forward: labels int64 [N] -> float32 [N, width].
    """

    def __init__(self, texts: list[str], width: int, layers: int) -> None:
        super().__init__()
        tokens = SimpleTokenizer(context_length=77)(texts)  # [texts, 77]; its vocabulary ships in the package
        end = tokens.argmax(dim=1)  # the token that ends a text has the highest number
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
        """Label numbers, int64 [N] -> float32 [N, D]."""
        hidden = self.transformer(
            self.embedding(self.get_buffer("tokens")[labels]) + self.positions,
            self.get_buffer("mask"),
            is_causal=True,
        )  # [N, L, width]
        return hidden[torch.arange(len(labels), device=labels.device), self.get_buffer("end")[labels]]


class OwnTextTower(nn.Module):
    """The text tower that an encoder was trained with. forward: labels int64 [N] -> float32 [N, D]."""

    def __init__(self, encoder: TextEncoder, texts: list[str]) -> None:
        super().__init__()
        self.module, self.tokenize, self.texts = encoder.module, encoder.tokenize, texts

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """Label numbers, int64 [N] -> float32 [N, D]."""
        tokens = self.tokenize([self.texts[label] for label in labels.tolist()])
        if isinstance(tokens, torch.Tensor):
            return self.module(tokens.to(labels.device)).float()
        # A tokenizer of transformers gives several tensors, by name.
        return self.module({name: tensor.to(labels.device) for name, tensor in tokens.items()}).float()


class CLIPLoss(nn.Module):
    """The mean of two cross entropies, image to text and text to image, of cosines times a learned scale.

    Where a batch holds several images of a label, an image has one right text, and a text's target is shared
    evenly among its images. With one image of each label this is the paper's loss.

    Images and texts are compared as they are where the encoder has a text tower of its own and no new head.
    Elsewhere a projection maps the images' vectors into the texts' space; it is dropped after training.
    """

    def __init__(self, settings: CLIP, context: Context) -> None:
        super().__init__()
        texts = [settings.prompt.replace("{label}", label_to_text(label)) for label in context.labels]
        own_tower = (
            OwnTextTower(load_text(context.folder), texts)
            if context.config.text_sha256 is not None and context.folder
            else None
        )
        self.text: nn.Module = own_tower or SmallTextTower(texts, settings.text_width, settings.text_layers)
        text_dim = settings.text_width
        if own_tower:
            with torch.inference_mode():
                text_dim = own_tower(torch.zeros(1, dtype=torch.int64)).shape[1]
        shares_space = own_tower is not None and context.config.head is None and text_dim == context.dim
        self.projection = nn.Identity() if shares_space else nn.Linear(context.dim, text_dim, bias=False)
        first_scale = -math.log(settings.temperature or _FIRST_TEMPERATURE)
        if own_tower and settings.temperature is None and context.config.logit_scale is not None:
            first_scale = context.config.logit_scale
        self.log_scale = nn.Parameter(torch.tensor(first_scale))

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """vectors: [B, D]; labels: int64 [B] -> scalar."""
        present, text_of_image = labels.unique(return_inverse=True)  # [T], [B]
        images, texts = (
            functional.normalize(self.projection(vectors)),
            functional.normalize(self.text(present)),
        )
        scale = self.log_scale.exp().clamp(max=_LARGEST_SCALE)
        logits = scale * images @ texts.T  # [B, T]
        images_of_text = functional.one_hot(text_of_image, len(present)).T.float()  # [T, B]
        targets = images_of_text / images_of_text.sum(dim=1, keepdim=True)
        text_to_image = functional.cross_entropy(logits.T, targets)
        return (functional.cross_entropy(logits, text_of_image) + text_to_image) / 2


def label_to_text(label: str) -> str:
    """A label, which is a folder's name, as words: "dog-face" -> "dog face"."""
    return " ".join(label.replace("_", " ").replace("-", " ").split())


def build(settings: CLIP, context: Context) -> Objective:
    """The loss, with the encoder's own text tower where it has one."""
    loss = CLIPLoss(settings, context)
    return Objective(loss, pretrained=loss.text if isinstance(loss.text, OwnTextTower) else None)
