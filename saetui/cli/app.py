"""The command tree."""

from typing import Annotated

import typer

from saetui import __version__
from saetui.cli import completing, config, demo, doctor, jobs, neurons, plans, report, show, stages, workbench

app = typer.Typer(
    help="A terminal workbench for sparse autoencoders on vision-language models. Without a command: the workbench.",
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    install: Annotated[
        str | None,
        typer.Option("--install-completion", metavar="[SHELL]", help="Complete commands in bash, zsh or fish."),
    ] = None,
) -> None:
    if install is not None:
        print(*completing.install(install), sep="\n")
    elif version:
        print(f"saetui {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


workbench.register(app)
demo.register(app)
stages.register(app)
plans.register(app)
neurons.register(app)
report.register(app)
doctor.register(app)
config.register(app)
show.register(app)
app.add_typer(jobs.app, name="jobs")
