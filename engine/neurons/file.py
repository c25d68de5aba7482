"""Per-latent results in one HDF5 file: what ``score`` writes and everything else reads. Costs no torch.

Layout of ``neurons/<sae>--<images>.h5`` (w latents, N images; any HDF5 tool can read it):

    attributes               format = "saetui-neurons", version = 1
    summary, provenance      JSON text
    latents/
      ms, low, high          (w) float64: monosemanticity and its 95 % interval; NaN where undefined
      support                (w) int64: images whose normalised activation is above 0
      effective_support      (w) float64
      matched                (w) float64: MS of the density-matched raw neuron
      token_frequency        (w) float64: share of the scored tokens on which it fires
      image_frequency        (w) float64: share of the images
      mean, maximum          (w) float32: pooled activation, over the images on which it fires
      histogram              (w, bins) uint32: images by pooled activation, in equal bins from 0 to its maximum
      group                  (w) int16: Matryoshka group, 0 is the coarsest
      depth, depth_mode      (w) float64, int16: taxonomy depth; NaN and -1 below all top images
      partner, jaccard       (w) int32, float32: latent with the most similar top images (-1: none)
      top_images             (w, top) int32: numbers of the images, largest activation first; -1 pads
      top_activations        (w, top) float32: pooled activations; 0 pads
      maps                   (w, top, rows, columns) float16, optional: activation on each patch of the top images
      names, name_scores     (w, n) int32, float32: numbers of the nearest words (-1: none) and cosines
      near, near_cosines     (w, m) int32, float32, optional: latents with the nearest decoder rows
      cofiring, cofiring_scores  the same, optional: latents that fire on the same images, Jaccard index of the images
      directions             (w, D) float16, optional: unit direction of the top images in the space of the text tower
    words/
      word                   (V) text
      latents, scores        (V, m) int32, float32: nearest latents of each word
      mean                   (D) float32, optional: mean of the words' unit embeddings (engine.neurons.names.rank_text)
    images/
      path, label, sha256    (N) text; an empty label is none
      taxonomy               (N) text: JSON list, root first

``images/`` lists the images that could be read, in order; their numbers above are places in this list.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import h5py
import numpy as np
from jaxtyping import Float

from engine.errors import UserError
from engine.files import atomic_path, check_version
from engine.neurons.matching import TopSets
from engine.neurons.query import Query
from engine.neurons.taxonomy import SHARE, Taxonomy
from engine.neurons.word_index import WordIndex

FORMAT = "saetui-neurons"
VERSION = 1
ARRAYS = {
    "ms": np.float64,
    "low": np.float64,
    "high": np.float64,
    "support": np.int64,
    "effective_support": np.float64,
    "matched": np.float64,
    "token_frequency": np.float64,
    "image_frequency": np.float64,
    "mean": np.float32,
    "maximum": np.float32,
    "histogram": np.uint32,
    "group": np.int16,
    "depth": np.float64,
    "depth_mode": np.int16,
    "partner": np.int32,
    "jaccard": np.float32,
    "top_images": np.int32,
    "top_activations": np.float32,
    "names": np.int32,
    "name_scores": np.float32,
}
OPTIONAL = {  # absent in older files; directions also where there is no text tower
    "near": np.int32,
    "near_cosines": np.float32,
    "cofiring": np.int32,
    "cofiring_scores": np.float32,
    "directions": np.float16,
}
SORTS = ("ms", "low", "gain", "matched", "support", "frequency", "maximum", "depth", "group", "latent", "match")
_MAP_CHUNK = 16  # latents whose maps are compressed together


def write_neurons(
    path: Path,
    latents: Mapping[str, np.ndarray],
    images: Sequence[Mapping[str, Any]],
    words: Sequence[str],
    word_latents: np.ndarray,
    word_scores: np.ndarray,
    summary: Mapping[str, Any],
    provenance: Mapping[str, Any],
    word_mean: np.ndarray | None = None,
) -> None:
    """Write the file in one step. ``latents``: the arrays of ``ARRAYS``, and perhaps of ``OPTIONAL`` and ``maps``.

    ``images``: dicts with path, label, taxonomy, sha256. Same contents, same bytes. UserError when the disk refuses.
    """
    missing = set(ARRAYS) - set(latents)
    if missing:
        raise ValueError(f"no {', '.join(sorted(missing))}")
    # Built in memory: HDF5 does not survive a disk that fills up under it, a plain write says so.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file["summary"] = json.dumps(summary, allow_nan=False)
        file["provenance"] = json.dumps(provenance, allow_nan=False)
        for name, dtype in ARRAYS.items():
            file[f"latents/{name}"] = np.asarray(latents[name], dtype)
        for name, dtype in OPTIONAL.items():
            if name in latents:
                file[f"latents/{name}"] = np.asarray(latents[name], dtype)
        if latents.get("maps") is not None:
            maps = latents["maps"]
            chunks = (min(_MAP_CHUNK, maps.shape[0]), *maps.shape[1:])  # mostly zeros: compress
            file.create_dataset(
                "latents/maps", data=maps, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
            )
        file["words/latents"] = np.asarray(word_latents, np.int32)
        file["words/scores"] = np.asarray(word_scores, np.float32)
        if word_mean is not None:
            file["words/mean"] = np.asarray(word_mean, np.float32)
        _write_text(file, "words/word", words)
        _write_text(file, "images/path", [image["path"] for image in images])
        _write_text(file, "images/label", [image.get("label") or "" for image in images])
        _write_text(file, "images/sha256", [image.get("sha256") or "" for image in images])
        _write_text(file, "images/taxonomy", [json.dumps(list(image.get("taxonomy") or ())) for image in images])
        file.flush()
        content = file.id.get_file_image()
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"Cannot write {path} ({error.strerror}): make room or check its permissions, and score again."
        ) from error


class Neurons:
    """Results of all latents, read from the file as they are needed."""

    ms: np.ndarray
    low: np.ndarray
    high: np.ndarray
    support: np.ndarray
    effective_support: np.ndarray
    matched: np.ndarray
    token_frequency: np.ndarray
    image_frequency: np.ndarray
    mean: np.ndarray
    maximum: np.ndarray
    histogram: np.ndarray
    group: np.ndarray
    depth: np.ndarray
    depth_mode: np.ndarray
    partner: np.ndarray
    jaccard: np.ndarray
    top_images: np.ndarray
    top_activations: np.ndarray
    name_scores: np.ndarray

    def __init__(self, path: Path, file: h5py.File):
        self.path, self._file = path, file
        self.summary: dict[str, Any] = json.loads(self._read("summary"))
        self.provenance: dict[str, Any] = json.loads(self._read("provenance"))
        self.w: int = self._dataset("latents/ms").shape[0]
        self._rankings: dict[tuple[str, bool], np.ndarray] = {}
        self._pictures_in: WeakKeyDictionary[Neurons, np.ndarray] = WeakKeyDictionary()

    @classmethod
    def open(cls, path: str | Path) -> "Neurons":
        """The results in ``path``. UserError: missing, damaged, of another kind, or written by a newer saetui."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"There are no scores at {path}: make them with saetui score.")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise UserError(f"{path} is damaged or no HDF5 file: score again (saetui score).") from error
        try:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{path} is no neurons file of saetui: make one with saetui score.")
            version = file.attrs.get("version")
            check_version(None if version is None else int(version), VERSION, path)
            return cls(path, file)
        except (KeyError, OSError, ValueError) as error:
            file.close()
            raise UserError(f"{path} is damaged ({error}): score again (saetui score).") from error
        except UserError:
            file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Neurons":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in ARRAYS:
            raise AttributeError(f"Neurons have no {name!r}")
        array = self._read(f"latents/{name}")
        setattr(self, name, array)
        return array

    @cached_property
    def words(self) -> list[str]:
        return [_text(word) for word in self._read("words/word")]

    @cached_property
    def names(self) -> list[list[str]]:
        """Words of each latent, nearest first; empty without names. Large: :meth:`names_of` where a few are shown."""
        return [self.names_of(latent) for latent in range(self.w)]

    def names_of(self, latent: int) -> list[str]:
        """Words of ``latent``, nearest first; empty without names."""
        self._check(latent)
        return [self.words[n] for n in self._name_numbers[latent].tolist() if n >= 0]

    @cached_property
    def _name_numbers(self) -> np.ndarray:
        return self._read("latents/names")

    @cached_property
    def images(self) -> list[dict[str, Any]]:
        """path, label (None without one), taxonomy (tuple, root first) and sha256 of each image."""
        columns = [self._read(f"images/{name}").tolist() for name in ("path", "label", "taxonomy", "sha256")]
        # Most images have their label and taxonomy in common with others: each is read, and held, once.
        labels = {stored: _text(stored) or None for stored in set(columns[1])}
        taxonomies = {stored: tuple(json.loads(_text(stored))) for stored in set(columns[2])}
        return [
            {
                "path": _text(path),
                "label": labels[label],
                "taxonomy": taxonomies[taxonomy],
                "sha256": _text(sha256),
            }
            for path, label, taxonomy, sha256 in zip(*columns, strict=True)
        ]

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """Where the images lie; ``taxonomy.tree(top_images)`` is the tree of the latents."""
        return Taxonomy(self.images)

    def path_of(self, latent: int, share: float = SHARE) -> tuple[tuple[str, ...], float]:
        """The deepest taxonomy path that at least ``share`` of the top images of ``latent`` lie below, and their share.

        () and 1 when they have none in common, () and 0 without top images.
        """
        self._check(latent)
        node, agreeing = self.taxonomy.deepest(self.top_images[latent : latent + 1], share)
        return self.taxonomy.paths.get(int(node[0]), ()), float(agreeing[0])

    def match(self, other: "Neurons", latent: int, n: int = 8) -> list[tuple[int, float]]:
        """The ``n`` latents of ``other`` with the most similar top images, and the Jaccard index of the two sets.

        Pictures are told apart by content hash, else by path: the two may be scores of different image lists. Of equals
        the lower number first; only latents that share a picture.
        """
        self._check(latent)
        if other not in self._pictures_in:
            self._pictures_in[other] = self._top_sets.numbers_in(other._top_sets)
        return other._top_sets.similar(self._pictures_in[other][self._top_sets.pictures(latent)], n)

    @cached_property
    def _top_sets(self) -> TopSets:
        return TopSets(self.top_images, self.images)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the maps; None when there are none."""
        if "maps" not in self._file["latents"]:
            return None
        rows, columns = self._dataset("latents/maps").shape[2:]
        return int(rows), int(columns)

    def maps(self, latent: int) -> Float[np.ndarray, "top rows columns"] | None:
        """Activation of ``latent`` on each patch of its top images; None when the file has no maps."""
        if self.grid is None:
            return None
        self._check(latent)
        return self._row("latents/maps", latent)

    def neighbours(self, latent: int) -> dict[str, list[tuple[int, float]]]:
        """``near``: latents with the nearest decoder rows and the cosines; ``cofiring``: latents that fire on the same
        images and the Jaccard indices. Best first; [] where there are none, or the file is older than they are.
        """
        self._check(latent)
        return {
            "near": self._pairs(latent, "near", "near_cosines"),
            "cofiring": self._pairs(latent, "cofiring", "cofiring_scores"),
        }

    @property
    def has_neighbours(self) -> bool:
        return "near" in self._file["latents"]

    @property
    def directions(self) -> Float[np.ndarray, "w D"] | None:
        """What texts are compared with (:func:`engine.neurons.names.rank_text`), read anew each time: it is large."""
        return self._read("latents/directions") if "directions" in self._file["latents"] else None

    @property
    def word_mean(self) -> Float[np.ndarray, " D"] | None:
        """What is taken off texts before they are compared with ``directions``."""
        return self._read("words/mean") if "mean" in self._file["words"] else None

    def row(self, latent: int, labels: Mapping[int, str] | None = None) -> dict[str, Any]:
        """What a table shows of one latent: plain values, None where undefined."""
        self._check(latent)
        ms, matched = _number(self.ms[latent]), _number(self.matched[latent])
        return {
            "latent": int(latent),
            "label": (labels or {}).get(latent, ""),
            "names": self.names_of(latent),
            "ms": ms,
            "low": _number(self.low[latent]),
            "high": _number(self.high[latent]),
            "support": int(self.support[latent]),
            "effective_support": _number(self.effective_support[latent]),
            "matched": matched,
            "gain": None if ms is None or matched is None else ms - matched,
            "frequency": float(self.image_frequency[latent]),
            "token_frequency": float(self.token_frequency[latent]),
            "maximum": float(self.maximum[latent]),
            "group": int(self.group[latent]),
            "depth": _number(self.depth[latent]),
        }

    def top(self, latent: int) -> list[dict[str, Any]]:
        """The top images of ``latent``, largest first: image (its number), path, label, activation."""
        self._check(latent)
        shown = self.top_images[latent] >= 0
        return [
            {
                "image": int(image),
                "path": self.images[image]["path"],
                "label": self.images[image]["label"],
                "activation": float(activation),
            }
            for image, activation in zip(
                self.top_images[latent][shown], self.top_activations[latent][shown], strict=True
            )
        ]

    def search(self, text: str, labels: Mapping[int, str] | None = None) -> dict[int, float]:
        """Latents that ``text`` finds, with how well (:meth:`WordIndex.find`): 2 for a label, else a cosine."""
        scores = self._index.find(text, labels or {})
        found = np.flatnonzero(scores)
        return dict(zip(found.tolist(), scores[found].tolist(), strict=True))

    def order(
        self,
        sort: str = "",
        search: str | Query = "",
        labels: Mapping[int, str] | None = None,
        descending: bool = True,
        marks: Collection[int] = (),
    ) -> list[int]:
        """Latents as a table shows them: those that ``search`` asks for (all without it), by ``sort``, undefined last.

        ``search``: conditions and text (:mod:`engine.neurons.query`). ``sort``: one of ``SORTS``; by default
        ``match`` after a search for text, else ``ms``. ``labels`` and ``marks``: what a person says of latents.
        """
        query = Query.parse(search) if isinstance(search, str) else search
        sort = sort or ("match" if query.text else "ms")
        if sort not in SORTS or (sort == "match" and not query.text):
            known = ", ".join(s for s in SORTS if s != "match" or query.text)
            raise UserError(f"Latents cannot be sorted by {sort!r}: choose one of {known}.")
        scores = self._index.find(query.text, labels or {}) if query.text else np.ones(self.w)
        shown = scores > 0
        for condition in query.conditions:
            shown &= condition.holds(self._values(condition.field, labels or {}, marks))
        if sort == "match":
            found = np.flatnonzero(shown)
            return found[np.argsort(-scores[found] if descending else scores[found], kind="stable")].tolist()
        ranking = self._ranking(sort, descending)
        return ranking[shown[ranking]].tolist()

    def table(
        self,
        sort: str = "",
        top: int = 20,
        search: str | Query = "",
        labels: Mapping[int, str] | None = None,
        descending: bool = True,
        marks: Collection[int] = (),
    ) -> list[dict[str, Any]]:
        """The first ``top`` rows (0: all) of :meth:`order`, each as :meth:`row`; ``match`` after a search for text.

        ``labels``: what a person calls latents; searched before the automatic names.
        """
        query = Query.parse(search) if isinstance(search, str) else search
        latents = self.order(sort, query, labels, descending, marks)
        rows = [self.row(latent, labels) for latent in (latents[:top] if top > 0 else latents)]
        if not query.text:
            return rows
        found = self.search(query.text, labels)
        return [row | {"match": found[row["latent"]]} for row in rows]

    @cached_property
    def _index(self) -> WordIndex:
        scores = self._read("words/latents"), self._read("words/scores")
        return WordIndex(self.words, self._name_numbers, self.name_scores, *scores)

    def _ranking(self, sort: str, descending: bool) -> np.ndarray:
        """All latents by ``sort``, undefined last; kept, because every key that is typed asks for it again."""
        if (sort, descending) not in self._rankings:
            keys = self._values(sort, {}, ()).astype(np.float64)
            sign = -1.0 if descending != (sort == "latent") else 1.0  # numbers read upwards
            order = np.argsort(np.where(np.isnan(keys), np.inf, sign * keys), kind="stable")
            self._rankings[sort, descending] = order.astype(np.int32)
        return self._rankings[sort, descending]

    def _values(self, field: str, labels: Mapping[int, str], marks: Collection[int]) -> np.ndarray:
        """What conditions on ``field`` compare, one value a latent."""
        match field:
            case "latent":
                return np.arange(self.w)
            case "gain":
                return self.ms - self.matched
            case "frequency":
                return self.image_frequency
            case "alive" | "dead":
                return (self.token_frequency > 0) == (field == "alive")
            case "marked":
                return self._members(marks)
            case "labelled":
                return self._members([latent for latent, label in labels.items() if label])
        return getattr(self, field)

    def _members(self, latents: Collection[int]) -> np.ndarray:
        return np.isin(np.arange(self.w), np.fromiter(latents, np.int64, len(latents)))

    def _pairs(self, latent: int, latents: str, scores: str) -> list[tuple[int, float]]:
        if latents not in self._file["latents"]:
            return []
        others, values = self._row(f"latents/{latents}", latent), self._row(f"latents/{scores}", latent)
        return [(k, value) for k, value in zip(others.tolist(), values.tolist(), strict=True) if k >= 0 and value > 0]

    def _row(self, name: str, latent: int) -> np.ndarray:
        try:
            return self._dataset(name)[latent]
        except (OSError, RuntimeError) as error:
            raise self._damaged(error) from error

    def _dataset(self, name: str) -> h5py.Dataset:
        item = self._file.get(name)
        if not isinstance(item, h5py.Dataset):
            raise self._damaged(f"no {name}")
        return item

    def _read(self, name: str) -> Any:
        try:
            return self._dataset(name)[()]
        except (OSError, RuntimeError) as error:
            raise self._damaged(error) from error

    def _check(self, latent: int) -> None:
        if not 0 <= latent < self.w:
            raise UserError(f"{self.path.name} has latents 0 to {self.w - 1}, not {latent}: give one of them.")

    def _damaged(self, reason: object) -> UserError:
        return UserError(f"{self.path} is damaged ({reason}): score again (saetui score).")


def _write_text(file: h5py.File, name: str, texts: Sequence[str]) -> None:
    encoded = np.array([text.encode("utf-8", "surrogateescape") for text in texts], object)
    file.create_dataset(name, data=encoded, dtype=h5py.string_dtype("utf-8"), shape=(len(texts),))


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")  # file names need not be UTF-8
