"""Latents of any activations, as a sparse matrix on disk."""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from engine.activations.loader import check_finite
from engine.activations.store import Store
from engine.config import EncodeSettings
from engine.errors import UserError
from engine.files import atomic_path, check_target, path_of, sweep, temporary_path
from engine.models import same_model
from engine.models.device import pick_device
from engine.reporter import Reporter, StageBegan
from engine.sae.asked import check_npz, check_width
from engine.sae.config import SAEConfig
from engine.sae.model import SAE
from engine.sae.results import Encoded
from engine.settings import check
from engine.workspace import Workspace

MOST_VALUES = 1 << 26  # latents that are dense in memory at a time: 256 MB


def encode_store(settings: EncodeSettings, workspace: Workspace, reporter: Reporter | None = None) -> Encoded:
    """Write the latents of a store or a matrix file as scipy CSR (rows x latents, float32) to an .npz file.

    Rows are in the order of the source; memory does not grow with them. ``scipy.sparse.load_npz`` reads the file.

    UserError: a source of another width, with values that are not finite, or a file name that is not .npz.
    """
    reporter = reporter or Reporter()
    out = path_of(settings.out)
    check(settings)
    check_npz(settings.out)
    device = pick_device(settings.device)
    sae = SAE.load(workspace.existing("saes", settings.sae), device)
    source = _Source.open(settings.activations, workspace)
    check_width(source.path, source.d, settings.sae, sae.config.d)
    if isinstance(source.content, Store):
        _check_origin(source.content, sae.config, settings.sae)
    step = max(1, min(settings.batch_size, MOST_VALUES // sae.config.w))
    reporter.event(StageBegan("encode"))
    check_target(out)
    reporter.writes(out)
    with _Parts(out) as parts:
        for start in range(0, source.rows, step):
            stop = min(source.rows, start + step)
            parts.add(_codes(sae, source.read(start, stop)))
            reporter.progress(stop, source.rows, "rows")
            reporter.check()
        parts.write((source.rows, sae.config.w))
    return Encoded(
        out=str(out),
        rows=source.rows,
        latents=sae.config.w,
        nonzero=parts.nonzero,
        l0=parts.nonzero / source.rows if source.rows else None,
    )


def _check_origin(store: Store, config: SAEConfig, name: str) -> None:
    """UserError for a store of another encoder or hook point than the SAE reads, as far as both say."""
    manifest = store.manifest
    was, now = manifest.model.sha256, config.model_sha256
    other_model = not same_model(was, now) if was and now else manifest.model.spec != config.model
    said = manifest.hook and config.hook and manifest.model.spec and config.model
    if said and (other_model or manifest.hook != config.hook):
        raise UserError(
            f"{store.path} holds {manifest.hook} of {manifest.model.spec}, the SAE {name} reads {config.hook} of "
            f"{config.model}: give a store of these."
        )


@torch.no_grad()
def _codes(sae: SAE, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]:
    """Values and latents of what is active, row by row, and how many there are in each row."""
    a = sae.encode(torch.from_numpy(x).to(sae.W_enc.device))
    active = a.nonzero()
    values = a[active[:, 0], active[:, 1]]
    counts = (a != 0).sum(1)
    return values.cpu().numpy(), active[:, 1].int().cpu().numpy(), counts.cpu().numpy()


class _Source:
    """Rows of a store or of a matrix file, read in pieces as finite float32."""

    def __init__(self, path: Path, content: Any):
        self.path, self.content = path, content
        store = isinstance(content, Store)
        self.rows, self.d = (content.rows, content.d) if store else content.shape

    @classmethod
    def open(cls, given: str, workspace: Workspace) -> "_Source":
        path = path_of(given)
        if path.is_file():
            from engine.activations.matrix_files import read_matrix

            matrix = read_matrix(path)
            return cls(path, matrix.tocsr() if sparse.issparse(matrix) else matrix)
        path = workspace.existing("activations", given)
        return cls(path, Store.open(path))

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        if isinstance(self.content, Store):
            piece = self.content.read(start, stop)
        else:
            rows = self.content[start:stop]
            piece = np.array(rows.toarray() if sparse.issparse(rows) else rows, dtype=np.float32)
        check_finite(piece, np.arange(start, stop), self.path)
        return piece


class _Parts(contextlib.AbstractContextManager["_Parts"]):
    """Values and latents collected in two temporary files, which become one .npz at the end."""

    def __init__(self, out: Path):
        self.out = out
        self.nonzero = 0
        self._counts: list[NDArray[np.int64]] = []
        self._paths = [temporary_path(out, part) for part in ("data", "indices")]
        out.parent.mkdir(parents=True, exist_ok=True)
        sweep(out)
        self._files: list[BinaryIO] = [open(path, "wb") for path in self._paths]  # noqa: SIM115 - closed by exit

    def add(self, codes: tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]) -> None:
        values, latents, counts = codes
        self._files[0].write(values.tobytes())
        self._files[1].write(latents.tobytes())
        self._counts.append(counts)
        self.nonzero += len(values)

    def write(self, shape: tuple[int, int]) -> None:
        """Write what ``scipy.sparse.load_npz`` reads; without times, so that equal latents are equal bytes."""
        for file in self._files:
            file.flush()
        starts = np.concatenate([[0], np.cumsum(np.concatenate([*self._counts, np.empty(0, np.int64)]))])
        with atomic_path(self.out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, path, dtype in zip(("data", "indices"), self._paths, ("<f4", "<i4"), strict=True):
                _member(archive, name, dtype, (self.nonzero,), _pieces(path))
            small = {
                "indptr": starts.astype("<i8"),
                "format": np.array(b"csr"),
                "shape": np.array(shape, "<i8"),
            }
            for name, array in small.items():
                _member(archive, name, array.dtype.str, array.shape, [array.tobytes()])

    def __exit__(self, *_: Any) -> None:
        for file, path in zip(self._files, self._paths, strict=True):
            file.close()
            path.unlink(missing_ok=True)


def _member(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...], pieces: Iterator[bytes] | list[bytes]
) -> None:
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for piece in pieces:
            member.write(piece)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            yield piece
