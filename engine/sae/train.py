"""Training of an SAE on an activation store: the loop, its schedule, its measurements, and how it continues.

Killed at any moment and started again by the same command, a training ends with the same bytes on the same device: all
that a step depends on is in the checkpoint or is a function of the settings (a CPU must also use as many threads).

A training that is done goes on to more steps from its last checkpoint. It then ends with the weights of one that had
as many steps from the start, unless its schedule depends on the number of steps (engine.sae.schedule): warmup and
dead_after where they are capped by it, and any decay. Then a warning says so.
"""

import contextlib
import dataclasses
import math
import shutil
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from engine.activations.loader import SAMPLE, Loader
from engine.activations.store import Store
from engine.config import TrainSettings
from engine.errors import Stopped, UserError, counted, reason
from engine.files import check_target, lock, sweep_folder
from engine.links import check_own
from engine.models.device import free_memory, is_out_of_memory, pick_device
from engine.models.kept import forget_models, give_back
from engine.numbers import duration, significant
from engine.records import to_json
from engine.reporter import Measured, Reporter, StageBegan, Warned
from engine.sae.architectures import architecture
from engine.sae.asked import (
    check_continues,
    check_frozen,
    check_memory,
    check_mono,
    check_same,
    least_memory,
    with_steps,
)
from engine.sae.checkpoint import restore, save_checkpoint
from engine.sae.config import CHECKPOINTS, WEIGHTS, SAEConfig, latents, read_config, weights_sha256
from engine.sae.forming import Forming
from engine.sae.held_out import HeldOut
from engine.sae.model import SAE
from engine.sae.mono import Mono
from engine.sae.preview import Preview, read_preview, write_preview
from engine.sae.results import FinalMeasurement, MeasuredStep, Trained
from engine.sae.schedule import Pace, Schedule, Waiting
from engine.sae.state import (
    Checkpointed,
    Finished,
    Span,
    Split,
    check_together,
    checkpoint_path,
    identity,
    read_state,
    read_training,
    write_training,
)
from engine.sae.training_sae import TrainingSAE
from engine.settings import check
from engine.workspace import Provenance, Source, Workspace, neurons_files, versions


def train(settings: TrainSettings, workspace: Workspace, reporter: Reporter | None = None) -> Trained:
    """Train an SAE, or continue or return the one that these settings began or finished.

    Reports each measurement as a ``metrics`` event (engine.sae.results.MeasuredStep), and progress with ``loss`` and
    ``waiting``, the share of the last second or so spent waiting for data.
    Each measurement also replaces the folder's preview.json, the top images of a few latents.

    UserError: settings or data that cannot be trained on, other settings under the same name, a loss that is not
    finite any more. Stopped: asked to stop; a checkpoint is written first.
    """
    reporter = reporter or Reporter()
    folder = workspace.sae(settings.name)
    path = workspace.existing("activations", settings.activations)
    store = Store.open(path)
    check(settings)
    check_frozen(settings)
    check_mono(settings)
    store.check(reporter)
    training = TrainingLoop(with_steps(settings, store.rows, folder), workspace, store)
    training.asked = bool(settings.steps)
    check_own(folder)
    with lock(folder):
        found = _found(folder, training, reporter)
        if isinstance(found, Finished):
            if not settings.keep_state:
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            return _trained(folder, found.result, made=False)
        _make_room(settings, store.d, training.device)
        for place in (folder, folder / CHECKPOINTS):
            sweep_folder(place)
        check_target(folder / WEIGHTS)
        result = training.run(folder, found, reporter)
        if training.spans and neurons_files(workspace, folder.name):
            reporter.event(Warned(f"The scores of {folder.name} are of fewer steps: score it again, with a --name."))
        return result


def _make_room(settings: TrainSettings, d: int, device: torch.device) -> None:
    """UserError where memory is too small for the training, even without the models that are kept for other stages."""
    free = free_memory(device)
    if free is not None and free < 2 * least_memory(settings, d) and forget_models():
        free = free_memory(device)
    check_memory(settings, d, free)


class TrainingLoop:
    """One training: what it is made of, and the loop."""

    def __init__(self, settings: TrainSettings, workspace: Workspace, store: Store):
        self.settings, self.store = settings, store
        self.asked = True  # for so many steps
        self.device = pick_device(settings.device)
        self.w = latents(store.d, settings.expansion)
        self.architecture = architecture(settings, self.w)
        self.schedule = Schedule.of(settings, self.w)
        self.loader = Loader(store, settings.batch_size, settings.seed, settings.holdout, settings.max_norm)
        self.held_out = HeldOut.of(self.loader, settings.embeddings, workspace)
        self.forming = Forming(self.held_out, self.w, settings.seed)
        self.step = 0
        self.scale = 1.0
        self.history: list[MeasuredStep] = []
        self.spans: tuple[Span, ...] = ()
        self.unwritten: Preview | None = None
        self.mono: Mono | None = None
        seen = ""
        if settings.mono:
            self.mono = Mono.of(self.loader, settings.mono_embeddings, workspace, self.device)
            seen = Store.open(workspace.existing("embeddings", settings.mono_embeddings)).sha256
        self.identity = identity(settings, store.sha256, seen)
        source = Source("activations", store.path.name, str(store.path), store.sha256)
        self.origin = Provenance((source,), versions())

    @property
    def config(self) -> SAEConfig:
        manifest = self.store.manifest
        config = SAEConfig(
            arch=self.settings.arch,
            d=self.store.d,
            w=self.w,
            frozen=self.settings.frozen,
            scale=self.scale,
            model=manifest.model.spec,
            model_sha256=manifest.model.sha256,
            hook=manifest.hook,
            tokens=manifest.tokens,
            transparency=manifest.transparency,
            provenance=self.origin,
        )
        return self.architecture.described(config)

    def exported(self) -> SAE:
        return SAE.of(self.config, self.model.weights(self.scale))

    def run(self, folder: Path, state: Checkpointed | None, reporter: Reporter) -> Trained:
        """Train from ``state`` (None: from the start) to the end and write the SAE into ``folder``."""
        reporter.event(StageBegan("train"))
        settings = self.settings
        model = TrainingSAE(self.architecture, self.store.d, self.w, settings.seed, settings.frozen)
        self.model = model.to(self.device)
        self.optimiser = torch.optim.Adam(self.model.parameters(), betas=(0.9, 0.999), fused=True)
        if len(self.loader.held_out) == 0:
            reporter.event(Warned("No image is held out: measurements are made on training rows."))
        if self.mono is not None and self.settings.embeddings == self.settings.mono_embeddings:
            reporter.event(Warned("The MS of held-out images is what --mono trains for: judge by other --embeddings."))
        if state:
            self._continue(folder, state, reporter)
        else:
            self._begin()
            self._save(folder)
        try:
            self._loop(folder, reporter)
        except Stopped as stopped:
            self._save(folder)
            raise Stopped(f"step {self.step:,} is kept") from stopped
        return self._finish(folder)

    def _begin(self) -> None:
        sample = self.loader.sample(SAMPLE).to(self.device)
        self.scale = float(sample.pow(2).sum(1).mean().sqrt())
        if self.scale == 0 or not math.isfinite(self.scale):
            raise UserError(
                f"The activations of {self.store.path} have mean squared norm {self.scale:g}: "
                "there is nothing to learn, extract them at another hook point."
            )
        with torch.no_grad():
            self.model.b_dec.copy_(geometric_median(sample / self.scale))
            self.architecture.begin(self.model, sample / self.scale, self.settings.seed)

    def _continue(self, folder: Path, state: Checkpointed, reporter: Reporter) -> None:
        restore(folder, state, self.model, self.optimiser)
        with contextlib.suppress(UserError):  # a damaged preview: the latents shown are chosen anew
            earlier = read_preview(folder)
            self.forming.show([one.latent for one in earlier.latents] if earlier else [])
        self.step, self.scale, self.history = state.step, state.scale, list(state.history)
        self.spans = state.spans
        if state.identity["steps"] != self.settings.steps:
            self._lengthen(folder, state, reporter)
        if self.device.type == "cpu" and state.threads != torch.get_num_threads():
            reporter.event(
                Warned(
                    f"This training began with {state.threads} threads and goes on with "
                    f"{torch.get_num_threads()}: its weights may differ in the last bits.",
                )
            )

    def _lengthen(self, folder: Path, state: Checkpointed, reporter: Reporter) -> None:
        """Go on under the schedule of another number of steps; say where the steps done differ from those under it."""
        done = None
        with contextlib.suppress(UserError):  # it has none, or a bit of them has changed
            done = weights_sha256(folder)
        self.spans = (*state.spans, Span(state.step, state.identity["steps"], done))
        self.model.follow(self.step, self.schedule.smoothing)
        for span in self.spans:
            before = Schedule.of(dataclasses.replace(self.settings, steps=span.of), self.w)
            if differing := before.differences(self.schedule, span.step, self.architecture.revives):
                reporter.event(
                    Warned(
                        f"The steps up to {span.step:,} had {', '.join(differing)}: the result is not the very one of "
                        f"{counted(self.settings.steps, 'step')} from the start."
                    )
                )

    def _loop(self, folder: Path, reporter: Reporter) -> None:
        settings, schedule = self.settings, self.schedule
        # A GPU is asked for values only now and then: every question makes it wait for the host.
        on_cpu = self.device.type == "cpu"
        ask_every = 1 if on_cpu else 25
        batches = self.loader.batches(self.step, schedule.steps, self.device)
        waiting, pace = Waiting(), Pace(self.step)
        with contextlib.closing(batches):
            for x in waiting.over(batches):
                if self.architecture.revives and self.step % (1 if on_cpu else 16) == 0:
                    self.model.dead = find_dead(self.model, schedule.dead_after)
                try:
                    loss = self._update(x)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    raise self._out_of_memory(folder) from error
                self.step += 1
                if not self.asked and (seconds := pace.left(self.step, schedule.steps)) is not None:
                    passes = schedule.steps * settings.batch_size / len(self.loader.train)
                    reporter.event(Warned(_announced(schedule.steps, passes, seconds)))
                measuring = self.step % settings.eval_every == 0 or self.step == schedule.steps
                if measuring or self.step % ask_every == 0:
                    value = float(loss)
                    if not math.isfinite(value):
                        raise self._diverged(folder)
                    reporter.progress(self.step, schedule.steps, "steps", loss=value, waiting=waiting.share())
                if measuring:
                    self._measure(value, folder, reporter)
                if self.step % settings.checkpoint_every == 0 and self.step < schedule.steps:
                    self._save(folder)
                reporter.check()

    def _update(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, ""]:
        """One step; the loss it had before. A loss that is not finite changes nothing on a CPU."""
        model, step = self.model, self.step
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = model.loss(x / self.scale)
        total = loss.total
        if self.mono is not None:
            total = total + self.settings.mono * self.mono.loss(loss.codes, step)
        if self.device.type == "cpu" and not torch.isfinite(total):
            return total.detach()
        total.backward()
        model.project_gradient()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimiser.param_groups[0]["lr"] = self.schedule.rate(step)
        self.optimiser.step()
        self.optimiser.zero_grad()
        model.constrain()
        model.observe(loss, len(x), self.schedule.smoothing(step), step)
        return total.detach()

    def _measure(self, loss: float, folder: Path, reporter: Reporter) -> None:
        sae = self.exported()
        self.forming.begin()
        measured = self.held_out.measure(sae, self.forming.see)
        threshold = self.model.threshold(self.scale)
        theta = None if threshold is None else float(threshold.mean())
        values = {"loss": loss, **to_json(measured), "theta": theta}
        self.history.append(MeasuredStep(step=self.step, **values))
        reporter.event(Measured(self.step, values))
        self.unwritten = self.forming.preview(sae, self.step)
        try:
            self._write_preview(folder)
        except OSError as error:  # the preview is there to be looked at: nothing else hangs on it
            reporter.event(Warned(f"The preview of step {self.step} is not written: {reason(error)}."))

    def _write_preview(self, folder: Path) -> None:
        if self.unwritten:
            write_preview(folder, self.unwritten)
            self.unwritten = None

    def _save(self, folder: Path) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise self._diverged(folder)
        state = Checkpointed(
            identity=self.identity,
            step=self.step,
            scale=self.scale,
            history=tuple(self.history),
            threads=torch.get_num_threads(),
            spans=self.spans,
        )
        save_checkpoint(folder, self.model, self.optimiser, state)

    def _out_of_memory(self, folder: Path) -> UserError:
        """In a step, which changes nothing before its gradients are there: what came before it is kept."""
        self.optimiser.zero_grad()
        give_back(self.device)
        if self.step:
            self._save(folder)
        kept = f"; step {self.step:,} is kept" if self.step else ""
        return UserError(
            f"{self.device} is out of memory in step {self.step + 1:,} of {folder.name}{kept}: end what else "
            "uses it and run the same command again, or train under another --name with a lower --batch-size."
        )

    def _diverged(self, folder: Path) -> UserError:
        if self.device.type == "cpu" and all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            self.step -= 1  # this step was not taken
            self._save(folder)
        state = read_state(folder)
        kept = state.step if state else 0
        return UserError(
            f"The loss of SAE {folder.name} is not a finite number any more near step {self.step}: train again under "
            f"another --name with a lower --lr; {checkpoint_path(folder)} keeps the weights of step {kept}."
        )

    def _finish(self, folder: Path) -> Trained:
        with contextlib.suppress(OSError):  # another time it may be written, and none comes after this
            self._write_preview(folder)
        sae = self.exported()
        last = dataclasses.asdict(self.history[-1])
        del last["step"], last["loss"]
        result = FinalMeasurement(
            name=folder.name,
            arch=self.settings.arch,
            d=self.store.d,
            w=self.w,
            k=sae.config.k,
            steps=self.step,
            **last,
        )
        schedule = dataclasses.asdict(self.schedule)
        del schedule["steps"]
        train, held_out = self.loader.train, self.loader.held_out
        finished = Finished(
            identity=self.identity,
            settings=self.settings,
            schedule=schedule,
            rows=Split(len(train), len(held_out)),
            images=Split(len(train.images), len(held_out.images)),
            history=tuple(self.history),
            result=result,
            spans=self.spans,
        )
        if self.settings.keep_state:
            self._save(folder)
        sae.save(folder)
        write_training(folder, dataclasses.replace(finished, sae_sha256=weights_sha256(folder)))
        if not self.settings.keep_state:
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        return _trained(folder, result, made=True)


def _announced(steps: int, passes: float, seconds: float) -> str:
    return (
        f"{counted(steps, 'step')}, {significant(passes)} passes over the rows, take about {duration(seconds)}; "
        "--steps sets how many."
    )


def _trained(folder: Path, result: FinalMeasurement, made: bool) -> Trained:
    state = checkpoint_path(folder)
    kept = state.stat().st_size if state.is_file() else 0
    return Trained(path=str(folder), made=made, state_bytes=kept, **dataclasses.asdict(result))


@torch.no_grad()
def find_dead(model: TrainingSAE, dead_after: int) -> Tensor | None:
    """Latents that have not fired for ``dead_after`` tokens; None if there are none."""
    dead = (model.since_fired >= dead_after).nonzero().squeeze(1)
    return dead if len(dead) else None


@torch.no_grad()
def geometric_median(x: Float[Tensor, "n d"], tolerance: float = 1e-6, iterations: int = 200) -> Float[Tensor, " d"]:
    """The point with the least sum of distances to the rows, by Weiszfeld's iteration from their mean.

    Ends when a move is shorter than ``tolerance`` times the mean distance.
    """
    median = x.mean(0)
    for _ in range(iterations):
        distance = (x - median).norm(dim=1)
        weight = 1 / distance.clamp(min=1e-12)
        moved = weight @ x / weight.sum()
        done = (moved - median).norm() <= tolerance * distance.mean()
        median = moved
        if done:
            break
    return median


def _found(folder: Path, training: TrainingLoop, reporter: Reporter) -> Finished | Checkpointed | None:
    """What an earlier run left: a finished SAE, a checkpoint, or nothing."""
    finished, steps = read_training(folder), training.settings.steps
    check_same(folder, finished, training.identity)
    done_before = finished is not None and finished.result.steps == steps
    lost = _lost(folder, finished) if done_before else None
    if done_before and not lost:
        return finished
    state = read_state(folder)
    check_same(folder, state, training.identity)
    if lost:
        since = f"goes on from step {state.step:,}, which is kept" if state else "begins again"
        reporter.event(Warned(f"{lost} This training {since}."))
        return state
    check_continues(folder, finished, state, steps)
    return state


def _lost(folder: Path, finished: Finished | None) -> str | None:
    """Why what a finished training left is not whole any more; None when it is."""
    try:
        read_config(folder)
        check_together(folder, finished)
        weights_sha256(folder)
    except UserError as error:
        return str(error)
    return None
