"""Crops of pictures around patches: what a judge sees where patches, with what is around them, are scored.

The picture is cut as the encoder sees it, scaled, cropped and padded as its preprocessing does, so that a crop is
around just the patch whose activation is scored, whatever that preprocessing is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from engine.errors import UserError
from engine.images import Images
from engine.images.entry import crop_of
from engine.models.encoder import VisionEncoder
from engine.neurons.cropping import Cropping

_KEPT = 32  # pictures that crops are cut from, until all of a picture are cut
_GREY = 0.5  # of padding


class AsSeen:
    """Pictures as an encoder with a plain grid of patches sees them.

    Between what a black and a white picture become, pixels say how bright they are; where these two are the same, they
    are padding.
    """

    def __init__(self, encoder: VisionEncoder):
        self._encoder = encoder
        self._ends = lru_cache(maxsize=64)(self._black_and_white)

    def brightness(self, picture: Image.Image, padding: float = 0.0) -> Float[Tensor, "channel height width"]:
        """Of an RGB picture, from 0 to 1."""
        black, white = self._ends(picture.size)
        share = (self._seen(picture) - black) / (white - black)
        return torch.where(white == black, padding, share.clamp(0, 1))

    def picture(self, picture: Image.Image) -> Image.Image:
        pixels = self.brightness(picture, _GREY).mul(255).round().byte().permute(1, 2, 0).numpy()
        return Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())

    def _black_and_white(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return self._seen(Image.new("RGB", size, "black")), self._seen(Image.new("RGB", size, "white"))

    def _seen(self, picture: Image.Image) -> Float[Tensor, "channel height width"]:
        return self._encoder.preprocess([picture])["pixel_values"][0].float()


class Crops(Images):
    """The crops of ``images``, image by image, as images of their own: named by their picture and place in it.

    Safe to read from several threads.
    """

    def __init__(self, images: Images, encoder: VisionEncoder, asked: Cropping):
        grid, size = plain_grid(encoder)
        self._images, self._each, self._seen = images, asked.of(grid), AsSeen(encoder)
        self._pictures: OrderedDict[int, Image.Image] = OrderedDict()
        self._lock = threading.Lock()
        entries = []
        self._boxes = []
        for number, entry in enumerate(images.entries):
            for patch in asked.patches(number, grid).tolist():
                left, top, right, bottom = box = asked.box(patch, grid, size)
                self._boxes.append(box)
                entries.append(replace(entry, path=crop_of(entry.path, left, top, right - left, bottom - top)))
        super().__init__(images.spec, entries, None, images.transparency)
        self.crops = self._each

    def decode(self, index: int, data: bytes) -> Image.Image:
        number = index // self._each
        with self._lock:
            found = self._pictures.get(number)
        if found is None:
            found = self._seen.picture(self._images.decode(number, data))
            with self._lock:
                self._pictures[number] = found
                while len(self._pictures) > _KEPT:
                    self._pictures.popitem(last=False)
        return found.crop(self._boxes[index])


def plain_grid(encoder: VisionEncoder) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of patches, and height and width of each. UserError where no crop can be cut around them."""
    if encoder.grid is None or encoder.patch_size is None:
        raise UserError(
            f"{encoder.spec} has no fixed grid of patches, around which crops could be cut: use --pooling max or mean."
        )
    return encoder.grid, encoder.patch_size
