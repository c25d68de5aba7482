"""The loop: what it learns, what it says, and that it continues to the same bytes however it was ended."""

import copy
import json
import multiprocessing
import random
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import scipy.optimize
import torch
from safetensors.torch import load_file

from engine.activations.loader import SAMPLE
from engine.activations.store import Store
from engine.artefacts.entries import SAEEntry, read_entry
from engine.config import ArchitectureName, TrainSettings
from engine.errors import Stopped, UserError
from engine.numbers import significant
from engine.sae.architectures import REGISTRY
from engine.sae.config import steps_for
from engine.sae.model import SAE
from engine.sae.schedule import Schedule, Waiting
from engine.sae.state import checkpoint_path, read_state, read_training
from engine.sae.train import TrainingLoop, find_dead, geometric_median, train
from engine.sae.training_sae import TrainingSAE
from engine.workspace import Workspace
from tests.support.stores import write_store
from tests.support.trainings import Recorder, activations, chosen

FORKS = multiprocessing.get_context("forkserver")  # imports torch once for all processes that a test kills
FORKS.set_forkserver_preload(["engine.sae.train"])


@pytest.fixture
def store(workspace: Workspace):
    return write_store(workspace.activations("a"), activations()[0], tokens=4)


def weights(workspace: Workspace, name="s") -> bytes:
    return (workspace.sae(name) / "sae.safetensors").read_bytes()


@pytest.mark.parametrize("arch", get_args(ArchitectureName))
def test_every_architecture_trains(workspace, store, arch):
    reporter = Recorder()
    result = train(chosen(arch=arch, l1=0.01, l0=0.01), workspace, reporter)
    assert result.name == "s" and (result.d, result.w, result.steps) == (16, 32, 30)
    assert result.fve > 0.3
    assert result.rows == 30 * 4
    assert [m["step"] for m in reporter.of("metrics")] == [10, 20, 30]
    last = reporter.of("metrics")[-1]
    assert {key: value for key, value in vars(result).items() if key in last} == {
        key: value for key, value in last.items() if key not in ("step", "loss")
    }
    sae = SAE.load(workspace.sae("s"))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(32))
    config = sae.config
    saved = "topk" if arch == "archetypal" else arch
    assert (config.arch, config.model, config.hook, config.tokens) == (saved, "demo", "layer:3", "all")
    assert config.k == (3 if "topk" in saved else 0)
    assert config.groups == ((2, 6, 14, 32) if arch == "matryoshka-batchtopk" else ())
    assert config.provenance.made_from[0].sha256 == store.sha256
    assert config.scale == pytest.approx(np.sqrt((store.read(0, store.rows) ** 2).sum(1).mean()), rel=0.05)
    assert (result.theta is None) == (not REGISTRY[arch].has_threshold)
    if "batchtopk" in arch:
        assert (sae.threshold == result.theta).all() and result.theta > 0
    assert not (workspace.sae("s") / "checkpoints").exists()


def test_a_short_run_ends_with_a_threshold_that_keeps_k(workspace, store):
    for arch in ("batchtopk", "matryoshka-batchtopk"):
        result = train(chosen(name=arch, arch=arch, steps=300), workspace)
        assert result.l0 == pytest.approx(3, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("arch", sorted({*get_args(ArchitectureName)} - {"archetypal"}))
def test_a_known_dictionary_is_recovered(workspace, arch):
    x, directions = activations(images=4000, d=32, features=48, active=3)
    write_store(workspace.activations("a"), x, tokens=4)
    settings = chosen(arch=arch, steps=5000, batch_size=512, lr=3e-3, expansion=1.5, l1=0.05, l0=0.02, decay=0.2)
    result = train(settings, workspace)
    sae = SAE.load(workspace.sae("s"))
    cosines = directions @ sae.W_dec.numpy().T
    pairs = scipy.optimize.linear_sum_assignment(-cosines)
    assert cosines[pairs].mean() > 0.85  # directions drawn at random match at .37
    assert result.fve > 0.8


def test_training_is_a_function_of_the_seed(workspace, store):
    for name, seed in (("s", 0), ("t", 0), ("u", 1)):
        train(chosen(name=name, seed=seed), workspace)
    assert weights(workspace, "s") == weights(workspace, "t") != weights(workspace, "u")


@pytest.mark.parametrize("arch", ["matryoshka-batchtopk", "jumprelu"])
def test_stopped_anywhere_it_continues_to_the_same_bytes(workspace, store, arch):
    settings = chosen(arch=arch, dead_after=1, k=1, batch_size=16)  # so few that some latents are dead at every stop
    train(settings, workspace)
    expected = [(workspace.sae("s") / name).read_bytes() for name in ("sae.safetensors", "config.json")]
    history = json.loads((workspace.sae("s") / "training.json").read_text())["history"]
    folder = workspace.sae("s")
    folder.rename(folder.with_name("whole"))
    stops = random.Random(arch)
    for steps in (*(stops.randint(1, 9) for _ in range(3)), 30):
        state = read_state(folder)
        done = state.step if state else 0
        with pytest.raises(Stopped):
            train(settings, workspace, Recorder(stop_at=min(steps, 30 - done)))
        assert read_state(folder).step > 0 and not (folder / "sae.safetensors").exists()
        assert arch == "jumprelu" or "dead" in load_file(checkpoint_path(folder))
    train(settings, workspace)
    assert [(folder / name).read_bytes() for name in ("sae.safetensors", "config.json")] == expected
    assert json.loads((folder / "training.json").read_text())["history"] == history


def in_process(settings: TrainSettings, root: Path, largest_file: int = 0) -> None:
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    train(settings, Workspace(root))


def test_killed_at_random_moments_it_continues_to_the_same_bytes(workspace, store):
    settings = chosen(steps=250, checkpoint_every=11, eval_every=50, arch="batchtopk")
    warm = FORKS.Process(target=int)  # the first one also starts the server that forks
    warm.start()
    warm.join()
    started = time.monotonic()
    whole = FORKS.Process(target=in_process, args=(TrainSettings(**{**vars(settings), "name": "w"}), workspace.root))
    whole.start()
    whole.join()
    lasted = time.monotonic() - started
    assert whole.exitcode == 0
    moments, kills = random.Random(0), 0
    for _ in range(6):
        process = FORKS.Process(target=in_process, args=(settings, workspace.root))
        process.start()
        process.join(moments.uniform(0.05, 0.5) * lasted)
        process.kill()
        process.join()
        kills += process.exitcode == -9
    process = FORKS.Process(target=in_process, args=(settings, workspace.root))
    process.start()
    process.join()
    assert kills and process.exitcode == 0
    assert weights(workspace) == weights(workspace, "w")
    assert sorted(p.name for p in workspace.sae("s").iterdir()) == [
        ".lock", "config.json", "preview.json", "sae.safetensors", "training.json",
    ]  # fmt: skip


def test_a_full_disk_leaves_the_checkpoint_before(workspace, store):
    with pytest.raises(Stopped):
        train(chosen(), workspace, Recorder(stop_at=5))
    before = checkpoint_path(workspace.sae("s")).read_bytes()
    process = FORKS.Process(target=in_process, args=(chosen(), workspace.root, 2000))
    process.start()
    process.join()
    assert process.exitcode == 1
    assert checkpoint_path(workspace.sae("s")).read_bytes() == before
    train(chosen(), workspace)
    train(chosen(name="t"), workspace)
    assert weights(workspace, "s") == weights(workspace, "t")


def test_a_finished_sae_is_returned_as_it_is(workspace, store):
    first = train(chosen(), workspace)
    files = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in workspace.sae("s").iterdir() if p.name != ".lock"}
    reporter = Recorder()
    again = train(chosen(checkpoint_every=3, activations=str(store.path)), workspace, reporter)
    assert first.made and again == replace(first, made=False)
    assert reporter.checks == 0
    assert files == {
        p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in workspace.sae("s").iterdir() if p.name != ".lock"
    }


@pytest.mark.parametrize("arch", ["batchtopk", "relu"])
@pytest.mark.parametrize("to", [45, 60])
def test_more_steps_go_on_to_the_weights_of_as_many_from_the_start(workspace, store, arch, to):
    """Where no schedule depends on the number of steps; it is the threshold's that always does."""
    same = {"arch": arch, "warmup": 1, "dead_after": 40, "keep_state": True}
    first, reporter = train(chosen(**same), workspace), Recorder()
    assert first.steps == 30 and first.state_bytes == checkpoint_path(workspace.sae("s")).stat().st_size > 0
    longer = train(chosen(**same, steps=to), workspace, reporter)
    assert (longer.made, longer.steps) == (True, to) and reporter.of("warning") == []
    once = train(chosen(name="once", **same, steps=to), workspace)
    assert weights(workspace) == weights(workspace, "once") and longer.fve == once.fve
    assert train(chosen(**same, steps=to), workspace) == replace(longer, made=False)


def test_a_continuation_that_is_interrupted_goes_on(workspace, store):
    train(chosen(keep_state=True), workspace)
    done = weights(workspace)
    with pytest.raises(Stopped):
        train(chosen(keep_state=True, steps=90), workspace, Recorder(stop_at=20))
    assert weights(workspace) == done and read_state(workspace.sae("s")).step > 30
    train(chosen(keep_state=True, steps=90), workspace)
    train(chosen(name="t", keep_state=True), workspace)
    train(chosen(name="t", keep_state=True, steps=90), workspace)
    assert weights(workspace) == weights(workspace, "t") != done


def test_where_more_steps_are_not_those_from_the_start_is_said(workspace, store):
    train(chosen(keep_state=True, decay=0.5, warmup=100), workspace)
    reporter = Recorder()
    train(chosen(keep_state=True, decay=0.5, warmup=100, steps=60), workspace, reporter)
    (said,) = [one["message"] for one in reporter.of("warning")]
    assert "up to 30 had warmup over 3 steps, not 6, a learning rate that had fallen, latents dead after" in said
    followed = read_training(workspace.sae("s")).schedule
    assert (followed["warmup"], followed["decay"], followed["dead_after"]) == (6, 30, 96), "those of 60 steps"


def test_fewer_steps_and_a_dropped_state_are_refused_and_nothing_is_to_be_removed(workspace, store):
    train(chosen(), workspace)
    for steps, says in ((20, "has 30 steps already"), (60, "--drop-state")):
        with pytest.raises(UserError, match=says) as refusal:
            train(chosen(steps=steps), workspace)
        assert "another --name" in str(refusal.value) and "remove" not in str(refusal.value)
    assert train(chosen(), workspace).state_bytes == 0


def test_other_settings_under_the_same_name_are_refused(workspace, store):
    with pytest.raises(Stopped):
        train(chosen(), workspace, Recorder(stop_at=3))
    with pytest.raises(UserError, match="trained with k 3 instead of 4: choose another --name"):
        train(chosen(k=4), workspace)
    write_store(workspace.activations("b"), activations(seed=1)[0], tokens=4)
    with pytest.raises(UserError, match="other activations"):
        train(chosen(activations="b"), workspace)
    train(chosen(), workspace)
    with pytest.raises(UserError, match=r"expansion 2.0 instead of 3.0, lr 0.003 instead of 0.001"):
        train(chosen(expansion=3.0, lr=1e-3), workspace)
    (workspace.sae("s") / "training.json").unlink()
    with pytest.raises(UserError, match="not trained here"):
        train(chosen(), workspace)


def test_a_loss_that_is_not_finite_ends_with_a_sentence_and_a_good_checkpoint(workspace, store):
    with pytest.raises(UserError, match=r"SAE s is not a finite number.* lower --lr; .*checkpoints.* weights of step"):
        train(chosen(lr=1e30, warmup=1), workspace)
    state = read_state(workspace.sae("s"))
    assert state.step < 30
    with pytest.raises(UserError, match="not a finite number"):
        train(chosen(lr=1e30, warmup=1), workspace)
    assert not (workspace.sae("s") / "sae.safetensors").exists()


@pytest.mark.parametrize("image", range(2))
def test_activations_that_are_not_finite_are_named(workspace, image):
    """Wherever the row falls: among the trained or the held-out ones."""
    x = activations()[0]
    settings = chosen(holdout=0.5)
    store = write_store(workspace.activations("a"), x, tokens=4)
    from engine.activations.loader import Loader

    loader = Loader(store, 64, settings.seed, settings.holdout)
    row = 4 * int((loader.train, loader.held_out)[image].images[3]) + 2
    x[row, 5] = np.nan
    write_store(workspace.activations("bad"), x, tokens=4)
    with pytest.raises(UserError, match=rf"activations/bad has a value that is not a finite number in row {row}:"):
        train(chosen(activations="bad", holdout=0.5), workspace)
    assert not (workspace.sae("s") / "sae.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"activations": "none"}, "No activations named 'none'"),
        ({"name": "a/b"}, "cannot name an SAE"),
        ({"k": 33}, "--k 33 is more than the 32 latents"),
        ({"k": 0}, "--k is 0"),
        ({"steps": -1}, "--steps is -1"),
        ({"expansion": 0.01}, "leaves no latent"),
        ({"groups": (0.5, 0.7)}, "must end at 1"),
        ({"holdout": 1.5}, "--holdout is 1.5"),
        ({"lr": -1.0}, "--lr is -1"),
        ({"decay": 2.0}, "--decay is 2"),
        ({"max_norm": 0.5}, "--max-norm is 0.5: give 1 or more, or 0"),
        ({"device": "cuda:9"}, "no cuda:9"),
        ({"embeddings": "none"}, "No embeddings named 'none'"),
    ],
)
def test_settings_that_cannot_be_trained_on_leave_nothing(workspace, store, changes, says):
    with pytest.raises(UserError, match=says):
        train(chosen(**changes), workspace)
    assert not (workspace.root / "saes").exists()


def test_without_steps_the_rows_say_how_many(workspace, store, monkeypatch):
    assert [steps_for(rows, 4096) for rows in (24, 1_000_000, 10**9)] == [1000, 4883, 100_000]
    monkeypatch.setattr("engine.sae.asked.steps_for", lambda rows, batch: 10 * rows // batch)
    reporter = Recorder()
    result = train(chosen(steps=0, batch_size=100), workspace, reporter)
    assert result.steps == 10 * store.rows // 100
    assert read_training(workspace.sae("s")).settings.steps == result.steps, "what is recorded is what was done"
    (said,) = [one["message"] for one in reporter.of("warning")]
    passes = result.steps * 100 / read_training(workspace.sae("s")).rows.train
    assert said.startswith(f"{result.steps:,} steps, {significant(passes)} passes over the rows, take about 0:")
    assert not train(chosen(steps=0, batch_size=100), workspace).made
    train(chosen(steps=7, name="begun"), workspace)
    assert not train(chosen(steps=0, name="begun"), workspace).made, "of one that is there, its own number holds"


def test_long_rows_are_told_and_can_be_left_out(workspace, monkeypatch):
    """One row in a hundred a hundredfold longer: with them FVE says little, and --max-norm trains without them."""
    x = activations()[0]
    rng = np.random.default_rng(0)
    long = rng.choice(len(x), len(x) // 100, replace=False)
    x[long] *= 100
    write_store(workspace.activations("a"), x, tokens=4)
    seen: list[np.ndarray] = []
    take = TrainingLoop._update
    monkeypatch.setattr(TrainingLoop, "_update", lambda loop, rows: seen.append(rows.numpy()) or take(loop, rows))
    with_all = train(chosen(steps=100), workspace)
    limit = 10 * np.median(np.linalg.norm(x, axis=1))
    assert any((np.linalg.norm(rows, axis=1) > limit).any() for rows in seen)
    assert with_all.outliers == pytest.approx(0.01, abs=0.01) and with_all.outlier_variance > 0.9
    assert with_all.fve_without_outliers < with_all.fve
    seen.clear()
    without = train(chosen(steps=100, name="t", max_norm=10.0), workspace)
    assert len(seen) == 100 and all((np.linalg.norm(rows, axis=1) <= limit).all() for rows in seen)
    assert without.fve_without_outliers > max(with_all.fve_without_outliers, 0.5)
    assert SAE.load(workspace.sae("t")).config.scale < SAE.load(workspace.sae("s")).config.scale / 3
    with pytest.raises(UserError, match=r"max_norm 10\.0 instead of 0\.0"):
        train(chosen(steps=100, name="t"), workspace)


def test_a_constant_store_has_nothing_to_learn(workspace):
    write_store(workspace.activations("a"), np.zeros((40, 4), np.float32))
    with pytest.raises(UserError, match="nothing to learn"):
        train(chosen(arch="topk"), workspace)


def test_a_damaged_checkpoint_is_named(workspace, store):
    with pytest.raises(Stopped):
        train(chosen(), workspace, Recorder(stop_at=3))
    path = checkpoint_path(workspace.sae("s"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"newest.safetensors is damaged .* remove it to train from the start"):
        train(chosen(), workspace)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 64
    path.write_bytes(data)


@pytest.mark.parametrize("keep_state", [True, False])
@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "sae.safetensors").unlink(),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: flip(folder / "sae.safetensors"),
        lambda folder: flip(folder / "config.json"),
    ],
)
def test_a_finished_training_that_lost_its_weights_makes_them_again(workspace, store, harm, keep_state):
    """It once ended at once, with the FVE of weights that were not there."""
    asked, folder = chosen(keep_state=keep_state), workspace.sae("s")
    train(asked, workspace)
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    harm(folder)
    with pytest.raises(UserError, match=r"sae\.safetensors|config\.json"):
        SAE.load(folder)
    reporter = Recorder()
    assert train(asked, workspace, reporter).made
    [told] = [one["message"] for one in reporter.of("warning") if "This training" in one["message"]]
    assert ("goes on from step 30, which is kept" if keep_state else "begins again") in told
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole
    assert not train(asked, workspace).made


def test_a_checkpoint_with_another_bit_is_named(workspace, store):
    with pytest.raises(Stopped):
        train(chosen(), workspace, Recorder(stop_at=3))
    path = checkpoint_path(workspace.sae("s"))
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    for at in (whole.index(b"\\"), header + 5, len(whole) - 2):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(UserError, match=r"newest.safetensors is damaged .* remove it to train from the start"):
            train(chosen(), workspace)


def test_training_json_of_another_sae_is_named(workspace, store):
    for seed in (0, 1):
        train(chosen(seed=seed, name=f"s{seed}", keep_state=True), workspace)
    one, other = (workspace.sae(f"s{seed}") / "training.json" for seed in (0, 1))
    one.write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="was trained with seed 1 instead of 0"):
        train(chosen(name="s0"), workspace)
    assert "training.json is of another SAE" in str(read_entry(SAEEntry, workspace.sae("s0")))


def test_one_image_is_trained_on_and_measured(workspace):
    write_store(workspace.activations("a"), activations(images=1, tokens=50)[0], tokens=50)
    reporter = Recorder()
    result = train(chosen(), workspace, reporter)
    assert result.rows == 50
    assert "No image is held out" in reporter.of("warning")[0]["message"]


def test_ms_of_held_out_images(workspace, store):
    from engine.metrics.monosemanticity import monosemanticity

    random = np.random.default_rng(0)
    write_store(workspace.embeddings("e"), random.normal(size=(300, 8)).astype(np.float32))
    with_ms = train(chosen(embeddings="e"), workspace)
    sae = SAE.load(workspace.sae("s"))
    from engine.activations.loader import Loader

    images = Loader(store, 64, 0, 0.1).held_out.images
    rows = np.concatenate([np.arange(4 * i, 4 * i + 4) for i in images])
    pooled = sae.encode(torch.from_numpy(store.take(rows))).view(len(images), 4, -1).amax(1).numpy()
    judged = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)[images]
    assert with_ms.ms == pytest.approx(monosemanticity(pooled, judged).mean, rel=1e-6)
    without = train(chosen(name="t"), workspace)
    assert without.ms is without.ms_matched is without.ms_beaten is None
    assert weights(workspace, "s") == weights(workspace, "t")


def test_held_out_ms_comes_with_its_control(workspace, store, monkeypatch):
    """Raw coordinates pooled by hand, the control's own scores; of many images the same few latents each time."""
    from engine.activations.loader import Loader, Permutation
    from engine.metrics.matched_neurons import matched_ms
    from engine.metrics.monosemanticity import monosemanticity
    from engine.sae import held_out
    from engine.sae.held_out import HeldOut

    E = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    write_store(workspace.embeddings("e"), E)
    reporter = Recorder()
    result = train(chosen(embeddings="e", holdout=0.4), workspace, reporter)
    last = reporter.of("metrics")[-1]
    assert (last["ms_matched"], last["ms_beaten"]) == (result.ms_matched, result.ms_beaten)
    sae, loader = SAE.load(workspace.sae("s")), Loader(store, 64, 0, 0.4)
    images = loader.held_out.images
    x = np.stack([store.read(4 * i, 4 * i + 4) for i in images.tolist()])
    codes = sae.encode(torch.from_numpy(x)).amax(1).numpy()
    own = monosemanticity(codes, E[images])
    matched = matched_ms(x.max(1), (-x).max(1), E[images], own.support)
    both = ~np.isnan(own.ms) & ~np.isnan(matched)
    assert both.sum() > 10
    assert result.ms_matched == pytest.approx(matched[both].mean(), rel=1e-6)
    assert result.ms_beaten == pytest.approx((own.ms > matched)[both].mean())

    monkeypatch.setattr(held_out, "_MATCHED", 0)
    monkeypatch.setattr(held_out, "_FEWEST", 12)
    found = HeldOut.of(loader, "e", workspace).measure(sae)
    some = np.sort(Permutation(32, 0)(np.arange(12)))
    matched = matched_ms(x.max(1), (-x).max(1), E[images], own.support[some])
    assert found.ms == pytest.approx(own.mean, rel=1e-6)
    assert found.ms_matched == pytest.approx(np.nanmean(np.where(np.isnan(own.ms[some]), np.nan, matched)), rel=1e-6)


def test_waiting_is_the_share_of_time_between_batches():
    waiting = Waiting()

    def slow():
        for number in range(3):
            time.sleep(0.06)
            yield torch.tensor(number)

    for _ in waiting.over(slow()):
        time.sleep(0.02)
    assert 0.6 < waiting.share() < 0.85
    waiting.WINDOW = 0.05
    assert waiting.share() > 0.6  # a whole window: it is kept, and a new one begins
    time.sleep(0.06)
    assert waiting.share() == 0


def test_embeddings_of_other_images_are_refused(workspace, store):
    write_store(workspace.embeddings("e"), np.ones((1, 8), np.float32))
    with pytest.raises(UserError, match=r"'e' have [01] of the 30 held-out images"):
        train(chosen(embeddings="e"), workspace)


def test_embeddings_of_images_seen_through_otherwise_are_refused(workspace, store):
    write_store(workspace.embeddings("e"), np.ones((300, 8), np.float32), transparency="uncovered")
    with pytest.raises(UserError, match="of the same with transparency white: make them with saetui extract"):
        train(chosen(embeddings="e"), workspace)


def test_the_schedule_of_the_paper_and_of_a_short_run():
    long = Schedule.of(TrainSettings(activations="a", name="n", steps=100_000), 2**14)
    assert (long.lr, long.warmup, long.decay, long.dead_after) == (2e-4, 1000, 0, 10_000_000)
    assert (long.theta_from, long.theta_smoothing) == (1000, 0.999)
    assert long.rate(0) == pytest.approx(2e-7) and long.rate(999) == long.rate(99_999) == 2e-4
    assert long.smoothing(999) == 0 and long.smoothing(1000) == 0.999
    short = Schedule.of(TrainSettings(activations="a", name="n", steps=500, batch_size=1000, decay=0.2), 2**14)
    assert (short.warmup, short.decay, short.dead_after) == (50, 100, 12_500)
    assert (short.theta_from, short.theta_smoothing) == (250, 0.98)
    assert short.rate(399) == 2e-4 and short.rate(450) == pytest.approx(1e-4) and short.rate(499) > 0
    single = Schedule.of(TrainSettings(activations="a", name="n", steps=1, batch_size=1), 2**14)
    assert (single.warmup, single.dead_after, single.theta_smoothing) == (1, 1, 0)


@pytest.mark.parametrize("seed", range(3))
def test_geometric_median_minimises_the_sum_of_distances(seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(40, 3)) + 10 * (random.random((40, 1)) < 0.3)
    found = geometric_median(torch.from_numpy(x)).numpy()

    def distances(point):
        return np.linalg.norm(x - point, axis=1).sum()

    best = scipy.optimize.minimize(distances, x.mean(0), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
    assert distances(found) <= best.fun * (1 + 1e-6)


def test_geometric_median_on_top_of_a_row():
    assert torch.allclose(geometric_median(torch.tensor([[1.0, 2.0]] * 5)), torch.tensor([1.0, 2.0]))


def test_config_is_read_without_torch(workspace, store):
    train(chosen(), workspace)
    script = (
        "import sys; from pathlib import Path; import engine.sae; from engine.sae.config import read_config; "
        "print(read_config(Path(sys.argv[1])).w, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(workspace.sae("s"))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["32", "False"]


def begun(workspace, **settings) -> TrainingLoop:
    """A training of 40 steps before the first of them."""
    loop = TrainingLoop(chosen(steps=40, seed=4, **settings), workspace, Store.open(workspace.activations("a")))
    loop.model = TrainingSAE(loop.architecture, loop.store.d, loop.w, 4)
    loop._begin()
    return loop


def step_by_hand(model: TrainingSAE, adam: torch.optim.Adam, x: torch.Tensor, number: int) -> float:
    """Step ``number`` from the formulas; the norm of its gradient before that is cut to 1."""
    model.zero_grad()
    model.loss(x).total.backward()
    decoder = model.W_dec.detach().clone()
    model.W_dec.grad -= (model.W_dec.grad * decoder).sum(1, keepdim=True) * decoder
    gradients = [p.grad for p in model.parameters()]
    norm = float(sum(g.pow(2).sum() for g in gradients).sqrt())
    for gradient in gradients:
        gradient.mul_(min(1.0, 1 / norm))
    adam.param_groups[0]["lr"] = 3e-3 * min(1, (number + 1) / 4)  # it rises over a tenth of the steps
    adam.step()
    model.W_dec.data = torch.nn.functional.normalize(model.W_dec.data, dim=1)
    return norm


def test_a_step_is_the_one_of_the_formulas(workspace, store):
    loop = begun(workspace, arch="topk")
    sample = loop.loader.sample(SAMPLE)
    assert loop.scale == pytest.approx(float(sample.pow(2).sum(1).mean().sqrt()))
    torch.testing.assert_close(loop.model.b_dec.detach(), geometric_median(sample / loop.scale))
    assert (loop.model.b_dec - sample.mean(0) / loop.scale).abs().max() > 1e-3
    loop.optimiser = torch.optim.Adam(loop.model.parameters(), betas=(0.9, 0.999))
    expected = copy.deepcopy(loop.model)
    adam, norms = torch.optim.Adam(expected.parameters(), betas=(0.9, 0.999)), []
    for loop.step in range(4):
        x = loop.loader.batch(loop.step) * (9 if loop.step == 2 else 1)  # whose gradient is cut
        loop._update(x)
        norms.append(step_by_hand(expected, adam, x / loop.scale, loop.step))
        for name, p in expected.named_parameters():
            torch.testing.assert_close(loop.model.get_parameter(name), p, atol=2e-6, rtol=1e-4, msg=name)
    assert norms[0] < 1 < norms[2]


def test_a_training_is_such_steps_by_adam_alone(workspace, store):
    """Nothing decays, and batches come in their order."""
    with pytest.raises(Stopped):
        train(chosen(steps=40, seed=4, arch="relu"), workspace, Recorder(stop_at=9))
    loop = begun(workspace, arch="relu")
    adam = torch.optim.Adam(loop.model.parameters(), betas=(0.9, 0.999), weight_decay=0)
    for number in range(9):
        step_by_hand(loop.model, adam, loop.loader.batch(number) / loop.scale, number)
    kept = load_file(checkpoint_path(workspace.sae("s")))
    for name, p in loop.model.named_parameters():
        torch.testing.assert_close(kept[f"model.{name}"], p.detach(), atol=2e-6, rtol=1e-4, msg=name)


def test_the_dead_are_those_that_were_silent_too_long_and_they_are_revived(workspace, store):
    model = TrainingSAE(
        TrainingLoop(chosen(), workspace, Store.open(workspace.activations("a"))).architecture, 16, 4, 0
    )
    model.since_fired.copy_(torch.tensor([0, 5, 6, 7]))
    assert find_dead(model, 6).tolist() == [2, 3] and find_dead(model, 8) is None
    for name, aux in (("s", 1.0), ("t", 0.0)):
        train(chosen(arch="topk", name=name, dead_after=1, aux=aux), workspace)
    assert weights(workspace, "s") != weights(workspace, "t")
