"""What a worker can be asked to do: one function of ``(settings, workspace, reporter)`` each."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine import config
from engine.records import from_json


@dataclass(frozen=True)
class Task:
    function: str
    """Where it is: ``module:function``, imported when it runs (it may need torch)."""
    settings: type[Any]
    result: str = ""
    """The record that it returns: ``module:Class``, of a module that costs no torch."""
    outside: bool = False
    """Whether it writes where its settings say. Then it is no run: those may be a stranger's."""

    def load(self) -> Callable[..., Any]:
        return _named(self.function)

    def read(self, value: Any) -> Any:
        """The result in what its JSON says. UserError for what is none, as a newer saetui may have written it."""
        return from_json(_named(self.result), value, "The result") if self.result else value


def _named(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


MADE = "engine.activations.results"
TASKS = {
    "extract": Task("engine.activations.extract:extract", config.ExtractSettings, f"{MADE}:Extracted"),
    "estimate": Task("engine.activations.estimate:estimate", config.ExtractSettings, f"{MADE}:Estimated"),
    "train": Task("engine.sae.train:train", config.TrainSettings, "engine.sae.results:Trained"),
    "score": Task("engine.neurons.score:score", config.ScoreSettings, "engine.neurons.results:Scored"),
    "steer": Task("engine.steer.compare:steer", config.SteerSettings, "engine.steer.results:Steered"),
    "ms": Task("engine.neurons.matrix_scores:ms_files", config.MsSettings, "engine.neurons.results:MatrixScored"),
    "encode": Task("engine.sae.encode:encode_store", config.EncodeSettings, "engine.sae.results:Encoded", True),
    "recognise": Task("engine.exchange:recognise", config.RecogniseSettings, "engine.sae.results:Seen"),
    "import": Task("engine.exchange:bring_in", config.ImportSettings, "engine.sae.results:BroughtIn"),
    "export": Task("engine.exchange:send_out", config.ExportSettings, "engine.sae.results:SentOut", True),
    "verify": Task("engine.artefacts.verify:verify", config.VerifySettings, f"{MADE}:Verified"),
    "relink": Task("engine.artefacts.relink:relink", config.RelinkSettings, "engine.places:Relinked"),
    "run": Task("engine.runs.plan:run_plan", config.PlanSettings, "engine.runs.plan:PlanDone"),
    "demo": Task("engine.demo.pipeline:demo", config.DemoSettings, "engine.demo.results:DemoDone"),
    "report": Task("engine.report.report:report", config.ReportSettings, "engine.report.results:Reported", True),
    "doctor": Task("engine.doctor:doctor", config.DoctorSettings, "engine.doctor:Report"),
}
