"""Random variation of training images; nothing but this file and its encoders uses torchvision."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms import v2

from lineup.settings.training import Augmentation


class Augment:
    """Varies images at random: uint8 [3, S, S] -> uint8 [3, size, size]."""

    def __init__(self, settings: Augmentation, size: int) -> None:
        colour, strength = settings.colour, min(settings.colour, 0.99)
        crop = (
            v2.RandomResizedCrop(size, scale=(settings.crop, 1.0), antialias=True)
            if settings.crop < 1
            else v2.Resize((size, size))
        )
        steps: list[torch.nn.Module] = [crop, v2.RandomHorizontalFlip(settings.flip)]
        if colour:
            steps.append(v2.RandomApply([v2.ColorJitter(strength, strength, strength, colour / 4)], p=0.8))
        if settings.grey:
            steps.append(v2.RandomGrayscale(settings.grey))
        if settings.blur:
            # The kernel is a tenth of the image wide, as in appendix A of SimCLR's paper.
            steps.append(
                v2.RandomApply([v2.GaussianBlur(max(3, size // 10 | 1), sigma=(0.1, 2.0))], p=settings.blur)
            )
        self.transform = v2.Compose(steps)

    def batch(self, images: np.ndarray, seed: int) -> torch.Tensor:
        """uint8 [B, 3, S, S] -> uint8 [B, 3, size, size], each image varied on its own.

        Equal seeds give equal images.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # images are small: to wake threads for each costs more than they save
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return torch.stack([self.transform(torch.from_numpy(image)) for image in images])
        finally:
            torch.set_num_threads(threads)
