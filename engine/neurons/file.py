"""Per-latent results in one HDF5 file: what ``score`` writes and everything else reads. Costs no torch.

Layout of ``neurons/<sae>--<images>.h5`` (w latents, N images; any HDF5 tool can read it):

    attributes               format = "saetui-neurons", version = 1
    summary, provenance      JSON text: engine.neurons.results.Summary, .Provenance
    as_written               JSON text, optional: SHA-256 of the file before relink changed the places in it
    latents/
      <quantity>             (w, ...): those of engine.neurons.quantities that have a dtype
      maps                   (w, top, rows, columns) float16, optional: activation on each patch of the top images
    words/
      word                   (V) text
      latents, scores        (V, m) int32, float32: nearest latents of each word
      mean                   (D) float32, optional: mean of the words' unit embeddings (engine.neurons.names.rank_text)
    images/
      path, label, sha256    (N) text; an empty label is none
      taxonomy               (N) text: JSON list, root first

``images/`` lists the images that could be read, in order; their numbers above are places in this list. Before all this
stand 512 bytes, a user block of HDF5, which any tool passes over: the SHA-256 of the rest (engine.neurons.seal).
"""

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import h5py
import numpy as np
from jaxtyping import Bool, Float, Shaped

from engine.activations.store import Store
from engine.errors import UserError, counted, reason, refusal
from engine.files import check_version
from engine.hdf5 import HDF5File, check_size, read_array, read_number, read_row
from engine.metrics.copies import copies
from engine.neurons.cropping import Frame, cropping_of
from engine.neurons.matching import TopSets
from engine.neurons.quantities import BEST, FIELDS, KEPT, SORTS, SUPPORT, Quantity
from engine.neurons.query import LATENTS
from engine.neurons.results import LatentRow, Listed, Related, ScoredImage, Summary, TopImage, Value
from engine.neurons.seal import check_seal, damaged_scores, write_sealed
from engine.neurons.taxonomy import SHARE, Taxonomy
from engine.neurons.word_index import WordIndex
from engine.places import located, recorded, workspace_of
from engine.query import Expression, asks_about, holds, texts
from engine.records import from_json, parse_json, to_json
from engine.workspace import Provenance, Workspace

FORMAT = "saetui-neurons"
VERSION = 1
_READ_AGAIN = 1 << 28  # bytes of embeddings, for what is younger than the file
_MAP_CHUNK = 16  # latents whose maps are compressed together


def write_neurons(
    path: Path,
    latents: Mapping[str, np.ndarray],
    images: Sequence[ScoredImage],
    words: Sequence[str],
    word_latents: np.ndarray,
    word_scores: np.ndarray,
    summary: Summary,
    provenance: Provenance,
    word_mean: np.ndarray | None = None,
) -> None:
    """Write the file in one step. ``latents``: the quantities that are kept (``KEPT``), and perhaps ``maps``.

    Same contents, same bytes. UserError when the disk refuses.
    """
    missing = {name for name, quantity in KEPT.items() if not quantity.optional} - set(latents)
    if missing:
        raise ValueError(f"no {', '.join(sorted(missing))}")
    summary, provenance = recorded(summary, workspace_of(path)), recorded(provenance, workspace_of(path))
    # Built in memory: HDF5 does not survive a disk that fills up under it, a plain write says so.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file["summary"] = json.dumps(to_json(summary), allow_nan=False)
        file["provenance"] = json.dumps(to_json(provenance), allow_nan=False)
        for name, quantity in KEPT.items():
            if name in latents:
                file[f"latents/{name}"] = np.asarray(latents[name], quantity.dtype)
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
        _write_text(file, "images/path", [image.path for image in images])
        _write_text(file, "images/label", [image.label or "" for image in images])
        if also := {image.label: image.also for image in images if image.also}:
            _write_text(file, "classes", [json.dumps([label, *others]) for label, others in also.items()])
        _write_text(file, "images/sha256", [image.sha256 for image in images])
        _write_text(file, "images/taxonomy", [json.dumps(image.taxonomy) for image in images])
        file.flush()
        content = file.id.get_file_image()
    try:
        write_sealed(path, content)
    except OSError as error:
        raise UserError(
            f"Cannot write {path} ({reason(error)}): make room or check its permissions, and score again."
        ) from error


class Neurons:
    """Results of all latents, read from the file as they are needed.

    The quantities that are kept are attributes, as ``neurons.ms``.
    """

    def __init__(self, path: Path, file: h5py.File):
        self.path, self._file = path, file
        summary = from_json(Summary, parse_json(self._read("summary")), f"The summary of {path}")
        provenance = from_json(Provenance, parse_json(self._read("provenance")), f"The origin of {path}")
        self.summary: Summary = located(summary, workspace_of(path))
        self.provenance: Provenance = located(provenance, workspace_of(path))
        check_size(self._dataset("latents/ms"))
        self.w: int = self._dataset("latents/ms").shape[0]
        self._derived: dict[str, np.ndarray] = {}
        self._rankings: dict[tuple[str, bool], np.ndarray] = {}
        self._pictures_in: WeakKeyDictionary[Neurons, np.ndarray] = WeakKeyDictionary()

    @classmethod
    def open(cls, path: str | Path) -> "Neurons":
        """The results in ``path``. UserError: missing, damaged, of another kind, or written by a newer saetui."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"There are no scores at {path}: make them with saetui score.")
        try:
            check_seal(path)
            file = HDF5File(path)
        except OSError as error:
            damaged = UserError(f"{path} is damaged or no HDF5 file: score again (saetui score).")
            raise refusal(error, path) or damaged from error
        try:
            if "format" not in file.attrs or "latents" not in file:
                raise UserError(f"{path} is no neurons file of saetui: make one with saetui score.")
            check_version(read_number(file, "version"), VERSION, path)
            return cls(path, file)
        except UserError:
            file.close()
            raise
        except Exception as error:  # what a damaged file raises depends on where in it the damage is
            file.close()
            raise refusal(error, path) or damaged_scores(path, error) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "Neurons":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in KEPT:
            raise AttributeError(f"Neurons have no {name!r}")
        quantity = KEPT[name]
        if name in self._file["latents"] or quantity.shape or not quantity.optional:
            array = self._read(f"latents/{name}")
        else:
            array = self._made_now(quantity) if self._can_make(quantity) else np.full(self.w, np.nan)
        if len(array) != self.w:
            raise self._damaged(f"{name} has {counted(len(array), 'row')}, not one a latent")
        setattr(self, name, array)
        return array

    def _can_make(self, quantity: Quantity) -> bool:
        """Whether what it is made of is in the file."""
        known = {"labels"} if self._judged is None else {"labels", "embeddings"}
        return bool(quantity.made_by) and all(name in KEPT or name in known for name in quantity.of)

    @cached_property
    def _judged(self) -> Store | None:
        """What the judge saw of the images, where that is still there and is no more than is read in a moment."""
        said = next((one for one in self.provenance.made_from if one.kind == "embeddings"), None)
        if said is None:
            return None
        with contextlib.suppress(UserError):
            store = Store.open(Workspace(workspace_of(self.path)).embeddings(said.name))
            if store.sha256 == said.sha256 and store.rows * store.d * 4 <= _READ_AGAIN:
                return store
        return None

    def _made_now(self, quantity: Quantity) -> np.ndarray:
        """A quantity that is younger than the file."""
        result = quantity.function()(*map(self._given, quantity.of))
        together = [one.name for one in KEPT.values() if (one.made_by, one.of) == (quantity.made_by, quantity.of)]
        made = result[together.index(quantity.name)] if len(together) > 1 else result
        return np.asarray(made, quantity.dtype)

    def _given(self, name: str) -> Any:
        if name == "labels":
            return [one.label for one in self.images]
        if name == "embeddings":
            assert self._judged is not None
            return self._judged.read(0, self._judged.rows)
        return getattr(self, name)

    def values(self, quantity: Quantity) -> Shaped[np.ndarray, " w"]:
        """One value a latent, kept or derived."""
        if quantity.derived is None:
            return getattr(self, quantity.name)
        if quantity.name not in self._derived:
            self._derived[quantity.name] = quantity.derived(partial(getattr, self))
        return self._derived[quantity.name]

    def defined(self, quantity: Quantity) -> bool:
        """Whether some latent has it."""
        values = self.values(quantity)
        return bool((values == values).any())

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
    def _class_images(self) -> np.ndarray:
        return np.nan_to_num(self.class_image, nan=-1).astype(np.int32)

    def class_of(self, latent: int) -> str:
        """The commonest class of the top images of ``latent``; empty without one, and in files that are older."""
        self._check(latent)
        image = self._class_images[latent]
        return (self.images[image].label or "") if image >= 0 else ""

    def kind_of(self, latent: int) -> str:
        """:meth:`class_of` in a word or two."""
        image = self._class_images[latent]
        return self.images[image].kind if image >= 0 else ""

    @cached_property
    def images(self) -> list[ScoredImage]:
        """The images that were scored."""
        with refusing_damage(self.path):
            return self._listed()

    def _listed(self) -> list[ScoredImage]:
        columns = [self._read(f"images/{name}").tolist() for name in ("path", "label", "taxonomy", "sha256")]
        # Most images have their label and taxonomy in common with others: each is read, and held, once.
        labels = {stored: _text(stored) or None for stored in set(columns[1])}
        taxonomies = {stored: tuple(parse_json(_text(stored))) for stored in set(columns[2])}
        named = self._read("classes").tolist() if "classes" in self._file else ()  # absent in older files, too
        also = {label: tuple(others) for label, *others in (parse_json(_text(one)) for one in named)}
        return [
            ScoredImage(_text(path), labels[label], taxonomies[taxonomy], _text(sha256), also.get(labels[label], ()))
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

    def frames(self, latent: int) -> list[Frame | None]:
        """Where patches were scored: on each top image of ``latent`` the crop around its strongest patch, such as the
        judge saw of the patches that were drawn. Empty where images were scored."""
        cropping, maps = cropping_of(self.summary.settings), self.maps(latent)
        return [] if cropping is None or maps is None else list(cropping.around_strongest(maps))

    def neighbours(self, latent: int) -> Related:
        """The latents that are most like ``latent``; none in a file that is older than they are."""
        self._check(latent)
        return Related(
            near=self._pairs(latent, "near", "near_cosines"),
            cofiring=self._pairs(latent, "cofiring", "cofiring_scores"),
        )

    @property
    def knows_neighbours(self) -> bool:
        """Whether :meth:`neighbours` were measured; files that are older than they are have none."""
        return {"near", "cofiring"} <= self._file["latents"].keys()

    @property
    def sae_sha256(self) -> str:
        """Content hash of the SAE that was scored; a name is no identity."""
        return next((one.sha256 for one in self.provenance.made_from if one.kind == "sae"), "")

    @property
    def complete(self) -> bool:
        """Whether it has all that scoring computes now, or can make it; a file of an older version may lack some."""
        made = [quantity for quantity in KEPT.values() if quantity.made_by]
        return all(one.name in self._file["latents"] or self._can_make(one) for one in made)

    @property
    def directions(self) -> Float[np.ndarray, "w D"] | None:
        """What texts are compared with (:func:`engine.neurons.names.rank_text`), read anew each time: it is large."""
        return self._read("latents/directions") if "directions" in self._file["latents"] else None

    @property
    def word_mean(self) -> Float[np.ndarray, " D"] | None:
        """What is taken off texts before they are compared with ``directions``."""
        return self._read("words/mean") if "mean" in self._file["words"] else None

    def row(self, latent: int, labels: Mapping[int, str] | None = None) -> LatentRow:
        """What a table shows of one latent."""
        self._check(latent)
        values = {field: _plain(self.values(quantity)[latent]) for field, quantity in FIELDS.items()}
        del values["latent"]
        return LatentRow(
            int(latent), (labels or {}).get(latent, ""), self.names_of(latent), values, self.class_of(latent)
        )

    def top(self, latent: int) -> list[TopImage]:
        """The top images of ``latent``, largest activation first."""
        self._check(latent)
        shown = self.top_images[latent] >= 0
        pairs = zip(self.top_images[latent][shown].tolist(), self.top_activations[latent][shown].tolist(), strict=True)
        return [
            TopImage(number, self.images[number].path, self.images[number].label, activation)
            for number, activation in pairs
        ]

    def search(self, text: str, labels: Mapping[int, str] | None = None) -> dict[int, float]:
        """Latents that ``text`` finds, with how well (:meth:`WordIndex.find`): 2 for a label, else a cosine."""
        scores = self._index.find(text, labels or {})
        found = np.flatnonzero(scores)
        return dict(zip(found.tolist(), scores[found].tolist(), strict=True))

    def order(
        self,
        sort: str = "",
        search: str | Expression = "",
        labels: Mapping[int, str] | None = None,
        descending: bool = True,
        marks: Collection[int] = (),
        support: int = SUPPORT,
    ) -> list[int]:
        """The latents that ``search`` asks for (all without it), by ``sort``, undefined last.

        ``search``: a filter line (:mod:`engine.neurons.query`), or what it means. ``sort``: one of ``SORTS`` or
        another name of it, or ``match`` after a search for text, which is the default there; else it is ``best``:
        by gain, those that fewer than ``support`` images fire after all others. ``labels`` and ``marks``: what a
        person says of latents.
        """
        asked = LATENTS.parse(search) if isinstance(search, str) else search
        searched, labels = texts(asked), labels or {}
        sorts = (*SORTS, "match") if searched else tuple(SORTS)
        sort = LATENTS.named.get(sort.lower(), sort) or ("match" if searched else BEST)
        if sort not in sorts:
            raise UserError(f"Latents cannot be sorted by {sort!r}: choose one of {', '.join(sorts)}.")
        find = cache(lambda text: self._index.find(text, labels))
        compared = partial(self._compared, labels=labels, marks=marks)
        shown = holds(asked, compared, lambda text: find(text) > 0, self.w)
        if sort == "match":
            found, scores = np.flatnonzero(shown), np.max([find(text) for text in searched], axis=0)
            return found[np.argsort(-scores[found] if descending else scores[found], kind="stable")].tolist()
        ranking = self._ranking(sort, descending, labels, marks, support)
        return ranking[shown[ranking]].tolist()

    def listed(
        self,
        sort: str = "",
        search: str | Expression = "",
        labels: Mapping[int, str] | None = None,
        descending: bool = True,
        marks: Collection[int] = (),
        support: int = SUPPORT,
        copies: bool = False,
    ) -> Listed:
        """:meth:`order` as a table shows it: latents whose top images are copies of one another are set aside.

        Not with ``copies``, nor where ``search`` asks about them, nor where there are no others to be shown.
        """
        asked = LATENTS.parse(search) if isinstance(search, str) else search
        found = self.order(sort, asked, labels, descending, marks, support)
        if copies or asks_about(asked, "copies") or not self.copies.any():
            return Listed(found, ())
        latents = np.array(found, np.int64)
        repeat = self.copies[latents]
        if repeat.all():
            return Listed(found, ())
        return Listed(latents[~repeat].tolist(), tuple(latents[repeat].tolist()))

    @cached_property
    def copies(self) -> Bool[np.ndarray, " w"]:
        """Latents whose top images are copies of one another (:mod:`engine.metrics.copies`); none in older files."""
        return copies(self.top_images, self.distinct)

    def table(
        self,
        sort: str = "",
        top: int = 20,
        search: str | Expression = "",
        labels: Mapping[int, str] | None = None,
        descending: bool = True,
        marks: Collection[int] = (),
        support: int = SUPPORT,
        copies: bool = False,
    ) -> list[LatentRow]:
        """The first ``top`` rows (0: all) of :meth:`listed`, each as :meth:`row`; ``match`` after a search for text.

        ``labels``: what a person calls latents; searched before the automatic names.
        """
        asked = LATENTS.parse(search) if isinstance(search, str) else search
        latents = self.listed(sort, asked, labels, descending, marks, support, copies).latents
        rows = [self.row(latent, labels) for latent in (latents[:top] if top > 0 else latents)]
        found: dict[int, float] = {}
        for text in texts(asked):
            found |= {n: max(score, found.get(n, 0.0)) for n, score in self.search(text, labels).items()}
        if not found:
            return rows
        through = self.found_through(asked)
        return [replace(row, match=found.get(row.latent), through=through.get(row.latent, "")) for row in rows]

    def found_through(self, asked: Expression) -> dict[int, str]:
        """By latent that a text of ``asked`` finds through a word near it: that word. It need not be one of its
        names."""
        return {latent: word for text in reversed(texts(asked)) for latent, word in self._index.through(text).items()}

    @cached_property
    def _index(self) -> WordIndex:
        scores = self._read("words/latents"), self._read("words/scores")
        commonest = [self.images[n].classes if n >= 0 else "" for n in self._class_images.tolist()]
        return WordIndex(self.words, self._name_numbers, self.name_scores, *scores, commonest, self.class_share)

    def _ranking(
        self, sort: str, descending: bool, labels: Mapping[int, str], marks: Collection[int], support: int
    ) -> np.ndarray:
        """All latents by ``sort``, undefined last; kept, because every key that is typed asks for it again."""
        if sort == BEST:
            ranking = self._ranking("gain", descending, labels, marks, support)
            last = ((self.support < support) | np.isnan(self.values(FIELDS["gain"])))[ranking]
            return np.concatenate([ranking[~last], ranking[last]])
        if sort not in FIELDS:  # texts from a to z, and what a person may change at any time
            values = self._compared(sort, labels, marks)
            known = [latent for latent, value in enumerate(values) if value]
            known.sort(key=lambda latent: str(values[latent]).casefold(), reverse=not descending)
            return np.array([*known, *(latent for latent, value in enumerate(values) if not value)], np.int32)
        if (sort, descending) not in self._rankings:
            keys = self.values(FIELDS[sort]).astype(np.float64)
            sign = -1.0 if descending != (sort == "latent") else 1.0  # numbers read upwards
            order = np.argsort(np.where(np.isnan(keys), np.inf, sign * keys), kind="stable")
            self._rankings[sort, descending] = order.astype(np.int32)
        return self._rankings[sort, descending]

    def _compared(self, field: str, labels: Mapping[int, str], marks: Collection[int]) -> np.ndarray | list[Any]:
        """What conditions on ``field`` compare, one value a latent."""
        match field:
            case "alive" | "dead":
                return (self.token_frequency > 0) == (field == "alive")
            case "copies":
                return self.copies
            case "marked":
                return self._members(marks)
            case "labelled":
                return self._members([latent for latent, label in labels.items() if label])
            case "class":
                return self._classes
            case "label":
                return [labels.get(latent, "") for latent in range(self.w)]
            case "names":
                return [labels.get(latent) or names for latent, names in enumerate(self._joined_names)]
        return self.values(FIELDS[field])

    @cached_property
    def _classes(self) -> list[str]:
        """Of each latent, and in a second line as tables show it."""
        return [
            "\n".join(dict.fromkeys([self.class_of(n), self.kind_of(n), *self._also(n)])).strip() for n in range(self.w)
        ]

    def _also(self, latent: int) -> tuple[str, ...]:
        """What else the class of its top images is called."""
        image = self._class_images[latent]
        return self.images[image].also if image >= 0 else ()

    @cached_property
    def _joined_names(self) -> list[str]:
        return [" · ".join(self.names_of(latent)) for latent in range(self.w)]

    def _members(self, latents: Collection[int]) -> np.ndarray:
        return np.isin(np.arange(self.w), np.fromiter(latents, np.int64, len(latents)))

    def _pairs(self, latent: int, latents: str, scores: str) -> list[tuple[int, float]]:
        if latents not in self._file["latents"]:
            return []
        others, values = self._row(f"latents/{latents}", latent), self._row(f"latents/{scores}", latent)
        return [(k, value) for k, value in zip(others.tolist(), values.tolist(), strict=True) if k >= 0 and value > 0]

    def _row(self, name: str, latent: int) -> np.ndarray:
        try:
            return read_row(self._dataset(name), latent)
        except (OSError, RuntimeError, ValueError, IndexError, TypeError) as error:
            raise self._damaged(error) from error

    def _dataset(self, name: str) -> h5py.Dataset:
        item = self._file.get(name)
        if not isinstance(item, h5py.Dataset):
            raise self._damaged(f"no {name}")
        return item

    def _read(self, name: str) -> Any:
        try:
            return read_array(self._dataset(name))
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise self._damaged(error) from error

    def _check(self, latent: int) -> None:
        if not 0 <= latent < self.w:
            raise UserError(f"{self.path.name} has latents 0 to {self.w - 1}, not {latent}: give one of them.")

    def _damaged(self, reason: object) -> UserError:
        refused = refusal(reason, self.path) if isinstance(reason, Exception) else None
        return refused or damaged_scores(self.path, reason)


@contextlib.contextmanager
def refusing_damage(path: str | Path) -> Iterator[None]:
    """UserError for what a file whose parts do not fit each other leads to."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what that raises depends on which they are
        raise refusal(error, Path(path)) or damaged_scores(path, error) from error


def _write_text(file: h5py.File, name: str, texts: Sequence[str]) -> None:
    encoded = np.array([text.encode("utf-8", "surrogateescape") for text in texts], object)
    file.create_dataset(name, data=encoded, dtype=h5py.string_dtype("utf-8"), shape=(len(texts),))


def _plain(value: np.generic) -> Value:
    return None if np.isnan(value) else value.item()


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")  # file names need not be UTF-8
