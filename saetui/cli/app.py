"""The command tree."""

from typing import Annotated

import typer

from saetui import __version__
from saetui.cli import demo, doctor, jobs, neurons, report, show, stages, workbench

app = typer.Typer(
    help="A terminal workbench for sparse autoencoders on vision-language models. Without a command: the workbench.",
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"saetui {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


workbench.register(app)
demo.register(app)
stages.register(app)
neurons.register(app)
report.register(app)
doctor.register(app)
show.register(app)
app.add_typer(jobs.app, name="jobs")
