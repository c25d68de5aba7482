"""Kinds of pictures: which this Pillow reads, and what those are called that are left out."""

import os
from collections.abc import Mapping

from PIL import features

_READ = {
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
    "PNG": ".png .apng",
    "WEBP": ".webp",
    "BMP": ".bmp .dib",
    "GIF": ".gif",
    "TIFF": ".tif .tiff",
    "PPM": ".ppm .pgm .pbm .pnm",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "AVIF": ".avif .avifs",
}
"""By Pillow's names for them."""
_FEATURE = {"JPEG2000": "jpg_2000", "AVIF": "avif"}  # that not every Pillow has: AVIF came with 11.3
_OTHERS = {
    "HEIC": ".heic .heif .hif",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp .hdp",
    "SVG": ".svg .svgz",
    "PSD": ".psd .psb",
    "camera raw": ".dng .cr2 .cr3 .nef .nrw .arw .raf .orf .rw2 .pef .srw",
    "TGA": ".tga",
    "ICO": ".ico .cur",
    "ICNS": ".icns",
    "QOI": ".qoi",
    "PCX": ".pcx",
    "SGI": ".sgi .rgb .rgba .bw",
    "DDS": ".dds",
    "PFM": ".pfm",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr .pic",
    "FITS": ".fits .fit",
    "DICOM": ".dcm .dicom",
    "XBM": ".xbm .xpm",
    "PDF or PostScript": ".pdf .eps .ps .ai",
    "video": ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg",
    "tar": ".tar",
    "compressed tar (to be unpacked first)": ".tgz .tbz .tbz2 .txz .tzst",
    "zip or 7z": ".zip .7z .rar",
    "Parquet or Arrow": ".parquet .arrow",
    "TFRecord": ".tfrecord .tfrecords",
    "NumPy": ".npy .npz",
}
"""Pictures, and what holds pictures, that are not read among images."""
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".z")  # after .tar
NO_SUFFIX = "without a suffix"


def _reads(name: str) -> bool:
    feature = _FEATURE.get(name)
    return feature is None or (feature in (*features.modules, *features.codecs) and bool(features.check(feature)))


FORMATS = tuple(name for name in _READ if _reads(name))
SUFFIXES = frozenset(suffix for name in FORMATS for suffix in _READ[name].split())
_LEFT_OUT = {
    suffix: name.replace("JPEG2000", "JPEG 2000")
    for name, suffixes in {**_READ, **_OTHERS}.items()
    for suffix in suffixes.split()
    if suffix not in SUFFIXES
} | {"": NO_SUFFIX}


def is_read(name: str) -> bool:
    """Whether the file ``name`` is read as an image."""
    return _suffix(name) in SUFFIXES


def left_out(name: str) -> str | None:
    """The kind of picture, or of what holds pictures, that the file ``name`` is and that is not read; else None."""
    return _LEFT_OUT.get(_suffix(name))


def in_words(counts: Mapping[str, int]) -> str:
    """What was left out, the most first: ``12 AVIF, 3 HEIC``."""
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name.lower())
    return ".tgz" if stem.endswith(".tar") and suffix in _COMPRESSED else suffix
