"""What a worker can be asked to do: one function of ``(settings, workspace, reporter)`` each."""

from dataclasses import dataclass
from typing import Any

from engine import config


@dataclass(frozen=True)
class Task:
    function: str
    """Where it is: ``module:function``, imported when it runs (it may need torch)."""
    settings: type[Any]


TASKS = {
    "extract": Task("engine.activations.extract:extract", config.ExtractSettings),
    "estimate": Task("engine.activations.estimate:estimate", config.ExtractSettings),
    "train": Task("engine.sae.train:train", config.TrainSettings),
    "score": Task("engine.neurons.score:score", config.ScoreSettings),
    "steer": Task("engine.steer.compare:steer", config.SteerSettings),
    "ms": Task("engine.neurons.matrix_scores:ms_files", config.MsSettings),
    "encode": Task("engine.sae.encode:encode_store", config.EncodeSettings),
    "verify": Task("engine.activations.store:verify", config.VerifySettings),
    "run": Task("engine.runs.plan:run_plan", config.PlanSettings),
    "demo": Task("engine.demo.pipeline:demo", config.DemoSettings),
    "doctor": Task("engine.doctor:doctor", config.DoctorSettings),
}
