"""What a worker can be asked to do: one function of ``(settings, workspace, reporter)`` each."""

import importlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from engine import config
from engine.records import from_json
from engine.reporter import Reporter
from engine.workspace import Workspace


@dataclass(frozen=True)
class Task:
    function: str
    """Where it is: ``module:function``, imported when it runs (it may need torch)."""
    settings: type[Any]
    result: str = ""
    """The record that it returns: ``module:Class``, of a module that costs no torch."""
    check: str = ""
    """What refuses settings at once, without torch: ``module:function``, of settings, workspace and what is made."""
    outside: bool = False
    """Whether it writes where its settings say. Then it is no run: those may be a stranger's."""
    together: str = ""
    """What does several at once, at less cost, to the same results: ``module:function`` of a list of settings."""

    def load(self) -> Callable[..., Any]:
        return _named(self.function)

    def all(self, asked: Sequence[Any], workspace: Workspace, reporter: Reporter) -> list[Any]:
        """The results of several, in their order."""
        if len(asked) > 1 and self.together:
            results: list[Any] = _named(self.together)(asked, workspace, reporter)
            return results
        return [self.load()(one, workspace, reporter) for one in asked]

    def refuse(self, settings: Any, workspace: Workspace, made: Collection[tuple[str, str]] = ()) -> None:
        """WrongValue for settings that cannot be. ``made``: what will be there by then, as folder and name."""
        if self.check:
            _named(self.check)(settings, workspace, made)

    def read(self, value: Any) -> Any:
        """The result in what its JSON says. UserError for what is none, as a newer saetui may have written it."""
        return from_json(_named(self.result), value, "The result") if self.result else value


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


MADE = "engine.activations.results"
TASKS = {
    "extract": Task(
        "engine.activations.extract:extract",
        config.ExtractSettings,
        f"{MADE}:Extracted",
        "engine.activations.asked:check_extract",
    ),
    "estimate": Task(
        "engine.activations.estimate:estimate",
        config.ExtractSettings,
        f"{MADE}:Estimated",
        "engine.activations.asked:check_extract",
    ),
    "train": Task(
        "engine.sae.train:train", config.TrainSettings, "engine.sae.results:Trained", "engine.sae.asked:check_train"
    ),
    "score": Task(
        "engine.artefacts.scored:score",
        config.ScoreSettings,
        "engine.neurons.results:Scored",
        "engine.neurons.asked:check_score",
        together="engine.artefacts.scored:score_together",
    ),
    "scores": Task(
        "engine.artefacts.scored:score_all",
        config.ScoresSettings,
        "engine.neurons.results:ScoredAll",
        "engine.neurons.asked:check_scores",
    ),
    "concepts": Task(
        "engine.neurons.concepts:measure_concepts",
        config.ConceptsSettings,
        "engine.neurons.concept_results:ConceptsTested",
        "engine.neurons.asked:check_concepts",
    ),
    "steer": Task(
        "engine.steer.compare:steer",
        config.SteerSettings,
        "engine.steer.results:Steered",
        "engine.steer.asked:check_steer",
    ),
    "steerability": Task(
        "engine.steer.steerability.stage:steerability",
        config.SteerabilitySettings,
        "engine.steer.results:Steerability",
        "engine.steer.steerability.asked:check_steerability",
    ),
    "fidelity": Task(
        "engine.steer.fidelity.stage:fidelity",
        config.FidelitySettings,
        "engine.steer.fidelity.results:FidelityMeasured",
        "engine.steer.fidelity.asked:check_fidelity",
    ),
    "ms": Task(
        "engine.neurons.matrix_scores:ms_files",
        config.MsSettings,
        "engine.neurons.results:MatrixScored",
        "engine.neurons.asked:check_ms",
    ),
    "agreement": Task(
        "engine.neurons.agreement:agree",
        config.AgreementSettings,
        "engine.neurons.agreement_results:Agreed",
        "engine.neurons.asked:check_agreement",
    ),
    "encode": Task(
        "engine.sae.encode:encode_store",
        config.EncodeSettings,
        "engine.sae.results:Encoded",
        "engine.sae.asked:check_encode",
        True,
    ),
    "baseline": Task(
        "engine.sae.baseline:baseline",
        config.BaselineSettings,
        "engine.sae.results:BaselineMade",
        "engine.sae.asked:check_baseline",
    ),
    "stability": Task(
        "engine.sae.stability:stability",
        config.StabilitySettings,
        "engine.sae.results:StabilityMeasured",
        "engine.sae.asked:check_stability",
    ),
    "recognise": Task(
        "engine.exchange:recognise",
        config.RecogniseSettings,
        "engine.sae.results:Seen",
        "engine.sae.asked:check_recognise",
    ),
    "import": Task(
        "engine.exchange:bring_in",
        config.ImportSettings,
        "engine.sae.results:BroughtIn",
        "engine.sae.asked:check_import",
    ),
    "export": Task(
        "engine.exchange:send_out",
        config.ExportSettings,
        "engine.sae.results:SentOut",
        "engine.sae.asked:check_export",
        True,
    ),
    "verify": Task(
        "engine.artefacts.verify:verify",
        config.VerifySettings,
        f"{MADE}:Verified",
        "engine.artefacts.verify:check_verify",
    ),
    "relink": Task(
        "engine.artefacts.relink:relink",
        config.RelinkSettings,
        "engine.places:Relinked",
        "engine.artefacts.relink:check_relink",
    ),
    "run": Task(
        "engine.runs.plan:run_plan", config.PlanSettings, "engine.runs.plan:PlanDone", "engine.runs.plan:check_run"
    ),
    "draw": Task(
        "engine.demo.drawing:draw_pictures", config.DrawSettings, "engine.demo.results:DrawnPictures", outside=True
    ),
    "demo": Task("engine.demo.pipeline:demo", config.DemoSettings, "engine.demo.results:DemoDone"),
    "report": Task(
        "engine.report.report:report", config.ReportSettings, "engine.report.results:Reported", outside=True
    ),
    "paper": Task(
        "engine.report.paper.beside:beside_paper",
        config.PaperSettings,
        "engine.report.results:PaperCompared",
        outside=True,
    ),
    "figure": Task(
        "engine.report.figures.figure:draw_figure",
        config.FigureSettings,
        "engine.report.results:Drawn",
        "engine.report.figures.figure:check_figure",
        outside=True,
    ),
    "doctor": Task("engine.doctor:doctor", config.DoctorSettings, "engine.doctor:Report"),
}
