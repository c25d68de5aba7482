"""Coverage-guided fuzzing of a reader of files: input that reaches new lines of the engine is changed further.

``python -m tests.fuzz READER`` with options of libFuzzer (``-max_total_time=600``); readers are those of
``test_strangers.py``. It ends at the first input that ends in another way than in a value or a sentence, that takes
more than two seconds, or asks for more than 500 MB at once, and keeps it as ``crash-*``, ``timeout-*`` or ``oom-*``.
"""

import contextlib
import os
import random
import sys
import tempfile
from pathlib import Path

import atheris

os.environ["OMP_NUM_THREADS"] = "1"
with atheris.instrument_imports(include=["engine", "tarfile", "zipfile", "tomllib", "csv", "json"]):
    from engine.errors import UserError
    from engine.images import BrokenImage
    from tests.engine.test_strangers import READERS, placed
    from tests.support.strangers import GROWTH, SECONDS, changed

LIMITS = [f"-timeout={SECONDS:.0f}", f"-malloc_limit_mb={GROWTH >> 20}", "-rss_limit_mb=4000", "-verbosity=0"]


def fuzz(name: str, options: list[str], folder: Path) -> None:
    reader, place = READERS[name], placed(name, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(reader.seeds()):
        (corpus / str(number)).write_bytes(seed)

    def read(data: bytes) -> None:
        place.unlink(missing_ok=True)
        place.write_bytes(data)
        with contextlib.suppress(UserError, BrokenImage):
            reader.read(place)

    def change(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        try:
            return bytes(reader.change(data, chance))[:most]
        except (ValueError, IndexError, RecursionError):  # no longer what is changed by its values
            return changed(data, chance)[:most]

    atheris.Setup([sys.argv[0], *LIMITS, *options, str(corpus)], read, custom_mutator=change)
    atheris.Fuzz()


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        sys.exit(f"Give one of: {', '.join(READERS)}.")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        fuzz(sys.argv[1], sys.argv[2:], Path(folder))


if __name__ == "__main__":
    main()
