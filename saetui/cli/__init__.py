"""The commands. Each takes its options from one settings class and hands the work to an engine worker."""

import os
import signal
import sys
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from engine.errors import UserError, system_mistake
from saetui.cli.streams import finish_streams, open_streams

OPEN = "open"  # the hidden command that is the workbench
INSTALL = "--install-completion"
COMPLETE = "_SAETUI_COMPLETE"
"""The variable that names the shell which asks what may follow."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0 done; 1 a bug in saetui; 2 not done, or damage found, and a sentence says what to do; 128 and the
    number of the signal that ended it, as 130 for Ctrl-C.
    """
    open_streams()
    command = _loaded()
    if shell := os.environ.pop(COMPLETE, ""):
        from saetui.cli.completing import answer

        print(answer(command, shell, sys.argv[1:] if argv is None else argv), end="")
        return
    heeded = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in heeded:  # the others are ignored, as under nohup
        signal.signal(number, _end)
    code = finish_streams(_run(command, list(sys.argv[1:] if argv is None else argv)))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        heeded.append(signal.SIGINT)
    for number in heeded:
        signal.signal(number, signal.SIG_DFL)  # what runs at the exit is nothing to raise an exception in
    sys.exit(code)


def _loaded() -> Any:
    """The command. While it is loaded, Ctrl-C ends the process at once: there is nothing to tidy up, and an exception
    in the middle of an import comes out as any other."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from typer.main import get_command

    from saetui.cli.app import app

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return get_command(app)


def _end(number: int, _: Any) -> None:
    """End as if by ``sys.exit``, so that whatever was switched on is switched off again."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def _ended_by(error: BaseException | None) -> int | None:
    """The exit code where a signal is behind ``error``: what it interrupts, as an import, may raise another for it."""
    match error:
        case None:
            return None
        case KeyboardInterrupt():
            return 130
        case SystemExit(code=int(code)):
            return code
    return _ended_by(error.__cause__ or error.__context__)


def _means_workbench(argv: list[str], commands: Container[str]) -> bool:
    """``saetui``, ``saetui DIRECTORY`` and ``saetui --theme paper`` open the workbench; a mistyped command does not."""
    if not argv:
        return sys.stdin.isatty() and sys.stderr.isatty()
    first = argv[0]
    if first in commands or first in ("--help", "-h", "--version", INSTALL):
        return False
    return first.startswith("-") or os.sep in first or Path(first).is_dir()


def _run(command: Any, argv: list[str]) -> int:
    import typer

    if _means_workbench(argv, command.commands):
        argv = [OPEN, *argv]
    if argv == [INSTALL]:
        argv = [INSTALL, ""]  # whichever shell this is
    try:
        result = command.main(argv, prog_name="saetui", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except UserError as error:
        print(f"saetui: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # ours, before a worker has begun: a run cannot be recorded
        sentence = system_mistake(error)
        if sentence is None:
            raise
        print(f"saetui: {sentence}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        if hasattr(error, "format_message"):  # click's errors of usage
            context = getattr(error, "ctx", None)
            sentence = error.format_message().rstrip("?.")
            print(f"saetui: {sentence}; see {context.command_path if context else 'saetui'} --help.", file=sys.stderr)
            return 2
        if code := _ended_by(error):
            return code
        raise
