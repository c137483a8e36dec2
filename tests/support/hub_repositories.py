"""Small repositories with random weights, as transformers, open_clip and timm themselves write them.

Never a result: for tests only.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import timm
import tokenizers
import torch
import transformers as tf
from open_clip.push_to_hf_hub import save_for_hf

SIZE, PATCH = 32, 8
TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
VISION: dict[str, Any] = {**TINY, "image_size": SIZE, "patch_size": PATCH}
CARD = "---\nlicense: apache-2.0\ntags:\n- test\n---\n# Random weights\n"


def clip_tokenizer(folder: Path) -> Any:
    """CLIP's own, from the vocabulary that open_clip's package ships."""
    packed = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    vocabulary = open_clip.SimpleTokenizer().encoder
    folder.mkdir(parents=True, exist_ok=True)
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {names.get(word, word): number for word, number in vocabulary.items()}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    return tf.CLIPTokenizer.from_pretrained(folder)


def _write(folder: Path, *parts: Any, card: str = CARD) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def clip(folder: Path) -> Path:
    torch.manual_seed(1)
    tokenizer = clip_tokenizer(folder)
    text: dict[str, Any] = {
        **TINY,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "eos_token_id": 49407,
        "bos_token_id": 49406,
    }
    model = tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))
    images = tf.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    return _write(folder, model, tf.CLIPProcessor(images, tokenizer))


def word_tokenizer() -> Any:
    words = {
        word: number
        for number, word in enumerate(
            ["<pad>", "</s>", "<unk>", "a", "photo", "of", "slice", "pizza", "apple"]
        )
    }
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def bert(folder: Path) -> Path:
    return _write(folder, tf.BertModel(tf.BertConfig(**TINY, vocab_size=16)), word_tokenizer())


def siglip(folder: Path) -> Path:
    torch.manual_seed(2)
    tokenizer = word_tokenizer()
    text: dict[str, Any] = {**TINY, "vocab_size": 16, "max_position_embeddings": 12, "projection_size": 32}
    model = tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config=VISION))
    return _write(folder, model, tokenizer, tf.SiglipImageProcessor(size={"height": SIZE, "width": SIZE}))


def vit(folder: Path) -> Path:
    torch.manual_seed(3)
    return _write(
        folder,
        tf.ViTModel(tf.ViTConfig(**VISION)),
        tf.ViTImageProcessor(size={"height": SIZE, "width": SIZE}),
    )


def large_vit(folder: Path) -> Path:
    """24 MB: large enough for a download that breaks off."""
    torch.manual_seed(3)
    config = tf.ViTConfig(**{**VISION, "hidden_size": 512, "intermediate_size": 2048})
    return _write(folder, tf.ViTModel(config), tf.ViTImageProcessor(size={"height": SIZE, "width": SIZE}))


def vit_without_pooler(folder: Path) -> Path:
    torch.manual_seed(3)
    model = tf.ViTModel(tf.ViTConfig(**VISION), add_pooling_layer=False)
    return _write(folder, model, tf.ViTImageProcessor(size={"height": SIZE, "width": SIZE}))


def dinov2(folder: Path) -> Path:
    """Made for 48 px and used at 32, as the real ones are made for 518 px and used at 224."""
    torch.manual_seed(4)
    model = tf.Dinov2Model(tf.Dinov2Config(**{**VISION, "image_size": 48}))
    images = tf.BitImageProcessor(
        size={"shortest_edge": 36},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.485, 0.456, 0.406],
    )
    return _write(folder, model, images)


def dinov3(folder: Path) -> Path:
    torch.manual_seed(5)
    model = tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**VISION, num_register_tokens=4))
    card = "---\nlicense: other\nlicense_name: dinov3-license\n---\n"
    return _write(folder, model, tf.DINOv3ViTImageProcessor(size={"height": SIZE, "width": SIZE}), card=card)


def resnet(folder: Path) -> Path:
    torch.manual_seed(6)
    model = tf.ResNetModel(
        tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    )
    return _write(folder, model, tf.ConvNextImageProcessor(size={"shortest_edge": SIZE}, crop_pct=0.875))


OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIZE, "patch_size": PATCH, "layers": 2, "width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def open_clip_repository(folder: Path, **transform: Any) -> Path:
    """As open_clip's push_to_hf_hub writes it, before it uploads."""
    torch.manual_seed(7)
    clip_tokenizer(folder / "source").save_pretrained(folder / "source")
    tokenizer = open_clip.tokenizer.HFTokenizer(str(folder / "source"))
    model = open_clip.CLIP(**OPEN_CLIP)
    preprocess = {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.25, 0.26, 0.27],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "size": SIZE,
    }
    preprocess |= transform
    open_clip.model.set_model_preprocess_cfg(model, preprocess)
    repository = folder / "repository"
    save_for_hf(model, tokenizer, OPEN_CLIP, str(repository), safe_serialization=True)
    (repository / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    return repository


TRANSFORMERS: dict[str, Callable[[Path], Path]] = {
    "tiny/clip": clip,
    "tiny/siglip": siglip,
    "tiny/vit": vit,
    "tiny/vit-without-pooler": vit_without_pooler,
    "tiny/dinov2": dinov2,
    "tiny/dinov3": dinov3,
    "tiny/resnet": resnet,
}


def timm_repository(folder: Path, architecture: str = "test_vit", **arguments: Any) -> Path:
    """As timm's push_to_hf_hub writes it, before it uploads."""
    torch.manual_seed(8)
    model = timm.create_model(architecture, pretrained=False, **arguments)
    timm.models.save_for_hf(model, str(folder), model_args=arguments or None, safe_serialization=True)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n", encoding="utf-8")
    return folder
