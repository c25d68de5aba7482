"""Images from folders, lists, tar shards and zip archives. Costs no torch."""

from engine.images.decoding import BrokenImage, decode, thumbnail
from engine.images.entry import ImageEntry
from engine.images.kinds import FORMATS
from engine.images.opening import open_image
from engine.images.sources import Images, open_images

__all__ = ["FORMATS", "BrokenImage", "ImageEntry", "Images", "decode", "open_image", "open_images", "thumbnail"]
