"""A workspace with something for every part of a report, in which a stranger has put markup wherever text may stand."""

from pathlib import Path

import h5py

from engine.config import FidelitySettings, SteerSettings, TrainSettings
from engine.files import write_json
from engine.metrics.results import Interval, Recovery
from engine.neurons.labels import Labels
from engine.records import to_json
from engine.runs.events import Status
from engine.runs.run import Run
from engine.sae.config import weights_sha256
from engine.sae.results import FinalMeasurement, MeasuredStep
from engine.sae.state import Finished, Split, identity, write_training
from engine.settings import to_mapping
from engine.steer.fidelity.results import AnswerFidelity, EncoderFidelity, Fidelity, ZeroShot
from engine.steer.results import Steered
from engine.workspace import Provenance, Source, Workspace
from tests.support.scores import changing
from tests.support.synthetic import IMAGES, NAME, write_synthetic

W, SHOWN = 64, 48
OWNED = "document.title='owned'"
HOSTILE = f'</script></style><script>{OWNED}</script>"\'><img src=x onerror="{OWNED}">{{{{ 7*7 }}}}&lt;'
ANSWERS = Steered(untouched="a green fish", attached="a green fish", steered=f"a green pencil {HOSTILE}")


def write_reported(folder: Path) -> Workspace:
    """Latent 5 has a hostile label and a mark, 9 a mark; every image a hostile class; a run answers with markup."""
    place = Workspace(write_synthetic(folder, w=W, images=SHOWN, top=8))
    with changing(place.neurons(NAME, IMAGES)) as file:
        for name in ("images/label", "words/word"):
            texts = [text + HOSTILE.encode() for text in file[name][:]]
            del file[name]
            file.create_dataset(name, data=texts, dtype=h5py.string_dtype("utf-8"))
    labels = Labels.open(place.labels(NAME))
    labels.set(5, text=f"any pencil {HOSTILE}", marked=True)
    labels.set(9, marked=True)
    _trained(place)
    write_steered(place, SteerSettings(sae=NAME, vlm="demo", prompt=f"What is it? {HOSTILE}", latent=("5=2x",)))
    return place


def write_steered(place: Workspace, settings: SteerSettings, answers: Steered = ANSWERS) -> None:
    """A run of ``saetui steer`` that is done."""
    run = Run.create(place, "steer", to_mapping(settings), [])
    status = Status(state="done", started=1e9, ended=1e9 + 60, result=to_json(answers))
    write_json(run.path / "status.json", to_json(status))


def _trained(place: Workspace) -> None:
    settings = TrainSettings(activations="gone", name=NAME, expansion=0.5, k=8, steps=300)
    history = tuple(
        MeasuredStep(step=step, loss=1.0 / step, rows=100, fve=0.9 - 9 / step, l0=8.0, dead=0.1, dense=0.0)
        for step in (100, 200, 300)
    )
    result = FinalMeasurement(name=NAME, arch="batchtopk", d=192, w=W, k=8, steps=300, rows=100, fve=0.87, l0=8.0)
    done = Finished(
        identity=identity(settings, "0" * 64),
        settings=settings,
        schedule={},
        rows=Split(900, 100),
        images=Split(9, 1),
        history=history,
        result=result,
    )
    write_training(place.sae(NAME), done)


def recovery(whole: float = 0.9, kept: float = 0.9, ablated: float = 0.25) -> Recovery:
    means = (whole, kept, ablated, whole - kept, kept - ablated, (kept - ablated) / (whole - ablated))
    return Recovery(*(Interval(30, mean, mean - 0.1, mean + 0.1) for mean in means))


def fidelity_of(place: Workspace, sae: str) -> Fidelity:
    """Of the SAE as it is now."""
    found = recovery()
    sources = (
        Source("sae", sae, str(place.sae(sae)), weights_sha256(place.sae(sae))),
        Source("images", str(place.root / "pictures"), str(place.root / "pictures"), "i" * 64),
    )
    return Fidelity(
        path=str(place.root / f"fidelity/{sae}--old.json"),
        sae=sae,
        hook="layer:2",
        encoder=EncoderFidelity("demo", 30, 0, "patches", True, found, ZeroShot(("a cat", "a dog"), found, found)),
        notes=(),
        settings=FidelitySettings(sae=(sae,), images="pictures"),
        provenance=Provenance(sources),
        answers=AnswerFidelity("demo", 30, 200, recovery(0, 0.01, 2), found),
    )
