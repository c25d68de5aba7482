"""A workspace in which much has been done: finished runs, most of them trainings of SAEs that are there."""

from pathlib import Path

from engine.files import write_json
from engine.records import to_json
from engine.reporter import Done, Measured, Progress, StageBegan
from engine.runs.events import EventLog, Status
from engine.runs.run import Run
from engine.workspace import Workspace

STEPS = 40  # of which each training tells


def write_runs(workspace: Workspace, count: int, sae: Path | None = None) -> None:
    """``count`` runs that are done; every second one trained an SAE of its own, or, without ``sae``, none that is
    there. ``sae``: the folder of one, which others are links to."""
    for number in range(count):
        task = "train" if number % 2 else "extract"
        name = f"{task}-{number}"
        run = Run.create(workspace, task, {"activations": "a", "name": name, "model": "demo", "images": "i"}, [])
        (run.path / "worker.lock").touch()
        (run.path / "log.txt").touch()
        log = EventLog(run.path / "events.jsonl")
        log.append(StageBegan(task))
        for step in range(STEPS):
            log.append(Progress(step, STEPS, "steps", {"loss": 1.0 / (step + 1), "waiting": 0.0}))
        log.append(Measured(STEPS, {"loss": 0.1, "fve": 0.9, "l0": 8.0, "dead": 0.0}))
        log.append(Done(None))
        log.close()
        write_json(run.path / "status.json", to_json(Status(state="done", started=1.0, ended=9.0)), durable=False)
        if sae is not None and task == "train":
            workspace.sae(name).mkdir(parents=True)
            for file in sae.glob("*.*"):
                (workspace.sae(name) / file.name).symlink_to(file)
