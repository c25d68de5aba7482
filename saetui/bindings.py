"""Key bindings of the workbench: each has an id, by which it is remapped, searched and explained."""

from textual.binding import Binding


def key(id: str, keys: str, action: str, description: str, *, show: bool = False, priority: bool = False) -> Binding:
    """A binding with an ``id`` (``place.verb``). ``show``: the key bar shows it; help lists all bindings."""
    return Binding(keys, action, description, show=show, priority=priority, id=id)
