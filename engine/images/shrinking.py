"""Pictures made smaller: each pixel is the mean light of the area that it covers."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

_BAND = 16  # rows made at a time, at most: a photograph whole, as floats, would take four times its memory
_ALONE = 1 << 17  # multiplications: for more, numpy's BLAS starts threads, which wait for work in everybody's way


def _light_of(srgb: Float[ndarray, " level"]) -> Float[ndarray, " level"]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


LIGHT = _light_of(np.arange(256) / 255).astype(np.float32)
"""Of each sRGB value, from 0 to 1: IEC 61966-2-1, as in https://www.w3.org/TR/css-color-4/#color-conversion-code."""


def _srgb_of(light: Float[ndarray, " level"]) -> UInt8[ndarray, " level"]:
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


_STEPS = 1 << 18  # of light, an eightieth of an sRGB value where they are widest: powers take three times as long
_SRGB = _srgb_of(np.arange(_STEPS + 1) / _STEPS)


def to_srgb(light: Float[ndarray, "*shape"]) -> UInt8[ndarray, "*shape"]:
    """The sRGB values of ``light`` from 0 to 1: the inverse of ``LIGHT``."""
    return _SRGB[(light * _STEPS + 0.5).astype(np.int32).clip(0, _STEPS)]


def area_mean(image: UInt8[ndarray, "h w 3"], width: int, height: int) -> UInt8[ndarray, "{height} {width} 3"]:
    """``image`` in ``width`` x ``height`` pixels, each the mean of what it covers, in linear light.

    A pixel that is covered in part counts for that part. Means of sRGB values would be too dark, and pixels that count
    whole or not at all would make stripes uneven: they would look like another pattern.
    """
    return to_srgb(_area_mean(image, width, height))


def unchecked_mean(image: UInt8[ndarray, "h w 3"], width: int, height: int) -> UInt8[ndarray, "{height} {width} 3"]:
    """As ``area_mean`` without checks: of the few pixels of a terminal.

    Slanting stripes as fine as the pixels come out as a chessboard, which the picture does not hold. What alternates
    in both directions at once is taken out, where the picture was made smaller; it leaves the stripes' mean light.
    """
    light = _area_mean(image, width, height)
    if width < image.shape[1] and height < image.shape[0]:
        light = light - _second_difference(_second_difference(light, 0), 1) / 16
    return to_srgb(light)


def _area_mean(image: UInt8[ndarray, "h w 3"], width: int, height: int) -> Float[ndarray, "{height} {width} 3"]:
    rows = _means(image, height, LIGHT.__getitem__)
    return _means(rows.swapaxes(0, 1), width, np.ascontiguousarray).swapaxes(0, 1)


def _second_difference(light: Float[ndarray, "h w 3"], axis: int) -> Float[ndarray, "h w 3"]:
    """Twice each value less those before and behind it; at the border, itself."""
    along = light.swapaxes(0, axis)
    steps, difference = np.diff(along, axis=0), np.zeros_like(along)
    difference[:-1] -= steps
    difference[1:] += steps
    return difference.swapaxes(0, axis)


def _means(pixels: ndarray, new: int, light: Callable[[ndarray], ndarray]) -> Float[ndarray, "{new} other 3"]:
    """Means along the first axis."""
    weights = _weights(len(pixels), new)
    means = np.empty((new, *pixels.shape[1:]), np.float32)
    step = max(min(math.isqrt(_ALONE * new // pixels.size), _BAND), 1)  # a band covers about step * len(pixels) / new
    for first in range(0, new, step):
        band = weights[first : first + step]
        covered = np.flatnonzero(band.any(axis=0))
        start, end = covered[0], covered[-1] + 1
        below = light(pixels[start:end]).reshape(end - start, -1)
        means[first : first + step] = (band[:, start:end] @ below).reshape(-1, *pixels.shape[1:])
    return means


@lru_cache(8)
def _weights(old: int, new: int) -> Float[ndarray, "{new} {old}"]:
    """The share that each of ``old`` pixels has of each of ``new`` ones that cover the same length."""
    edges, pixels = np.arange(new + 1)[:, None] * (old / new), np.arange(old)
    covered = (np.minimum(pixels + 1, edges[1:]) - np.maximum(pixels, edges[:-1])).clip(0)
    return (covered * (new / old)).astype(np.float32)


def fitting(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is ``side`` pixels at most, proportions kept."""
    scale = min(side / max(width, height), 1.0)
    return max(round(width * scale), 1), max(round(height * scale), 1)
