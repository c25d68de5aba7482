"""How the workbench binds keys: every binding has an id, so that it can be remapped, searched and explained."""

from textual.binding import Binding


def key(id: str, keys: str, action: str, description: str, *, show: bool = False, priority: bool = False) -> Binding:
    """A binding named ``id`` (``pane.verb``). ``show``: it is offered in the key bar; help lists all of them."""
    return Binding(keys, action, description, show=show, priority=priority, id=id)
