"""The words of the drawn world, with their colours and their taxonomy."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 28, 32),
    "orange": (255, 136, 0),
    "yellow": (244, 212, 0),
    "green": (24, 150, 48),
    "cyan": (0, 190, 208),
    "blue": (32, 64, 224),
    "purple": (126, 40, 176),
    "pink": (244, 84, 184),
}
FILLS = ("solid", "striped", "dotted")
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (243, 243, 243),
    "grey": (150, 150, 150),
    "black": (16, 16, 16),
    "beige": (222, 196, 150),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "animal": ("fish", "cat", "bird", "butterfly"),
    "plant": ("tree", "flower", "mushroom", "apple"),
    "sky": ("sun", "moon", "star", "cloud"),
    "vehicle": ("car", "boat"),
    "household": ("house", "cup", "key", "clock"),
    "gear": ("umbrella", "hat", "pencil", "ladder"),
    "sign": ("heart", "arrow"),
}
"""First level of the taxonomy -> its kinds."""

KINDS: tuple[str, ...] = tuple(kind for kinds in GROUPS.values() for kind in kinds)

TAXONOMY: dict[tuple[str, str], tuple[str, str, str]] = {
    (kind, fill): (group, kind, fill) for group, kinds in GROUPS.items() for kind in kinds for fill in FILLS
}
"""(kind, fill) -> path of three levels: kind of thing, thing, variety."""
