"""Multi-head attention whose two projections are linear layers, so that LoRA can train them.

PyTorch's nn.MultiheadAttention, which torchvision and open_clip use, reads the weights of its projections and
calls no layer for them.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional


class LinearAttention(nn.Module):
    """Computes what an nn.MultiheadAttention computes, with the same parameters.

    in_proj: [D] -> [3 D], the query, key and value; out_proj: [D] -> [D].
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        dim = attention.embed_dim
        self.heads, self.batch_first = attention.num_heads, attention.batch_first
        bias = cast(nn.Parameter | None, attention.in_proj_bias)  # torch declares it as never None
        self.in_proj = nn.Linear(dim, 3 * dim, bias=bias is not None, device="meta")
        self.in_proj.weight = attention.in_proj_weight
        if bias is not None:
            self.in_proj.bias = bias
        self.out_proj: nn.Linear = attention.out_proj

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """[B, L, D] each, or [L, B, D] without batch_first -> the same shape, and no attention weights."""
        if not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        projected = [self.in_proj(query)]
        projected.append(projected[0] if key is query else self.in_proj(key))
        projected.append(projected[1] if value is key else self.in_proj(value))
        split = [
            tensor.chunk(3, dim=-1)[part].unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part, tensor in enumerate(projected)
        ]  # [B, heads, L, D / heads] each
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = ~attn_mask  # True hides a token there, and shows it here
        attended = functional.scaled_dot_product_attention(*split, attn_mask=attn_mask)
        output = self.out_proj(attended.transpose(1, 2).flatten(2))
        return (output if self.batch_first else output.transpose(0, 1)), None


def unfold(module: nn.Module) -> dict[str, nn.MultiheadAttention]:
    """Replaces each nn.MultiheadAttention by a LinearAttention, and returns what it replaced, by name.

    One whose key or value has another width, or that has dropout, stays as it is.
    """
    replaced = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.MultiheadAttention)
        and layer._qkv_same_embed_dim  # pyright: ignore[reportPrivateUsage]
        and layer.bias_k is None
        and not layer.add_zero_attn
        and not layer.dropout
    }
    for name, layer in replaced.items():
        module.set_submodule(name, LinearAttention(layer))
    return replaced


def fold(module: nn.Module, replaced: dict[str, nn.MultiheadAttention]) -> None:
    """Undoes `unfold`: the layers that it replaced take the parameters as they are now."""
    for name, layer in replaced.items():
        attention = module.get_submodule(name)
        assert isinstance(attention, LinearAttention)
        layer.in_proj_weight = attention.in_proj.weight  # type: ignore[assignment]
        layer.in_proj_bias = attention.in_proj.bias
        layer.out_proj = attention.out_proj  # type: ignore[assignment]
        module.set_submodule(name, layer.train(attention.training))
