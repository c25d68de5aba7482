"""What is said of images, in a table: a line a caption, or a line an image with several."""

from collections import defaultdict

from engine.errors import UserError
from engine.files import path_of
from engine.neurons.concept_labels import table_rows


def read_captions(spec: str) -> dict[str, tuple[str, ...]]:
    """The captions of each path, each once: those of the column ``caption`` or ``captions``, a text or a list of texts.
    UserError for a table without any."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for image, fields in table_rows(path_of(spec)):
        for name in ("caption", "captions"):
            value = fields.get(name)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str) and one.strip():
                    found[image][one.strip()] = None
    if not found:
        raise UserError(f"{spec} says nothing of images: give it a column caption beside the column path.")
    return {image: tuple(texts) for image, texts in found.items()}
