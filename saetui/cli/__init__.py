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


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0 done; 1 a bug in saetui; 2 not done, or damage found, and a sentence says what to do; 128 and the
    number of the signal that ended it, as 130 for Ctrl-C.
    """
    open_streams()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # not under nohup
            signal.signal(number, _end)
    sys.exit(finish_streams(_run(list(sys.argv[1:] if argv is None else argv))))


def _end(number: int, _: Any) -> None:
    """End as if by ``sys.exit``, so that whatever was switched on is switched off again."""
    sys.exit(128 + number)


def _means_workbench(argv: list[str], commands: Container[str]) -> bool:
    """``saetui``, ``saetui DIRECTORY`` and ``saetui --theme paper`` open the workbench; a mistyped command does not."""
    if not argv:
        return sys.stdin.isatty() and sys.stderr.isatty()
    first = argv[0]
    if first in commands or first in ("--help", "--version"):
        return False
    return first.startswith("-") or os.sep in first or Path(first).is_dir()


def _run(argv: list[str]) -> int:
    import typer
    from typer.main import get_command

    from saetui.cli.app import app

    command: Any = get_command(app)
    if _means_workbench(argv, command.commands):
        argv = [OPEN, *argv]
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
        raise
