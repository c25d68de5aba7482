"""How scores of several SAEs, or by several judges, are told: a line each beside its controls, then over how many
latents they are, and their intervals."""

from pathlib import Path

from engine.errors import counted
from engine.neurons.results import Scored, ScoredAll, best
from saetui.cli.neurons import of_patches
from saetui.cli.work import columns
from saetui.formatting import count, fit_ends, number, percent

_JUDGE = 8  # characters of the name of a judge


def lines(result: ScoredAll) -> list[str]:
    scores = result.scores
    judges = {one.embed_with for one in scores}
    twins = any(one.twins for one in scores)
    judge = ["judge"] if len(judges) > 1 else []
    names = [[one.sae, *([fit_ends(Path(one.embed_with).name, _JUDGE)] if judge else [])] for one in scores]
    heads = ["MS", *judge, "mean", "best", "raw", "matched", *["twin"] * twins, "beaten", "base", "alive"]
    told = [[*name, *_figures(one, twins)] for name, one in zip(names, scores, strict=True)]
    over = ["over latents", *judge, "n", "mean, 95 %", "n", "matched, 95 %", "beaten, 95 %"]
    ends = [[*name, *_ends(one)] for name, one in zip(names, scores, strict=True)]
    again = [one.sae for one in scores if not one.made]
    by = "the same judge" if judge else scores[0].embed_with
    return [
        *(one.path for one in scores),
        *columns(heads, told, right=range(len(names[0]), len(heads)), cut=0),
        *columns(over, ends, right=range(len(names[0]), len(over)), cut=0),
        *of_patches(scores[0]),
        f"{counted(scores[0].images, 'image')}; base: mean cosine of all pairs, by {by}",
        *["twin: the best of its frozen twins that were scored alike; --json and saetui show SAE have all"] * twins,
        *([f"scored already: {', '.join(dict.fromkeys(again))}"] if again else []),
    ]


def _figures(one: Scored, twins: bool) -> list[str]:
    ms, twin = one.ms, best(two for two in one.twins if two.twin)
    beside = [number(twin.score.mean, 3) if twin else ""] if twins else []
    means = (ms.sae.mean, ms.sae.best, ms.raw.mean, ms.matched.mean)
    shares = (percent(ms.matched.share_beaten), number(ms.baseline, 3), count(one.alive))
    return [*(number(value, 3) for value in means), *beside, *shares]


def _ends(one: Scored) -> list[str]:
    ms, control = one.ms.sae, one.ms.matched
    return [
        count(ms.latents),
        f"{number(ms.low, 3)} {number(ms.high, 3)}",
        count(control.latents),
        f"{number(control.low, 3)} {number(control.high, 3)}",
        f"{percent(control.share_low)} {percent(control.share_high)}",
    ]
