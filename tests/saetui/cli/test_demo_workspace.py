"""One small run of the demo, and what the other commands make of its workspace."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from scipy import sparse

from engine.files import write_json
from engine.runs.run import Run
from engine.workspace import Workspace
from tests.pictures import MODES, draw
from tests.support.shell import in_terminal, only_progress, saetui, saetui_json

COLOUR = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
}
FORCED = COLOUR | {"FORCE_COLOR": "1"}
STEPS = 700  # of a training that is interrupted: several seconds


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def summary(place):
    return saetui_json("demo", "--headless", "--pictures", 600, "--steps", 60, cwd=place)


@pytest.fixture(scope="module")
def workspace(place, summary):
    return place / "saetui-demo"


def test_the_summary_has_every_score_and_its_control(summary):
    assert summary["extract"] == {"images": 600, "rows": 600 * 64}
    assert set(summary["sae"]) == {"fve", "l0", "dead", "rows"} and 0 < summary["sae"]["fve"] < 1
    ms = summary["ms"]
    assert set(ms["sae"]) >= {"mean", "best", "worst", "latents"} and set(ms["raw"]) >= {"mean", "best", "worst"}
    assert 0 <= ms["matched"]["share_beaten"] <= 1 and -1 <= ms["baseline"] <= 1
    assert [c["kind"] for c in summary["concepts"]] == ["object"] * 24 + ["colour"] * 8
    assert all(0 <= c["auroc"] <= 1 and 0 <= c["inserted"] <= 1 for c in summary["concepts"])
    assert {
        "inserted",
        "suppressed",
        "random_control",
        "attached_control",
        "two_named",
        "two_named_random",
        "strength",
    } <= set(summary["steering"])
    where = summary["localisation"]
    assert list(where) == ["peak", "mass", "chance_peak", "chance_mass"] and all(0 <= v <= 1 for v in where.values())


def test_a_second_run_finds_everything_there(summary, place):
    before = (place / "saetui-demo" / "saes" / "demo" / "sae.safetensors").stat().st_mtime_ns
    again = saetui("demo", "--headless", "--pictures", 600, "--steps", 60, cwd=place)
    assert (place / "saetui-demo" / "saes" / "demo" / "sae.safetensors").stat().st_mtime_ns == before
    assert "matched raw neurons" in again.stdout and "saetui steer demo" in again.stdout
    assert "of strongest patches on the object (random" in again.stdout


def test_a_second_run_in_a_terminal_tells_the_same(summary, place):
    again = ("demo", "--headless", "--pictures", 600, "--steps", 60)
    told, read = in_terminal(*again, cwd=place), in_terminal(*again, "--json", cwd=place)
    assert told.code == read.code == 0
    assert "600 drawn images, 38,400 patch tokens" in told.out and "saetui steer demo --latent" in told.out
    assert only_progress(told.err) and read.err == ""
    timeless = {key: value for key, value in summary.items() if key != "seconds"}
    assert {key: value for key, value in json.loads(read.out).items() if key != "seconds"} == timeless


def test_the_pictures_of_the_readme_can_be_drawn(workspace, tmp_path, monkeypatch):
    for folder in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(folder, str(tmp_path / "state"))
    asyncio.run(draw(Workspace(workspace), list(MODES), tmp_path / "pictures"))
    drawn = {path.stem: path.read_text() for path in (tmp_path / "pictures").iterdir()}
    assert set(drawn) == set(MODES)
    for mode, picture in drawn.items():
        assert f">{mode.upper()}</text>" in picture


def test_latents_are_listed_searched_and_shown(workspace):
    table = saetui("neurons", "demo", "--top", 5, "--images", cwd=workspace, env=FORCED).stdout
    assert "matched raw neurons" in table and "\x1b[" in table, "pictures are drawn with colours"
    found = saetui_json("neurons", "demo", "--search", "red", cwd=workspace)
    assert found["latents"], "the best-named latent of a colour"
    scores = [row["match"] for row in found["latents"]]
    assert scores == sorted(scores, reverse=True)
    fewer = saetui_json("neurons", "demo", "--search", "red images>=9 freq<20%", "--top", 0, cwd=workspace)["latents"]
    assert fewer and all(row["support"] >= 9 and row["frequency"] < 0.2 for row in fewer)
    mistake = saetui("neurons", "demo", "--search", "red imags>=9", cwd=workspace, code=2).stderr
    assert "use images" in mistake
    assert "xylophone" in saetui("neurons", "demo", "--search", "xylophone", cwd=workspace).stdout


def test_show_prints_the_chain(workspace):
    shown = saetui_json("show", "neurons/demo--test.h5", cwd=workspace)
    sources = {source["kind"]: source for source in shown["chain"]}
    assert sources["sae"]["state"] == "unchanged"
    store = next(s for s in sources["sae"]["chain"] if s["kind"] == "activations")
    assert store["name"] == "demo-train" and store["state"] == "unchanged"
    assert "unchanged" in saetui("show", "saes/demo", cwd=workspace).stdout
    assert "demo" in saetui("show", "demo-train", cwd=workspace).stdout


def test_show_prints_pictures(workspace):
    picture = next((workspace / "images" / "test").rglob("*.png"))
    assert "\x1b[48;2;" in saetui("show", picture, cwd=workspace, env=FORCED).stdout
    assert "\x1b" not in saetui("show", picture, cwd=workspace, env=FORCED | {"NO_COLOR": "1"}).stdout
    assert "\x1b" not in saetui("show", picture, cwd=workspace, env=COLOUR).stdout, "into a pipe"


def test_steer_answers_three_times_and_replays_a_recipe(workspace, summary):
    latent = summary["concepts"][0]["latent"]
    flags = ("--latent", f"{latent}=2x", "--image", "blank", "--save-recipe", "more")
    said = saetui_json("steer", "demo", *flags, cwd=workspace)
    assert set(said) == {"untouched", "attached", "steered"}
    assert said["untouched"] == "an empty white background"
    assert saetui_json("steer", "--recipe", "more", cwd=workspace) == said


def test_encode_writes_the_latents_of_a_store(workspace):
    out = saetui_json("encode", "demo", "demo-test", "--out", "latents.npz", cwd=workspace)
    latents = sparse.load_npz(workspace / "latents.npz")
    assert latents.shape == (150 * 64, 192) and out["rows"] == 150 * 64


def test_an_estimate_says_what_an_extraction_takes(workspace):
    extract = ("--images", "images/test", "--at", "layer:4", "--tokens", "patches", "--name", "estimated")
    foretold = saetui_json("estimate", *extract, cwd=workspace)
    assert foretold["rows"] == 150 * 64 and foretold["bytes"] == 150 * 64 * (192 * 2 + 8)
    assert not (workspace / "activations" / "estimated").exists()
    assert "9,600 rows of 192" in saetui("estimate", *extract, cwd=workspace).stdout


def test_ms_of_files(workspace):
    rng = np.random.default_rng(0)
    np.save(workspace / "A.npy", np.maximum(rng.normal(size=(40, 3)), 0) * [1, 1, 0])
    np.save(workspace / "E.npy", rng.normal(size=(40, 5)))
    result = saetui_json("ms", "A.npy", "E.npy", cwd=workspace)
    assert result["ms"][2] is None and result["undefined"] == 1 and len(result["support"]) == 3


def test_stores_are_plain_hdf5(workspace):
    manifest = json.loads((workspace / "activations" / "demo-test" / "manifest.json").read_text())
    with h5py.File(workspace / "activations" / "demo-test" / manifest["shards"][0]["file"]) as shard:
        assert shard["activations"].shape == (150 * 64, 192) and shard["activations"].dtype == np.float16


def reached(run):
    """The last step that a run told of."""
    return run.status.progress.done if run.status.progress else 0


def wait_for(run, state, seconds=120):
    deadline = time.monotonic() + seconds
    while run.status.state != state:
        assert time.monotonic() < deadline, run.status
        time.sleep(0.1)


def test_a_detached_run_is_followed_stopped_killed_and_resumed(workspace):
    train = ("train", "demo-train", "--expansion", 2, "--k", 4, "--batch-size", 256, "--steps", STEPS)
    once = saetui_json(*train, "--name", "once", cwd=workspace)
    started = saetui_json(*train, "--name", "detached", "--checkpoint-every", 100, "--detach", cwd=workspace)
    run = Run(workspace / "runs" / started["run"])
    while not reached(run) > 150:
        assert run.status.state in ("starting", "running"), run.status
        time.sleep(0.05)
    assert run.id in saetui("jobs", cwd=workspace).stdout
    saetui("jobs", "stop", run.id, cwd=workspace)
    assert run.status.state == "stopped"
    stopped_at = reached(run)
    assert stopped_at < STEPS

    saetui("jobs", "resume", run.id, cwd=workspace)
    wait_for(run, "running")
    while not reached(run) > stopped_at:
        time.sleep(0.05)
    os.kill(run.status.pid, signal.SIGKILL)
    wait_for(run, "died")

    saetui("jobs", "resume", "last", cwd=workspace)
    followed = saetui("jobs", "follow", run.id, cwd=workspace)
    assert "done" in followed.stdout
    weights = [(workspace / "saes" / name / "sae.safetensors").read_bytes() for name in ("once", "detached")]
    assert weights[0] == weights[1], "stopped and killed, it ends with the same bytes"
    assert run.status.result["fve"] == once["fve"]


def begin(*arguments, cwd):
    """A command under way, and the run that it made."""
    before = {path.name for path in (cwd / "runs").iterdir()}
    command = [sys.executable, "-m", "saetui", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (made := {path.name for path in (cwd / "runs").iterdir()} - before):
        assert process.poll() is None
        time.sleep(0.05)
    run = Run(cwd / "runs" / made.pop())
    while not reached(run) > 150:
        assert process.poll() is None
        time.sleep(0.05)
    return process, run


def test_ctrl_c_and_a_kill_leave_a_training_that_goes_on(workspace):
    train = ("train", "demo-train", "--expansion", 2, "--k", 4, "--batch-size", 256, "--steps", STEPS)
    train = (*train, "--checkpoint-every", 100, "--name", "attached")
    process, run = begin(*train, cwd=workspace)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and run.status.state == "stopped"
    assert "Continue with: saetui train demo-train" in said

    process, run = begin(*train, cwd=workspace)
    process.kill()
    wait_for(run, "died")
    saetui(*train, cwd=workspace)
    weights = [(workspace / "saes" / name / "sae.safetensors").read_bytes() for name in ("once", "attached")]
    assert weights[0] == weights[1]


def test_a_plan_makes_a_grid_and_skips_what_is_there(workspace):
    (workspace / "plan.toml").write_text(
        """
        [[train]]
        activations = "demo-train"
        name = "{arch}-x{expansion}"
        arch = ["topk", "batchtopk"]
        expansion = [1, 2]
        k = 4
        steps = 20
        batch_size = 256
        """
    )
    stages = saetui_json("run", "plan.toml", cwd=workspace)["stages"]
    assert [stage["name"] for stage in stages] == ["topk-x1", "topk-x2", "batchtopk-x1", "batchtopk-x2"]
    written = (workspace / "saes" / "topk-x1" / "sae.safetensors").stat().st_mtime_ns
    again = [{**stage, "result": {**stage["result"], "made": False}} for stage in stages]
    assert saetui_json("run", "plan.toml", cwd=workspace)["stages"] == again != stages
    assert (workspace / "saes" / "topk-x1" / "sae.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nothing", "--name", "x"], ["nothing", "demo-train"]),
        (["steer", "demo", "--latent", "99999=1"], ["99999", "191"]),
        (["steer", "demo", "--latent", "1=1", "--image", "labels.txt"], ["labels.txt"]),
        (["extract", "--images", "nowhere", "--name", "x"], ["nowhere"]),
        (["extract", "--images", "images/test", "--name", "x", "--model", "hf:no/such"], ["no/such"]),
        (["neurons", "nothing"], ["nothing", "it has", "demo"]),
        (["show", "nothing"], ["nothing"]),
        (["ms", "A.npy", "labels.txt"], ["labels.txt"]),
        (["jobs", "stop", "zzz"], ["zzz"]),
    ],
)
def test_mistakes_are_one_sentence(workspace, arguments, words):
    runs = sorted(p.name for p in (workspace / "runs").iterdir())
    done = saetui(*arguments, cwd=workspace, code=2)
    assert done.stdout == "" and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert sorted(p.name for p in (workspace / "runs").iterdir()) == runs


def test_a_newer_format_is_refused(workspace):
    config = workspace / "saes" / "topk-x1" / "config.json"
    if not config.exists():
        pytest.skip("the plan's test did not run")
    write_json(config, json.loads(config.read_text()) | {"version": 99})
    done = saetui("encode", "topk-x1", "demo-test", "--out", "x.npz", cwd=workspace, code=2)
    assert "99" in done.stderr and "upgrade" in done.stderr
