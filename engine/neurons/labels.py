"""What a person wrote about the latents of one SAE: a text each, and a mark. Costs no torch.

``labels/<sae>.toml`` is made to be read and edited by hand; comments in it stay:

    format = "saetui-labels"
    version = 1
    sae = "5f70bf18..."  the content hash of the SAE; absent in files of older versions
    marked = [17, 1203]
    [text]
    17 = "red things"
    1203 = "pencil"
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError, reason
from engine.files import Stamp, check_version, lock, parse_toml, read_text, read_toml, stamp, to_toml, write_text
from engine.links import check_own
from engine.places import workspace_of
from engine.sae.state import read_training
from engine.workspace import Workspace, slug

FORMAT, VERSION = "saetui-labels", 1
_NUMBER = re.compile(r"[0-9]{1,18}")
_PATIENCE = 2.0  # seconds; another process holds the lock for one small file's time


@dataclass(frozen=True)
class _Note:
    """What is said of one latent."""

    text: str = ""
    marked: bool = False


_Change = tuple[int, _Note, _Note]  # latent, before, after


class Labels:
    """Texts and marks of latents. Every change is on the disk when the call returns.

    Several processes may write: before each save the file is read again, and only what was changed here replaces what
    it says. A change that cannot be saved (:class:`UserError`) stays here and is written by the next save that
    succeeds. The same holds for everything when the file, or its whole workspace, was deleted meanwhile.
    """

    texts: dict[int, str]  #: of the latents that have one
    marks: set[int]

    def __init__(self, path: Path, sae: str = ""):
        self.path = path
        self._sae = sae
        self.texts, self.marks = {}, set()
        self._unsaved: dict[int, _Note] = {}
        self._done: list[_Change] = []  # the newest last
        self._undone: list[_Change] = []
        self._seen: Stamp | None = None

    @classmethod
    def open(cls, path: str | Path, sae: str = "") -> "Labels":
        """The labels in ``path``; none when there is no such file. UserError: damaged, or written by a newer saetui.

        ``sae``: content hash of the SAE whose latents they are about, where it is known. A file that says that it is
        about another SAE is left alone: labels of this one lie beside it, with the hash in their name. Those of an SAE
        that was trained for more steps since begin with what was said of it before.
        """
        path = Path(path)
        if sae and path.is_file() and about(path) not in ("", sae):
            apart = path.with_name(f"{path.stem}-{slug(sae[:8])}{path.suffix}")
            labels = cls(apart, sae)
            if not apart.is_file() and about(path) in _shorter(path):
                labels.texts, labels.marks = _read(path)
        else:
            labels = cls(path, sae)
        labels.reload()
        return labels

    @classmethod
    def of(cls, neurons: Path, name: str, sae: str) -> "Labels":
        """The labels of the SAE ``name`` in the workspace of the file ``neurons``, wherever one stands; ``sae``: as for
        ``open``."""
        return cls.open(Workspace(workspace_of(neurons)).labels(name), sae)

    def text(self, latent: int) -> str:
        """What a person calls ``latent``; empty for no name."""
        return self.texts.get(latent, "")

    def marked(self, latent: int) -> bool:
        return latent in self.marks

    def set(self, latent: int, text: str | None = None, marked: bool | None = None) -> None:
        """Change what is given and save at once. Text becomes one line; an empty one takes the label away.

        UserError when it cannot be saved: the change is kept and saved with the next one.
        """
        if latent < 0:
            raise UserError(f"There is no latent {latent}: they are numbered from 0.")
        before = self._note(latent)
        after = _Note(
            before.text if text is None else _one_line(text), before.marked if marked is None else bool(marked)
        )
        if after != before:
            self._done.append((latent, before, after))
            self._undone.clear()
            self._put(latent, after)
        if self._unsaved:
            self._save()

    def undo(self) -> int | None:
        """Take the last change back and save at once; the latent that it was about, None when there is none."""
        return self._step(self._done, self._undone, back=True)

    def redo(self) -> int | None:
        """Make the change again that was taken back last; as :meth:`undo`."""
        return self._step(self._undone, self._done, back=False)

    def reload(self) -> bool:
        """Read the file again if it changed; whether anything is different now. A deleted file changes nothing."""
        seen = stamp(self.path)
        if seen is None or seen == self._seen:
            return False
        before = self.texts, self.marks
        self.texts, self.marks = _read(self.path)
        self._seen = seen
        for latent, note in self._unsaved.items():
            self._show(latent, note)
        return before != (self.texts, self.marks)

    def _note(self, latent: int) -> _Note:
        return _Note(self.text(latent), self.marked(latent))

    def _show(self, latent: int, note: _Note) -> None:
        self.texts.pop(latent, None)
        if note.text:
            self.texts[latent] = note.text
        (self.marks.add if note.marked else self.marks.discard)(latent)

    def _put(self, latent: int, note: _Note) -> None:
        self._unsaved[latent] = note
        self._show(latent, note)

    def _step(self, taken: list[_Change], given: list[_Change], back: bool) -> int | None:
        if not taken:
            return None
        change = taken.pop()
        given.append(change)
        latent, before, after = change
        self._put(latent, before if back else after)
        self._save()
        return latent

    def _save(self) -> None:
        try:
            check_own(self.path)
            with lock(self.path.parent, _PATIENCE):
                self.reload()
                write_text(self.path, _document(self.texts, self.marks, self._sae, over=self.path))
                self._seen = stamp(self.path)
        except OSError as error:
            raise UserError(
                f"Cannot save labels in {self.path} ({reason(error)}): mend that; until then your change is only "
                "here, and it is saved with the next one."
            ) from error
        except UserError as error:
            raise UserError(
                f"{error} Until then your change is only here, and it is saved with the next one."
            ) from error
        self._unsaved.clear()


def _read(path: Path) -> tuple[dict[int, str], set[int]]:
    document = read_toml(path)
    if document.get("format") != FORMAT:
        raise UserError(f"{path} has no line format = {FORMAT!r}: it holds no labels, move it away or mend it.")
    check_version(document.get("version"), VERSION, path)
    texts, marks = document.get("text", {}), document.get("marked", [])
    if not isinstance(texts, Mapping) or not isinstance(marks, list):
        raise _damaged(path, "text must be a table and marked a list")
    for latent, text in texts.items():
        if not (_NUMBER.fullmatch(latent) and isinstance(text, str)):
            raise _damaged(path, f"{latent} = {text!r} is not a latent's number and its text in quotes")
    for latent in marks:
        if type(latent) is not int or latent < 0:
            raise _damaged(path, f"{latent!r} in marked is not a latent's number")
    lines = {int(latent): _one_line(text) for latent, text in texts.items()}
    return {latent: text for latent, text in lines.items() if text}, set(marks)


def about(path: Path) -> str:
    """The content hash of the SAE that the labels in ``path`` are about; empty where they do not say."""
    return str(read_toml(path).get("sae", ""))


def _shorter(labels: Path) -> list[str | None]:
    """Content hashes that the SAE of the file ``labels`` had after fewer steps."""
    try:
        finished = read_training(labels.parent.parent / "saes" / labels.stem)
    except UserError:
        return []
    return [span.sha256 for span in finished.spans] if finished else []


def _document(texts: Mapping[int, str], marks: set[int], sae: str, over: Path) -> str:
    """The labels as TOML, laid over what a person may have written around them in the file ``over``."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        **({"sae": sae} if sae else {}),
        "marked": sorted(marks),
        "text": {str(latent): texts[latent] for latent in sorted(texts)},
    }
    return to_toml(document, _with_lines(read_text(over), texts) if over.is_file() else "")


def _with_lines(written: str, texts: Mapping[int, str]) -> str:
    """``written`` with a line for each new label above that of the next latent, where there is a place for it.

    TOML libraries add at the end; a file that is read by people is in order.
    """
    known = parse_toml(written).get("text", {})
    latents = sorted(map(int, known))
    for latent in sorted(set(texts) - set(latents)):
        after = next((other for other in latents if other > latent), None)
        place = after is not None and re.search(rf"^(?:[ \t]*#.*\n)*{after}[ \t]*=", written, re.MULTILINE)
        if place:
            longer = written[: place.start()] + to_toml({str(latent): texts[latent]}) + written[place.start() :]
            written = longer if _has(longer, {**known, str(latent): texts[latent]}) else written
            known = parse_toml(written)["text"]
    return written


def _has(document: str, texts: Mapping[str, str]) -> bool:
    try:
        return bool(parse_toml(document)["text"] == texts)
    except (ValueError, KeyError):
        return False


def _one_line(text: str) -> str:
    """``text`` without line breaks, outer spaces, and the halves of characters that no file can hold."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(filter(None, map(str.strip, whole.splitlines())))


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}): correct that line, or move the file away to start anew.")
