"""What a steerability says on a terminal: no score without its n, its interval, its controls and what was published."""

from dataclasses import replace

import pytest

from engine.config import SteerabilitySettings
from engine.metrics.results import Concord, Interval
from engine.steer.results import (
    CONDITIONS,
    Dose,
    DosePoint,
    GroupSteered,
    JudgesAgree,
    Measured,
    OneWord,
    Steerability,
    SteeredLatent,
    Texts,
)
from engine.workspace import Provenance
from saetui.cli import work
from saetui.cli.steerability import headline, lines


def measured(published):
    return tuple(
        Measured(
            name,
            Interval(9, 0.1 * place, 0.1 * place - 0.05, 0.1 * place + 0.05),
            None if name == "steered" else Interval(9, 0.02, 0.01, 0.03),
            published.get(name),
        )
        for place, name in enumerate(CONDITIONS, 1)
    )


@pytest.fixture
def found():
    share = measured({"steered": 0.487, "diffmean": 0.531})
    word = OneWord(
        "one word", 1, measured({"steered": 0.259}), Interval(7, 0.3, 0.2, 0.4), Interval(7, 0.1, 0, 0.2), 0.283, 0.185
    )
    points = (
        DosePoint("untouched", None, 0.2, 0.0),
        DosePoint("attached", None, 0.21, 0.12),
        DosePoint("steered", 8.0, 0.3, 0.7),
    )
    return Steerability(
        path="steerability/s--m/scores.json",
        sae="s",
        vlm="hf:m/m",
        images="val",
        drawn_from=77,
        latents=(SteeredLatent(12, 0, "red fish", "name", 4.0, 8.0, 0.09, 0.5, None),),
        groups=(GroupSteered(1, *(Interval(4, 0.4, 0.3, 0.5),) * 2, Interval(0, None, None, None)),),
        word=word,
        word_on_pictures=replace(word, pictures=32),
        texts=(
            Texts("insertion", "text", share, share, share, 0),
            Texts("suppression", "text", share, share, share, 3),
        ),
        prompts=("a", "b"),
        judges=(),
        agreement=(JudgesAgree(("text", "chat"), "appeared", Concord(40, 0.8, 0.55)),),
        doses=(Dose(12, points, 8.0, 0.09, "best-12"), Dose(13, points, None, None)),
        settings=SteerabilitySettings(sae="s", vlm="hf:m/m", seed=5),
        provenance=Provenance(),
    )


def test_every_score_stands_beside_its_controls(found):
    text = "\n".join(lines(found))
    for said in (
        "1 latent of s, drawn at random (seed 5) from 77, in hf:m/m",
        "One word, blank, clamped to 2x: cosine with the top images",
        "One word, 32 images drawn at random",
        "Insertion, 2 prompts, clamped to 2x, judge text, in %",
        "Suppression, 2 prompts, clamped to 0, judge text, in %",
        "3 answers that the judge did not decide do not count",
        "text and chat  appeared  40    80%    .55",
        "1 of 2 latents gain; the SAE attached costs .12",
        "12  red fish         8      2x  +0.09  .70  best-12",
    ):
        assert said in text, f"{said!r} in\n{text}"
    for title in ("untouched", "SAE attached", "steered", "random latent", "random direction", "DiffMean"):
        assert sum(line.startswith(f"{title} ") for line in lines(found)) == 4
    steered = [line for line in lines(found) if line.startswith("steered ")]
    assert all(line.split()[1] == "9" and "(" in line for line in steered)
    assert ".259" in steered[0] and sum("48.7" in line for line in lines(found)) == 2
    assert max(map(len, lines(found)[4:])) <= 80
    true, random = (
        next(line for line in lines(found) if line.startswith(f"{name} label")) for name in ("true", "random")
    )
    assert "7" in true.split() and ".283" in true and ".185" in random


def test_parts_that_were_not_asked_for_are_not_told(found):
    few = replace(found, word=None, word_on_pictures=None, doses=(), groups=(), agreement=(), made=False)
    text = "\n".join(lines(few))
    assert "One word" not in text and "Recommended" not in text and "it was measured already" in text
    texts = [f"{task} 30% (25 35), n 9, SAE attached 20% (15 25)" for task in ("insertion", "suppression")]
    word = "one word .100 -> .300 (.250 to .350), n 9"
    assert headline(found).startswith("; ".join([word, *texts, "1 of 2 latents"]))
    assert headline(few) == "; ".join(texts)


def test_shares_of_any_size_fit_80_columns(found, monkeypatch):
    widest = Interval(512, -1.0, -1.0, 1.0)
    share = tuple(
        replace(one, score=Interval(512, 1.0, 0.99, 1.0), ahead=one.ahead and widest) for one in found.texts[0].both
    )
    texts = tuple(replace(one, done=share, followed=share, both=share) for one in found.texts)
    groups = (GroupSteered(11, Interval(512, -0.5, -0.75, 0.25), *[Interval(512, 1.0, 0.99, 1.0)] * 2),)
    monkeypatch.setattr(work, "screen_width", lambda: 80)
    told = lines(replace(found, texts=texts, groups=groups))[4:]
    assert max(map(len, told)) <= 80 and not any("…" in line for line in told), "\n".join(told)
