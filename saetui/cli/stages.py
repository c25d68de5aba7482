"""The stages: extract, train, score, steer, run, and the small tools ms and encode."""

from typing import Any

import typer

from engine import config
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import DetachOption, JsonOption, WorkspaceOption, command, complete, extra
from saetui.text import literal

COMMON = (extra("workspace", WorkspaceOption, None), extra("json", JsonOption, False))
LONG = (*COMMON, extra("detach", DetachOption, False))


def register(app: typer.Typer) -> None:
    for name, settings, show in (
        ("extract", config.ExtractSettings, show_extract),
        ("train", config.TrainSettings, show_train),
        ("score", config.ScoreSettings, show_score),
        ("run", config.PlanSettings, show_plan),
    ):
        command(app, name, settings, *LONG)(_long(name, settings, show))
    command(app, "steer", config.SteerSettings, *LONG)(_long("steer", config.SteerSettings, show_steer))
    command(app, "ms", config.MsSettings, *COMMON)(_short("ms", config.MsSettings, show_ms))
    command(app, "encode", config.EncodeSettings, *COMMON)(_short("encode", config.EncodeSettings, show_encode))


def _long(name: str, settings: type, show: work.Show) -> Any:
    def handler(given: dict[str, Any], workspace: str | None, json: bool, detach: bool) -> None:
        place = Workspace.find(workspace)
        chosen = complete(settings, given, place, name)
        if detach:
            work.detach(place, name, chosen, json)
        else:
            work.perform(place, name, chosen, as_json=json, show=show)

    handler.__doc__ = settings.__doc__
    return handler


def _short(name: str, settings: type, show: work.Show) -> Any:
    def handler(given: dict[str, Any], workspace: str | None, json: bool) -> None:
        place = Workspace.find(workspace)
        work.perform(place, name, complete(settings, given, place, name), as_json=json, show=show, keep=False)

    handler.__doc__ = settings.__doc__
    return handler


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def show_extract(result: dict[str, Any]) -> None:
    print(literal(str(result)))


def show_train(result: dict[str, Any]) -> None:
    print(literal(str(result)))


def show_score(result: dict[str, Any]) -> None:
    print(literal(str(result)))


def show_plan(result: dict[str, Any]) -> None:
    for stage in result["stages"]:
        print(literal(f"{stage['stage']:>8}  {stage['name']}  {stage['state']}"))


def show_steer(result: dict[str, Any]) -> None:
    print()
    for answer in ("untouched", "attached", "steered"):
        print(f"{answer:>10}  {literal(result[answer])}")


def show_ms(result: dict[str, Any]) -> None:
    print(
        f"mean {number(result['mean'])}  best {number(result['best'])}  worst {number(result['worst'])}  "
        f"baseline {number(result['baseline'])} (mean cosine of all pairs)  "
        f"{len(result['ms']):,} columns, {result['undefined']:,} undefined"
    )


def show_encode(result: dict[str, Any]) -> None:
    print(literal(str(result)))
