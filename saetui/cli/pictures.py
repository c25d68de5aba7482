"""Pictures printed by commands, through term-image: kitty, iTerm2 or half blocks, whatever the terminal has."""

from pathlib import Path

from engine.images import BrokenImage, decode

from engine.errors import UserError


def print_picture(path: Path, columns: int | None = None) -> None:
    """Print the image file ``path`` at the cursor, ``columns`` wide (default: what fits)."""
    from term_image.image import AutoImage

    try:
        image = decode(path.read_bytes())
    except BrokenImage as error:
        raise UserError(f"{path} is not an image that can be read ({error.reason}): give another file.") from error
    print(AutoImage(image, width=columns))
