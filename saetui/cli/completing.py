"""Completion of the command line in bash, zsh and fish: the shell hands over what is typed, this says what may follow.

The shell calls ``saetui`` with ``_SAETUI_COMPLETE`` set to its name, the line up to the cursor, and, as bash splits
words at colons, what it takes for the last word. Each line of the answer is one candidate; for zsh and fish with what
it is. Nothing here loads torch or opens HDF5: a key press must not wait.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.config import JUDGES, STEERED_PARTS
from engine.errors import UserError
from engine.files import path_of, read_text, write_text, xdg
from engine.kinds import ACTIVATIONS, ARTEFACTS, EMBEDDINGS, RECIPES, RUNS, SAES, Kind
from engine.literal import literal
from engine.neurons.quantities import SORTS
from engine.settings import each
from engine.workspace import Workspace, folders, image_set_of, neurons_files, recipes, saes
from saetui.cli import COMPLETE, OPEN
from saetui.cli.options import SETTINGS

Candidate = tuple[str, str]
"""What may stand there, and what it is."""

SCRIPTS = {
    "bash": f"""_saetui() {{
    local IFS=$'\\n'
    COMPREPLY=($({COMPLETE}=bash "$1" "${{COMP_LINE:0:COMP_POINT}}" "$2" 2>/dev/null))
    [[ ${{#COMPREPLY[@]}} == 1 && ${{COMPREPLY[0]}} == */ ]] && compopt -o nospace
    return 0
}}
complete -F _saetui saetui
""",
    "zsh": f"""#compdef saetui
_saetui() {{
    local -a found places
    found=("${{(@f)$({COMPLETE}=zsh ${{words[1]}} "${{(j: :)words[1,CURRENT]}}" 2>/dev/null)}}")
    places=(${{(M)found:#*/:*}}) found=(${{found:#*/:*}})
    _describe -V 'saetui' found -- places -S ''
}}
if [[ $funcstack[1] == _saetui ]]; then _saetui "$@"; else compdef _saetui saetui; fi
""",
    "fish": f"""complete -c saetui -f -a '(env {COMPLETE}=fish saetui (commandline -cp) 2>/dev/null)'
""",
}
_RC = {"bash": ".bashrc", "zsh": ".zshrc"}


def install(shell: str) -> list[str]:
    """Let ``shell`` complete ``saetui``; what was done, and what makes it hold. UserError for another shell."""
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SCRIPTS:
        told = f"{shell!r} is a shell that is not known here" if shell else "which shell you use is not known"
        raise UserError(f"{told[0].upper()}{told[1:]}: give one of --install-completion {', '.join(SCRIPTS)}.")
    if shell == "fish":
        path = xdg("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / "saetui.fish"
        write_text(path, SCRIPTS[shell])
        return [f"{path} is written: a new fish completes saetui."]
    path = xdg("XDG_DATA_HOME", ".local/share") / "saetui" / f"completion.{shell}"
    write_text(path, SCRIPTS[shell])
    home = Path(os.environ.get("ZDOTDIR") or Path.home()) if shell == "zsh" else Path.home()
    rc, line = home / _RC[shell], f"source {shlex.quote(str(path))}"
    if shell == "zsh":
        line = f"(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}; {line}"
    before = read_text(rc) if rc.is_file() else ""
    if line not in before.splitlines():
        with open(rc, "a", encoding="utf-8") as file:
            file.write(f"{'' if before.endswith(chr(10)) or not before else chr(10)}{line}\n")
    return [f"{path} is written, and {rc} reads it: a new {shell} completes saetui."]


def answer(command: Any, shell: str, argv: Sequence[str]) -> str:
    """The candidates for the line in ``argv``, one a line, as ``shell`` takes them; none for what goes wrong."""
    line, last = (*argv, "", "")[:2]
    words, begun = _split(line)
    try:
        found = [one for one in candidates(command, words[1:], begun) if one[0].startswith(begun)]
    except (UserError, OSError, ValueError):
        return ""
    taken = len(begun) - len(last) if shell == "bash" and begun.endswith(last) else 0
    return "".join(f"{_written(shell, value[taken:], literal(about))}\n" for value, about in found)


def _split(line: str) -> tuple[list[str], str]:
    """The words of ``line``, and the one that is begun at its end, as a shell reads them."""
    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        ended = not words or (not closing and line[-1:].isspace() and not line.endswith("\\ "))
        return (words, "") if ended else (words[:-1], words[-1])
    return [], ""


def _written(shell: str, value: str, about: str) -> str:
    about = about.split("\n")[0]
    match shell:
        case "bash":
            return re.sub(r"([^\w@%+=:,./~-])", r"\\\1", value)
        case "zsh":
            return f"{value.replace(chr(92), chr(92) * 2).replace(':', chr(92) + ':')}:{about}"
    return f"{value}\t{about}"


def candidates(command: Any, words: Sequence[str], begun: str) -> Iterable[Candidate]:
    """What may follow ``words`` of ``command``; whatever begins otherwise than ``begun`` is left out later."""
    position, place, waiting = 0, None, None
    for word in words:
        if waiting is not None:
            place = word if waiting.name == "workspace" else place
            waiting = None
        elif word.startswith("-"):
            name, given, value = word.partition("=")
            option = _option(command, name)
            waiting = option if option is not None and not option.is_flag and not given else None
            place = value if given and option is not None and option.name == "workspace" else place
        elif position == 0 and word in getattr(command, "commands", {}):
            command = command.commands[word]
        else:
            position += 1
    if waiting is not None:
        return values(command, waiting, begun, place)
    if begun.startswith("-"):
        name, given, value = begun.partition("=")
        option = _option(command, name) if given else None
        if option is not None:
            return [(f"{name}={one}", about) for one, about in values(command, option, value, place)]
        return _options(command)
    if position == 0 and getattr(command, "commands", None):
        found = command.commands.values()
        if os.sep in begun:  # a workspace to open
            return paths(Workspace.find(place), begun)
        return [(one.name, one.get_short_help_str(70)) for one in found if not one.hidden]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    several = bool(arguments) and arguments[-1].nargs == -1
    if position >= len(arguments) and not several:
        return ()
    return values(command, arguments[min(position, len(arguments) - 1)], begun, place)


def _option(command: Any, name: str) -> Any:
    return next((one for one in _parameters(command) if name in (*one.opts, *one.secondary_opts)), None)


def _parameters(command: Any) -> list[Any]:
    """Those of ``command``; without one, those of the workbench, too."""
    opened = getattr(command, "commands", {}).get(OPEN)
    return [*command.params, *(opened.params if opened else ())]


def _options(command: Any) -> Iterator[Candidate]:
    for one in _parameters(command):
        if one.param_type_name == "option" and not one.hidden:
            yield from ((name, one.help or "") for name in (*one.opts, *one.secondary_opts) if name.startswith("--"))
    yield "--help", "Show what can be given."


def values(command: Any, parameter: Any, begun: str, place: str | None) -> Iterable[Candidate]:
    """What an option or an argument of ``command`` may be, in the workspace at ``place``."""
    settings = SETTINGS.get(command.name)
    kind = typing.get_type_hints(settings).get(parameter.name) if settings else None
    if typing.get_origin(kind) is typing.Literal:
        return [(str(one), "") for one in typing.get_args(kind)]
    find = VALUES.get(parameter.name)
    return find(Workspace.find(place), begun) if find else ()


def _named(about: str, names: Callable[[Workspace], Iterable[str]]) -> Callable[[Workspace, str], list[Candidate]]:
    return lambda workspace, _: [(name, about) for name in names(workspace)]


def _within(kind: Kind) -> Callable[[Workspace], list[str]]:
    return lambda workspace: [kind.name_of(path) for path in kind.all_in(workspace.root)]


def _artefacts(kinds: Sequence[Kind]) -> Callable[[Workspace, str], list[Candidate]]:
    """Names of artefacts, with their folders where the name alone means another one, or several."""

    def find(workspace: Workspace, begun: str) -> list[Candidate]:
        found = [(kind, kind.name_of(path)) for kind in kinds for path in kind.all_in(workspace.root)]
        alike = Counter((name, kind.second) for kind, name in found)

        def unclear(kind: Kind, name: str) -> bool:
            return alike[name, kind.second] > 1 or (kind.second and alike[name, False] > 0)

        return [(f"{kind.folder}/{name}" if unclear(kind, name) else name, kind.words) for kind, name in found]

    return find


def _sets(workspace: Workspace) -> list[str]:
    return list(dict.fromkeys(image_set_of(path) for path in neurons_files(workspace)))


def _runs(workspace: Workspace) -> list[str]:
    return ["last", *sorted((path.name for path in folders(workspace.runs)), reverse=True)]


def models(workspace: Workspace) -> list[str]:
    """Names of models: those of the demo, of the workspace's defaults and stores, and of the hub's cache."""
    defaults = workspace.defaults()
    known = [
        "demo",
        "demo:encoder",
        *(str(one) for name in ("model", "embed_with", "vlm") for one in each(defaults.get(name)) if one),
    ]
    for kind in ("activations", "embeddings"):
        for folder in folders(workspace.root / kind):
            known += _model_of(folder / "manifest.json")
    hub = xdg("HF_HOME", ".cache/huggingface") / "hub"
    known += [f"hf:{one.name.removeprefix('models--').replace('--', '/')}" for one in sorted(hub.glob("models--*--*"))]
    return list(dict.fromkeys(known))


def _model_of(manifest: Path) -> list[str]:
    try:
        return [str(json.loads(read_text(manifest))["model"]["spec"])]
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return []


def paths(workspace: Workspace, begun: str) -> list[Candidate]:
    """The files and folders that begin so, hidden ones where their dot is typed."""
    folder, name = os.path.split(begun)
    try:
        found = sorted(path_of(folder or ".").iterdir())
    except OSError:
        return []
    shown = [one for one in found if one.name.startswith(name) and (name or not one.name.startswith("."))]
    return [(os.path.join(folder, one.name) + ("/" if one.is_dir() else ""), "") for one in shown]


def _model_or_path(workspace: Workspace, begun: str) -> list[Candidate]:
    return [(name, "model") for name in models(workspace)] + (paths(workspace, begun) if begun else [])


def _any_of(*finds: Callable[[Workspace, str], list[Candidate]]) -> Callable[[Workspace, str], list[Candidate]]:
    return lambda workspace, begun: [one for find in finds for one in find(workspace, begun)]


_SAES, _STORES = _named(SAES.words, saes), _named(ACTIVATIONS.words, _within(ACTIVATIONS))
_JUDGED, _RECIPES = _named(EMBEDDINGS.words, _within(EMBEDDINGS)), _named(RECIPES.words, recipes)
_PATHS = (
    *("images", "image", "plan", "vocabulary", "labels", "taxonomy", "folder", "scores", "source", "out"),
    *("workspace", "place", "old", "prompts"),
)
VALUES: dict[str, Callable[[Workspace, str], list[Candidate]]] = {
    **dict.fromkeys(("sae", "saes"), _any_of(_SAES, lambda workspace, begun: paths(workspace, begun) if begun else [])),
    **dict.fromkeys(("activations", "check", "alive_on"), _STORES),
    **dict.fromkeys(("embeddings", "mono_embeddings"), _JUDGED),
    "recipe": _RECIPES,
    "store": _artefacts([kind for kind in ARTEFACTS if kind not in (RECIPES, RUNS)]),
    "artefact": _artefacts(ARTEFACTS),
    "id": _named("run", _runs),
    "on": _named("image set", _sets),
    "sort": lambda _, __: list(SORTS.items()),
    **dict.fromkeys(("model", "embed_with", "encoder", "vlm", "for_steering"), _model_or_path),
    **dict.fromkeys(_PATHS, paths),
    **dict.fromkeys(("compare_with", "text_model", "chat_model"), _model_or_path),
    "part": _named("part", lambda _: STEERED_PARTS),
    "judge": _named("judge", lambda _: JUDGES),
    "device": _named("device", lambda _: ("auto", "cpu", "cuda", "mps")),
    "theme": _named("theme", lambda _: ("graphite", "paper")),
    "picture": _named("drawn with", lambda _: ("auto", "quadrant", "half", "glyph")),
    "colours": _named("colours", lambda _: ("auto", "truecolor", "256", "16", "mono")),
    "mode": _named("mode", lambda _: ("data", "train", "neurons", "steer", "hierarchy")),
}
"""By the name of an option or argument, whichever command has it."""
