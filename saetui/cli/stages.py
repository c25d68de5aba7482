"""The stages: extract, train, score, fidelity, steer, steerability, run, and the small tools."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import typer

from engine import config, numbers
from engine.activations.results import READS, Estimated, Extracted, RecognisedRows, StoreImported, Verified
from engine.demo.results import DrawnPictures
from engine.errors import UserError, counted
from engine.explained.fields import explained
from engine.metrics.results import GroupMS, Hierarchy, Interval, Localisation
from engine.neurons.agreement_results import (
    PUBLISHED,
    PUBLISHED_MEAN,
    PUBLISHED_PAIRS,
    PUBLISHED_WEIGHTED,
    Agreed,
)
from engine.neurons.concept_results import ConceptsTested
from engine.neurons.results import Beside, LatentSpread, MatrixScored, RawMS, Scored, ScoredAll
from engine.places import Relinked
from engine.runs.plan import PlanDone
from engine.runs.tasks import TASKS
from engine.sae.results import BaselineMade, BroughtIn, Checked, Encoded, Seen, SentOut, StabilityMeasured, Trained
from engine.steer.fidelity.results import FidelityMeasured
from engine.steer.results import ANSWERS, Steerability, Steered
from engine.workspace import Workspace
from saetui.cli import earned, fidelity, scores, work
from saetui.cli.neurons import of_patches
from saetui.cli.options import DetachOption, ExplainOption, JsonOption, WorkspaceOption, command, complete, extra
from saetui.cli.steerability import headline, lines
from saetui.cli.work import say, say_facts
from saetui.formatting import duration, percent, significant, size, sizes

COMMON = (extra("workspace", WorkspaceOption, None), extra("json", JsonOption, False))
LONG = (*COMMON, extra("detach", DetachOption, False))
EXPLAIN = extra("explain", ExplainOption, False)
MEASURES = (
    "train", "baseline", "concepts", "fidelity", "stability", "steerability", "ms", "agreement", "encode", "import"
)  # fmt: skip
"""Commands, beside score, whose results are measurements."""
_TESTS = 20  # concepts that are told one by one
_FILES = 8  # names of files that are told one by one
CAME = {"steer": "answered"}  # of a stage that was done now; else made


def register(app: typer.Typer) -> None:
    for name, (settings, show) in stages().items():
        if name == "score":
            _add_score(app)
        elif name not in ("scores", "run"):
            _add(app, name, settings, show, long=True)
    _add(app, "draw", config.DrawSettings, show_draw)
    _add(app, "ms", config.MsSettings, show_ms)
    _add(app, "agreement", config.AgreementSettings, show_agreement)
    _add(app, "encode", config.EncodeSettings, show_encode)
    _add(app, "recognise", config.RecogniseSettings, show_recognise)
    _add(app, "import", config.ImportSettings, show_import)
    _add(app, "export", config.ExportSettings, show_export)
    doc = "Rows, bytes and time of an extraction with these settings, before it is begun."
    _add(app, "estimate", config.ExtractSettings, show_estimate, doc)
    _add(app, "relink", config.RelinkSettings, show_relink)
    _add(app, "verify", config.VerifySettings, show_verify)


def stages() -> dict[str, tuple[type, work.Show]]:
    """The stages that are kept as runs: settings, and how a result is told."""
    return {
        "extract": (config.ExtractSettings, show_extract),
        "train": (config.TrainSettings, show_train),
        "score": (config.ScoreSettings, show_score),
        "scores": (config.ScoresSettings, show_scores),
        "concepts": (config.ConceptsSettings, show_concepts),
        "fidelity": (config.FidelitySettings, show_fidelity),
        "run": (config.PlanSettings, show_plan),
        "steer": (config.SteerSettings, show_steer),
        "baseline": (config.BaselineSettings, show_baseline),
        "stability": (config.StabilitySettings, show_stability),
        "steerability": (config.SteerabilitySettings, show_steerability),
    }


def _add(
    app: typer.Typer, name: str, settings: type, show: work.Show, doc: str | None = None, *, long: bool = False
) -> None:
    """The command of a stage. ``long``: it is kept as a run, and can be detached."""

    def handler(
        given: dict[str, Any], workspace: str | None, json: bool, detach: bool = False, explain: bool = False
    ) -> None:
        check_explained(explain, detach)
        place = Workspace.find(workspace)
        chosen = complete(settings, given, place, name)
        if detach:
            work.detach(place, name, chosen, json)
        else:
            work.perform(
                place, name, chosen, as_json=json, show=show, keep=long, explain=explained if explain else None
            )

    handler.__doc__ = doc
    options = (*(LONG if long else COMMON), *([EXPLAIN] if name in MEASURES else []))
    command(app, name, settings, *options)(handler)


def check_explained(explain: bool, detach: bool, dry_run: bool = False) -> None:
    """UserError where there will be no result to explain."""
    if explain and (detach or dry_run):
        other = "--detach" if detach else "--dry-run"
        raise UserError(f"{other} prints no result that --explain could explain: give one of the two.")


def _add_score(app: typer.Typer) -> None:
    """The command that does ``score`` for one SAE and one judge, and ``scores`` for several, or for a list of judges
    in workspace.toml."""

    def handler(given: dict[str, Any], workspace: str | None, json: bool, detach: bool, explain: bool) -> None:
        check_explained(explain, detach)
        from engine.neurons.asked import task_of  # h5py, which --help must not wait for

        place = Workspace.find(workspace)
        default = None if "embed_with" in given else place.defaults().get("embed_with")
        alone = isinstance(default, list) and len(default) == 1
        instead = {"embed_with": default[0]} if default is not None and alone else {}
        several = not (instead or default is None or isinstance(default, str))
        task, given = ("scores", given) if several else task_of(given)
        settings, show = stages()[task]
        chosen = complete(settings, given, place, "score", task, instead if task == "score" else {})
        if detach:
            work.detach(place, task, chosen, json)
        else:
            work.perform(place, task, chosen, as_json=json, show=show, explain=explained if explain else None)

    command(app, "score", config.ScoresSettings, *LONG, EXPLAIN)(handler)


number = partial(numbers.number, digits=3)  # scores and losses, as a command tells them


def show_extract(result: Extracted) -> None:
    say(*(f"{store.path}: {counted(store.rows, 'row')} of {store.d:,} at {store.hook}" for store in result.stores))
    skipped = f", {len(result.broken):,} broken skipped" if result.broken else ""
    say(f"{counted(result.images, 'image')}{skipped}" + ("" if result.extracted_now else "; it was complete already"))


def show_estimate(result: Estimated) -> None:
    room = f"{size(result.bytes)} of {size(result.free)} free"
    time = f", about {duration(result.seconds)}" if result.seconds is not None else ""
    say(
        f"{counted(result.images, 'image')}, {counted(result.rows, 'row')} of {result.d:,}: {room}{time}",
        *result.warnings,
    )


def show_draw(result: DrawnPictures) -> None:
    say(f"{result.path}: {counted(result.images, 'picture')}" + ("" if result.made else "; they were there already"))


def show_train(result: Trained) -> None:
    again = "" if result.made else "; it was trained already"
    say(result.path, f"{_train_figures(result)}{again}")
    if result.outliers:
        say_facts(
            f"{percent(result.outliers, 2)} of these rows are longer than ten median ones and carry "
            f"{percent(result.outlier_variance)} of the variance: without them FVE is "
            f"{number(result.fve_without_outliers)} (--max-norm 10 trains without them)"
        )
    if result.state_bytes:
        say_facts(f"{size(result.state_bytes)} of state are kept for a longer training; --drop-state removes them")


def show_baseline(result: BaselineMade) -> None:
    again = "" if result.made else "; it was there already"
    say(result.path, f"{_train_figures(result)}{again}")


def _train_figures(result: Trained | BaselineMade) -> str:
    return (
        f"FVE {number(result.fve)}   L0 {number(result.l0, digits=1)}   dead {percent(result.dead, 1)}   "
        f"dense {percent(result.dense, 1)} (n {result.rows:,} held-out rows)"
    )


def show_score(result: Scored) -> None:
    ms, again = result.ms, "" if result.made else "; it was scored already"
    say(
        result.path,
        f"{counted(result.images, 'image')}, {counted(result.alive, 'latent')} alive, {result.dead:,} dead{again}",
        *of_patches(result),
        "MS                   mean    best   worst     std",
    )
    for name, spread in (("SAE latents", ms.sae), ("raw neurons", ms.raw), ("raw, rectified", ms.raw_relu)):
        of = "  ".join(f"{number(one):>6}" for one in (spread.mean, spread.best, spread.worst, spread.std))
        say(f"{name:<18} {of}{_over(spread)}")
    say_facts(
        f"matched raw        {number(ms.matched.mean):>6}   same support, latent by latent: "
        f"{percent(ms.matched.share_beaten, 1)} of latents beat theirs",
        f"{'':25}   ({_range(ms.matched.low, ms.matched.high)}), std {number(ms.matched.std)}, "
        f"n {ms.matched.latents:,}; the share {percent(ms.matched.share_low)} to {percent(ms.matched.share_high)}",
        *by_group(ms.groups),
        f"baseline           {number(ms.baseline):>6}   mean cosine of all pairs of images",
        *(f"{one.control:<18} {number(one.score.mean):>6}   {_ahead(one)}" for one in result.twins),
        *localised(result.localisation),
        *depths(result.hierarchy),
    )
    if result.copies:
        aside = "latents whose top images are copies of one another: set aside"
        say_facts(f"copies             {result.copies:>6,}   {aside}")


def _over(spread: LatentSpread | RawMS) -> str:
    """Interval and n of its mean; older results have neither of raw neurons."""
    n = spread.latents if isinstance(spread, LatentSpread) else spread.columns
    told = [] if spread.low is None else [f"({_range(spread.low, spread.high)})"]
    return "   " + ", ".join([*told, *([] if n is None else [f"n {n:,}"])])


def by_group(groups: Sequence[GroupMS]) -> list[str]:
    """MS of each Matryoshka group beside the matched neurons of its latents."""
    if not groups:
        return []
    heads = ("MS of group", "n", "mean (95 %)", "std", "matched (95 %)", "beat theirs")
    rows = [
        (
            f"{place} of {one.latents:,}",
            f"{one.ms.n:,}",
            _interval(one.ms),
            number(one.std),
            _interval(one.matched),
            percent(one.beaten.mean),
        )
        for place, one in enumerate(groups)
    ]
    return work.columns(heads, rows, right={1, 3, 5})


def _interval(of: Interval) -> str:
    return number(of.mean) if of.low is None else f"{number(of.mean)} ({_range(of.low, of.high)})"


def _ahead(one: Beside) -> str:
    return f"{one.sae}, {counted(one.score.n, 'latent')}: this SAE is ahead by {earned.score(one.ahead, 3)}"


def show_scores(result: ScoredAll) -> None:
    say_facts(*scores.lines(result))


def show_concepts(result: ConceptsTested) -> None:
    say_facts(
        result.path,
        f"{counted(result.images, 'image')}, {counted(result.concepts, 'concept')}, {result.left_out:,} left out; "
        f"chosen on one half of the images, measured on the other{'' if result.made else '; they were tested already'}",
        "best latent         AUROC   95% interval      F1      AP  probes of 1, 5, 20",
    )
    for name, found in (
        ("SAE latents", result.latents),
        ("matched raw", result.matched),
        ("random directions", result.random),
        ("shuffled labels", result.shuffled),
    ):
        probes = "  ".join(number(one) for one in found.probes.values())
        a = found.auroc
        say(
            f"{name:<18} {number(a.mean):>6}  {number(a.low):>6} to {number(a.high):<6}  {number(found.f1.mean):>6}  "
            f"{number(found.ap.mean):>6}  {probes}"
        )
    ours, dealt, bar = result.latents, result.shuffled, f"{result.settings.threshold:g}"
    say_facts(
        f"covered            {percent(ours.covered, 1):>6}   of concepts have a latent with AUROC {bar} or more "
        f"({percent(dealt.covered, 1)} with shuffled labels)",
        f"split              {number(ours.above):>6}   latents a concept with AUROC {bar} or more, "
        f"{number(ours.precise)} precise ones ({number(dealt.precise)})",
        f"absorbed           {number(ours.absorbed):>6}   of a concept's images fire a more specific latent in "
        f"place of the best one ({number(dealt.absorbed)}); {number(ours.missed)} do not fire the best",
    )
    for one in sorted(result.tests, key=lambda test: -(test.auroc.mean or 0))[:_TESTS]:
        a = one.auroc
        say_facts(
            f"{one.latent:>7}  {number(a.mean)} ({number(a.low)} to {number(a.high)})  {one.concept}, "
            f"{counted(one.images, 'image')}: matched {number(one.matched)}, random {number(one.random)}"
        )
    if len(result.tests) > _TESTS:
        say(f"and {len(result.tests) - _TESTS:,} more concepts in the file")


def depths(found: Hierarchy | None) -> list[str]:
    """How deep in the taxonomy each Matryoshka group lies, beside random sets of images, and whether depth rises."""
    if found is None:
        return []
    lines = []
    for place, group in enumerate(found.groups):
        mode = "–" if group.mode is None else f"{group.mode}"
        lines.append(
            f"depth, group {place:<5} {number(group.depth):>6}   ({_range(group.low, group.high)}) rounded "
            f"{number(group.rounded)}, mode {mode}, n {group.latents - group.left_out:,} of "
            f"{counted(group.latents, 'latent')}; random {number(found.expected)} "
            f"({_range(group.random_low, group.random_high)})"
        )
    if found.trend.rho is not None:
        p = "–" if found.trend.p is None else significant(found.trend.p, 2)
        n = sum(group.latents - group.left_out for group in found.groups)
        lines.append(f"depth over groups  {number(found.trend.rho):>6}   Spearman's rho, p {p}, n {n:,}")
    return lines


def _range(low: float | None, high: float | None) -> str:
    return f"{number(low)} to {number(high)}"


def localised(found: Localisation | None) -> list[str]:
    """In a line, whether maps lie on the objects."""
    if found is None:
        return []
    return [
        f"on the object      {number(found.peak):>6}   of strongest patches (random {number(found.chance_peak)}), "
        f"{number(found.mass)} of maps (even {number(found.chance_mass)})"
    ]


def show_plan(result: PlanDone) -> None:
    stages = result.stages
    width, longest = (max(len(getattr(stage, of)) for stage in stages) for of in ("name", "stage"))
    for stage in stages:
        came = CAME.get(stage.stage, "made") if _made(stage.result) else "was there already"
        figures = _figures(stage.stage, stage.result)
        say_facts(f"{stage.stage:>{longest}}  {stage.name:<{width}}  {came}: {figures}")
    now = sum(_made(stage.result) for stage in stages)
    say(f"{counted(len(stages), 'stage')}: {now:,} done now, {len(stages) - now:,} there already")


def _figures(stage: str, result: Any) -> str:
    """The result of a stage of a plan in one line."""
    match stage:
        case "draw":
            return counted(result["images"], "picture")
        case "extract":
            return f"{counted(result['images'], 'image')}, {counted(result['rows'], 'row')}"
        case "train" | "baseline":
            return _train_figures(TASKS[stage].read(result))
        case "score":
            scored: Scored = TASKS[stage].read(result)
            ms, control = scored.ms.sae, scored.ms.matched
            return (
                f"MS {number(ms.mean)} ({_range(ms.low, ms.high)}) of {counted(ms.latents, 'latent')} by "
                f"{scored.embed_with}, matched raw neurons {number(control.mean)} "
                f"({_range(control.low, control.high)}) of {control.latents:,}"
            )
        case "import":
            return _imported(TASKS[stage].read(result))
        case "concepts":
            tested: ConceptsTested = TASKS[stage].read(result)
            ours, matched, random = (one.auroc for one in (tested.latents, tested.matched, tested.random))
            return (
                f"AUROC {number(ours.mean)} ({_range(ours.low, ours.high)}) of {counted(tested.concepts, 'concept')}, "
                f"matched raw neurons {number(matched.mean)}, random directions {number(random.mean)}"
            )
        case "stability":
            return _agreed_by_pairs(TASKS[stage].read(result))
        case "fidelity":
            return fidelity.headline(TASKS[stage].read(result))
        case "steerability":
            return headline(TASKS[stage].read(result))
        case "agreement":
            return _agreed_with(TASKS[stage].read(result))
        case "figure":
            return result["path"]
        case _:
            return result["steered"]


def _imported(result: BroughtIn) -> str:
    if isinstance(result, StoreImported):
        return counted(result.rows, "row")
    return f"{sizes(result)}, {result.tokens} of {result.hook} of {result.model}"


def _agreed_by_pairs(result: StabilityMeasured) -> str:
    random = fmean(pair.random_matched.mean or 0 for pair in result.pairs)
    told = f"matched {_with_interval(result.pairs[0].matched)}"
    over = told if len(result.pairs) == 1 else f"over {len(result.pairs):,} pairs: matched {number(result.matched)}"
    latents = counted(result.pairs[0].there.n, "latent")
    return f"{over}, random directions {number(random)}, {latents}"


def _agreed_with(result: Agreed) -> str:
    told = [
        f"{one.score} {number(one.agreement.weighted)} "
        f"({_range(one.agreement.weighted_low, one.agreement.weighted_high)})"
        for one in result.scores
    ]
    return f"{', '.join(told)} of {counted(result.pairs, 'pair')}; by chance .5"


def _made(result: Mapping[str, Any]) -> bool:
    """Whether a stage did something. Trainings and scores of 0.1.0, which ``jobs follow`` tells too, do not say."""
    return bool(result.get("extracted_now", result.get("imported_now", result.get("made", True))))


def show_steer(result: Steered) -> None:
    if not sys.stdout.isatty():  # there they were printed as they were generated
        for name in ANSWERS:
            say(f"{name:>10}  {getattr(result, name)}")


def show_steerability(result: Steerability) -> None:
    say_facts(*lines(result))


def show_fidelity(result: FidelityMeasured) -> None:
    say_facts(*fidelity.lines(result))


def show_ms(result: MatrixScored) -> None:
    n = len(result.ms) - result.undefined
    say(
        f"mean {number(result.mean)} ({_range(result.low, result.high)}), n {n:,}  std {number(result.std)}  "
        f"best {number(result.best)}  worst {number(result.worst)}",
        f"baseline {number(result.baseline)} (mean cosine of all pairs)  "
        f"{counted(len(result.ms), 'column')}, {result.undefined:,} undefined",
    )


def show_agreement(result: Agreed) -> None:
    undecided = f", {result.undecided:,} more of which neither was chosen" if result.undecided else ""
    share = "share in which the larger score was people's choice"
    say_facts(f"{counted(result.pairs, 'pair')} of latents{undecided}: {share}")
    for one in result.scores:
        found = one.agreement
        say_facts(
            f"{one.score}: {number(found.weighted)} ({number(found.weighted_low)} to {number(found.weighted_high)}) of "
            f"{counted(found.pairs, 'pair')}, mean of bins {number(found.mean)} ({number(found.mean_low)} to "
            f"{number(found.mean_high)}); published {number(PUBLISHED_WEIGHTED)}, {number(PUBLISHED_MEAN)} (DINOv2)"
        )
        for place, each in enumerate(found.bins):
            if each.pairs:
                beside = place < len(PUBLISHED)
                say(
                    f"  {each.distance:.1f} to {each.distance + 0.1:.1f}  {number(each.agreement):>6} "
                    f"({number(each.low)} to {number(each.high)}) of {each.pairs:,}"
                    + (f"   published {number(PUBLISHED[place])} of {PUBLISHED_PAIRS[place]:,}" if beside else "")
                )


def show_recognise(result: Seen) -> None:
    said = [f"{name} {value}" for name in READS if (value := getattr(result, name))]
    say_facts(
        _head(result),
        f"its files say {', '.join(said)}" if said else "its files do not say what it reads",
        *result.notes,
    )
    if result.bytes:
        say(f"an import writes {size(result.bytes)} ({size(result.free)} free)")
    say(*(["and asks" if result.bytes else "an import asks"] if result.questions else ["and asks nothing more"]))
    say(*(f"  {one.words}" for one in result.questions))


def _head(result: Seen) -> str:
    return f"{result.place if isinstance(result, RecognisedRows) else result.file}: {sizes(result)}"


def show_import(result: BroughtIn) -> None:
    if isinstance(result, StoreImported):
        of = f" of {counted(result.images, 'image')}" if result.images is not None else ""
        say_facts(
            result.path + ("" if result.imported_now else ": it was imported already"),
            f"{counted(result.rows, 'row')}{of}, {result.d:,} wide, {result.dtype}, from "
            f"{counted(result.parts, 'file')} of {result.format}: {result.tokens} of {result.hook} of {result.model}",
            *result.notes,
        )
        return
    say_facts(
        result.path + ("" if result.made else ": it was imported already"),
        f"{sizes(result)}, {result.tokens} of {result.hook} of {result.model}",
        *result.notes,
    )
    if result.checked:
        say(_check_figures(result.checked, result.k))


def _check_figures(found: Checked, k: int) -> str:
    said = f" (of {k:,} in training)" if k else ""
    return (
        f"on {counted(found.rows, 'row')} of {found.store}: FVE {number(found.fve)}   "
        f"L0 {number(found.l0, digits=1)}{said}   dead {percent(found.dead, 1)}"
    )


def show_export(result: SentOut) -> None:
    files, more = result.files[:_FILES], len(result.files) - _FILES
    say(f"{result.out}: {', '.join(files)}{f' and {more:,} more' if more > 0 else ''}, for {result.format}")
    if result.lost:
        say("It cannot hold:", *(f"  {what}" for what in result.lost))


def show_encode(result: Encoded) -> None:
    size = f"{counted(result.rows, 'row')} of {counted(result.latents, 'latent')}, {result.nonzero:,} nonzero"
    say(f"{result.out}: {size}, L0 {number(result.l0, digits=1)}")


def show_stability(result: StabilityMeasured) -> None:
    """A line for each direction of a pair: so the table fits 80 columns."""
    heads = ("latents of", "found in", "n", "max cosine", "matched", "random")
    rows = []
    for pair in result.pairs:
        matched = f"{'' if pair.exact else '>= '}{_with_interval(pair.matched)}"
        random = f"{number(pair.random_there.mean)} {number(pair.random_matched.mean)}"
        rows += [
            (pair.first, pair.second, f"{pair.there.n:,}", _with_interval(pair.there), matched, random),
            (pair.second, pair.first, f"{pair.back.n:,}", _with_interval(pair.back), "", number(pair.random_back.mean)),
        ]
    say(result.path, *work.columns(heads, rows, right=range(2, 5), cut=(0, 1)))
    again = "" if result.made else "; they were compared already"
    say_facts(f"± is the 95 % interval, over the latents; random: of as many random directions{again}")
    if len(result.pairs) > 1:
        means = f"max cosine {number(result.max_cosine)}, matched {number(result.matched)}"
        say(f"over {len(result.pairs):,} pairs: {means}")


def _with_interval(mean: Interval) -> str:
    if mean.mean is None or mean.high is None:
        return number(mean.mean)
    return f"{number(mean.mean)} ± {number(mean.high - mean.mean)}"


def show_relink(result: Relinked) -> None:
    for one in result.files:
        say(f"{one.file}: {', '.join(one.places)}")
    say(f"{counted(len(result.files), 'file')} rewritten, {counted(result.images, 'image')} compared")


STATES = {"missing": "not there any more"}


def show_verify(result: Verified) -> None:
    compared = result.shards - (len(result.unrecorded) if result.unit == "file" else 0)
    sources = [f"made from {one.kind} {one.name}: {STATES.get(one.state, one.state)}" for one in result.sources]
    told = f"{result.path}: every byte of {counted(compared, result.unit)} is as it was written"
    whole = [told] if compared else []
    say(*(f"{name} is made anew" for name in result.repaired), *(result.problems or whole), *result.unrecorded)
    say(*sources, *result.changed, *filter(None, [result.unsourced]))
