"""What a fidelity says on a terminal: every figure with its n, its interval and its controls."""

from dataclasses import replace

import numpy as np
import pytest

from engine.config import FidelitySettings
from engine.metrics.recovery import recovery
from engine.steer.fidelity.results import (
    AnswerFidelity,
    EncoderFidelity,
    Fidelity,
    FidelityMeasured,
    Retrieval,
    ZeroShot,
)
from engine.workspace import Provenance
from saetui.cli.fidelity import headline, lines


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    u, x, a = ((rng.random(40) < share).astype(float) for share in (0.9, 0.75, 0.2))
    cosine = recovery(1.0, np.linspace(0.7, 0.9, 40), np.linspace(0.1, 0.3, 40), (-1, 1))
    same = recovery(1.0, x, a, (0, 1))
    kl = recovery(0.0, np.linspace(0.1, 0.3, 16), np.linspace(1, 3, 16), (0, np.inf), lower=True)
    zero = ZeroShot(("a photo of a cat", "a photo of a dog"), recovery(u, x, a, (0, 1)), same)
    found = Retrieval(40, 90, zero.accuracy, same, zero.accuracy, same)
    return Fidelity(
        path="fidelity/s--val.json",
        sae="s",
        hook="layer:3",
        encoder=EncoderFidelity("hf:m/m", 40, 2, "cls", True, cosine, zero, found),
        answers=AnswerFidelity("demo", 16, 180, kl, recovery(1.0, x, a, (0, 1))),
        notes=(),
        settings=FidelitySettings(sae=("s",), images="val"),
        provenance=Provenance(),
    )


def test_every_figure_stands_beside_its_controls(found):
    text = "\n".join(lines(FidelityMeasured((found,))))
    for said in (
        "fidelity/s--val.json\ns at layer:3\nhf:m/m, CLS: 40 images, 2 broken left out\n",
        "                   cosine             right class        same class\n",
        "n                  40                 40                 40\n",
        "untouched          1.000              87.5% (66.3 95.4)  100.0%\n",
        "SAE in place       .800 (.781 .819)   75.0% (58.6 86.2)  75.0% (58.6 86.2)\n",
        "mean in place      .200 (.181 .219)   20.0% (9.3 39.0)   20.0% (9.3 39.0)\n",
        "recovered          75.0% (73.2 76.8)  81.5% (55.2 98.9)  68.8% (44.8 85.5)\n",
        "found among 90 captions of 40 images\n                   text at 1    at 5         image at 1   at 5\n",
        "SAE in place       75% (59 86)  75% (59 86)  75% (59 86)  75% (59 86)\n",
        "                   KL, nats             same token\n",
        "demo, patches: 16 answers of 180 tokens in all to 'Describe this image.'\n",
        "in brackets intervals of 95 %, by bootstrap-t over n",
    ):
        assert said in text, text


def test_what_is_undefined_is_a_dash_and_what_was_there_is_told(found):
    flat = recovery(1.0, np.ones(40), np.ones(40), (-1, 1))
    bare = replace(found.encoder, cosine=flat, zero_shot=None, retrieval=None, reached=False, broken=0)
    text = "\n".join(lines(FidelityMeasured((replace(found, encoder=bare, notes=("Why.",), made=False),), made=False)))
    assert "s at layer:3; it was measured already\n" in text and "right class" not in text and "\nWhy.\n" in text
    assert "recovered          –\n" in text and "untouched          1.000\n" in text


def test_a_line_for_a_plan_names_the_first(found):
    many = tuple(replace(found, sae=f"s{number}") for number in range(5))
    kl = "s KL .200 (.166 .234), n 16, mean in place 2.000"
    assert headline(FidelityMeasured((replace(found, encoder=None),))) == kl
    assert headline(FidelityMeasured((replace(found, encoder=None, answers=None),))) == "s nothing"
    cosine = ".800 (.781 .819), n 40, mean in place .200"
    assert headline(FidelityMeasured(many)) == f"s0 cosine {cosine}; s1 cosine {cosine}; s2 cosine {cosine} and 2 more"
