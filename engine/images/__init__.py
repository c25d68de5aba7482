"""Images from folders, lists, tar shards and zip archives. Costs no torch."""

from engine.images.decoding import FORMATS, BrokenImage, decode, thumbnail
from engine.images.opening import open_image
from engine.images.sources import ImageEntry, Images, open_images

__all__ = ["FORMATS", "BrokenImage", "ImageEntry", "Images", "decode", "open_image", "open_images", "thumbnail"]
