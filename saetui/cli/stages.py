"""The stages: extract, train, score, steer, run, and the small tools ms, encode, estimate and verify."""

import sys
from collections.abc import Mapping
from typing import Any

import typer

from engine import config
from engine.activations.results import Estimated, Extracted, Verified
from engine.neurons.results import MatrixScored, Scored
from engine.runs.plan import PlanDone
from engine.runs.tasks import TASKS
from engine.sae.results import Encoded, Trained
from engine.steer.results import ANSWERS, Steered
from engine.workspace import Workspace
from saetui.cli import work
from saetui.cli.options import DetachOption, JsonOption, WorkspaceOption, command, complete, extra
from saetui.formatting import duration, literal, size

COMMON = (extra("workspace", WorkspaceOption, None), extra("json", JsonOption, False))
LONG = (*COMMON, extra("detach", DetachOption, False))
CAME = {"steer": "answered"}  # of a stage that was done now; else made


def register(app: typer.Typer) -> None:
    for name, (settings, show) in stages().items():
        command(app, name, settings, *LONG)(_long(name, settings, show))
    command(app, "ms", config.MsSettings, *COMMON)(_short("ms", config.MsSettings, show_ms))
    command(app, "encode", config.EncodeSettings, *COMMON)(_short("encode", config.EncodeSettings, show_encode))
    doc = "Rows, bytes and time of an extraction with these settings, before it is begun."
    estimate = _short("estimate", config.ExtractSettings, show_estimate, doc)
    command(app, "estimate", config.ExtractSettings, *COMMON)(estimate)
    command(app, "verify", config.VerifySettings, *COMMON)(_short("verify", config.VerifySettings, show_verify))


def stages() -> dict[str, tuple[type, work.Show]]:
    """The stages that are kept as runs: settings, and how a result is told."""
    return {
        "extract": (config.ExtractSettings, show_extract),
        "train": (config.TrainSettings, show_train),
        "score": (config.ScoreSettings, show_score),
        "run": (config.PlanSettings, show_plan),
        "steer": (config.SteerSettings, show_steer),
    }


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


def _short(name: str, settings: type, show: work.Show, doc: str | None = None) -> Any:
    def handler(given: dict[str, Any], workspace: str | None, json: bool) -> None:
        place = Workspace.find(workspace)
        work.perform(place, name, complete(settings, given, place, name), as_json=json, show=show, keep=False)

    handler.__doc__ = doc or settings.__doc__
    return handler


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def show_extract(result: Extracted) -> None:
    for store in result.stores:
        print(literal(f"{store.path}: {store.rows:,} rows of {store.d:,} at {store.hook}"))
    skipped = f", {len(result.broken):,} broken ones skipped" if result.broken else ""
    print(f"{result.images:,} images{skipped}" + ("" if result.extracted_now else "; it was complete already"))


def show_estimate(result: Estimated) -> None:
    print(
        f"{result.images:,} images, {result.rows:,} rows of {result.d:,}: {size(result.bytes)} of {size(result.free)} "
        "free" + (f", about {duration(result.seconds)}" if result.seconds is not None else "")
    )
    for sentence in result.warnings:
        print(literal(sentence))


def show_train(result: Trained) -> None:
    print(literal(result.path))
    print(f"{_train_figures(result)} (held-out activations)" + ("" if result.made else "; it was trained already"))
    if result.outliers:
        print(
            f"{result.outliers:.2%} of these rows are longer than ten median ones and carry "
            f"{percent(result.outlier_variance)} of the variance: without them FVE is "
            f"{number(result.fve_without_outliers)} (--max-norm 10 trains without them)"
        )


def _train_figures(result: Trained) -> str:
    return (
        f"FVE {number(result.fve)}   L0 {number(result.l0, 1)}   dead {percent(result.dead)}   "
        f"dense {percent(result.dense)}"
    )


def show_score(result: Scored) -> None:
    ms = result.ms
    print(literal(result.path))
    print(
        f"{result.images:,} images, {result.alive:,} latents alive, {result.dead:,} dead"
        + ("" if result.made else "; it was scored already")
    )
    print("MS                   mean    best   worst")
    for name, spread in (("SAE latents", ms.sae), ("raw neurons", ms.raw), ("raw, rectified", ms.raw_relu)):
        print(f"{name:<18} {number(spread.mean):>6}  {number(spread.best):>6}  {number(spread.worst):>6}")
    print(
        f"matched raw        {number(ms.matched.mean):>6}   same support, latent by latent: "
        f"{percent(ms.matched.share_beaten)} of latents beat theirs"
    )
    print(f"baseline           {number(ms.baseline):>6}   mean cosine of all pairs of images")


def show_plan(result: PlanDone) -> None:
    stages = result.stages
    width = max(len(stage.name) for stage in stages)
    for stage in stages:
        came = CAME.get(stage.stage, "made") if _made(stage.result) else "was there already"
        figures = _figures(stage.stage, stage.result)
        print(literal(f"{stage.stage:>7}  {stage.name:<{width}}  {came}: {figures}"))
    now = sum(_made(stage.result) for stage in stages)
    print(f"{len(stages):,} stages: {now:,} done now, {len(stages) - now:,} there already")


def _figures(stage: str, result: Any) -> str:
    """The result of a stage of a plan in one line."""
    match stage:
        case "extract":
            return f"{result['images']:,} images, {result['rows']:,} rows"
        case "train":
            return _train_figures(TASKS[stage].read(result))
        case "score":
            ms = {key: number(result["ms"][key]["mean"]) for key in ("sae", "matched")}
            return f"MS {ms['sae']}, matched raw neurons {ms['matched']}, {result['alive']:,} latents alive"
        case _:
            return result["steered"]


def _made(result: Mapping[str, Any]) -> bool:
    """Whether a stage did something. Trainings and scores of 0.1.0, which ``jobs follow`` tells too, do not say."""
    return bool(result.get("extracted_now", result.get("made", True)))


def show_steer(result: Steered) -> None:
    if sys.stdout.isatty():  # they were printed as they were generated
        return
    for name in ANSWERS:
        print(f"{name:>10}  {literal(getattr(result, name))}")


def show_ms(result: MatrixScored) -> None:
    print(
        f"mean {number(result.mean)}  best {number(result.best)}  worst {number(result.worst)}  "
        f"baseline {number(result.baseline)} (mean cosine of all pairs)  "
        f"{len(result.ms):,} columns, {result.undefined:,} undefined"
    )


def show_encode(result: Encoded) -> None:
    print(
        literal(f"{result.out}: {result.rows:,} rows of {result.latents:,} latents")
        + f", {result.nonzero:,} nonzero, L0 {number(result.l0, 1)}"
    )


def show_verify(result: Verified) -> None:
    for problem in result.problems:
        print(literal(problem))
    if not result.problems:
        print(literal(f"{result.path}: every byte of {result.shards:,} shards is as it was written"))
