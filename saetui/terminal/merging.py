"""Colours of a picture that lie so near to each other that one will do: fewer are sent, and drawn sooner."""

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

# Brightness, and how far blue and red are from it: Y, Cb and Cr of ITU-R BT.709.
_OPPONENT = np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]], np.float32)
_HUE = 2.0  # how much wider steps of Cb and Cr are: the eye tells hues less well than brightness
_PACKED = np.array([1 << 16, 1 << 8, 1])


def merged(pixels: UInt8[ndarray, "height width 3"], step: float) -> UInt8[ndarray, "height width 3"]:
    """``pixels`` in fewer colours: of those in one step of brightness and hue, the commonest stands for all.

    So none is farther from its pixel than ``step`` of 255 in brightness, and the commonest colour, which ``step`` is
    counted from, keeps those about it to half of that: plain areas stay plain.
    """
    flat = pixels.reshape(-1, 3)
    _, first, where, count = np.unique(flat @ _PACKED, return_index=True, return_inverse=True, return_counts=True)
    colours = flat[first]
    seen = colours @ _OPPONENT.T
    steps = np.rint((seen - seen[count.argmax()]) / (step * np.array([1, _HUE, _HUE], np.float32))).astype(np.int64)
    bins = steps @ np.array([1 << 20, 1 << 10, 1])
    order = np.lexsort((-count, bins))
    begins = np.append(True, np.diff(bins[order]) != 0)
    commonest = np.empty_like(order)
    commonest[order] = order[begins][np.cumsum(begins) - 1]
    return colours[commonest[where.reshape(-1)]].reshape(pixels.shape)
