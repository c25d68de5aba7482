"""Images from folders, lists and tar shards. Costs no torch."""

from engine.images.decoding import FORMATS, BrokenImage, decode, thumbnail
from engine.images.sources import ImageEntry, Images, open_images

__all__ = ["FORMATS", "BrokenImage", "ImageEntry", "Images", "decode", "open_images", "thumbnail"]
