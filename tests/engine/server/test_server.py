"""The model server as the interface meets it: a real process, small models of the real classes."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.config import SteerSettings
from engine.errors import UserError
from engine.files import write_text
from engine.images import open_image
from engine.models import HookPoint, load_encoder
from engine.models.vlm import load_vlm
from engine.runs.run import environment, python_module
from engine.sae.config import read_config, write_config
from engine.sae.model import SAE
from engine.server.__main__ import GONE, Asked, Server
from engine.server.client import ModelServer
from engine.server.handlers import Handlers
from engine.server.protocol import (
    Answer,
    Cancelled,
    Done,
    Failed,
    FindImageLatents,
    LoadAhead,
    Loading,
    PointFound,
    RankByText,
    StageBegan,
    Sweep,
    TellStatus,
    Token,
    Warned,
    read_event,
)
from engine.server.reporting import RequestReporter
from engine.steer.compare import steer
from engine.steer.generate import answer
from engine.steer.interventions import Intervention, attached
from engine.steer.results import ANSWERS
from engine.workspace import MARKER, Workspace
from tests.support.scores import changing
from tests.support.served import PATIENCE, Served, make_workspace, write_scores
from tests.test_ways_out import SENTENCES

W = 64
PATCHES = 16


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def workspace(root):
    return make_workspace(root)


@pytest.fixture(scope="module")
def served(workspace):
    served = Served(workspace)
    yield served
    served.server.close()


@pytest.fixture
def ask(root):
    """A question that works, to vary."""

    def make(kind=Answer, **changes):
        given = {"sae": "s", "vlm": str(root / "llava"), "image": str(root / "images/0.png"), "prompt": "what is it",
                 "max_new_tokens": 12, "device": "cpu"}  # fmt: skip
        own = {name: changes.pop(name) for name in ("over", "values", "neurons") if name in changes}
        return kind(SteerSettings(**{**given, **changes}), **own)

    return make


@pytest.fixture
def endless(ask, root):
    return ask(vlm=str(root / "endless"), max_new_tokens=100_000, latent=("5=30",))


@pytest.fixture(scope="module")
def vlm(root):
    return load_vlm(str(root / "llava"), "cpu")


@pytest.fixture(scope="module")
def clip(root):
    return load_encoder(str(root / "clip"))


# Loading ahead


def test_what_was_loaded_ahead_is_not_loaded_by_the_question(served, ask):
    status = served.result(ask(LoadAhead, image="blank"))
    assert {one.kind for one in status.loaded} >= {"vlm", "sae"}
    number = served.server.ask(ask())
    assert isinstance(served.end(number), Done) and not served.of(number, Loading)


def test_nothing_is_loaded_ahead_into_the_last_memory_nor_from_the_hub(workspace, ask, monkeypatch):
    handlers = Handlers(workspace)
    reporter = RequestReporter(lambda event: None, lambda: None)
    monkeypatch.setattr("engine.server.handlers.free_memory", lambda device: 1 << 30)
    with pytest.raises(UserError, match=r"takes 1\.07 GB, and 1\.07 GB of memory are free: the first question loads"):
        handlers.load_ahead(ask(LoadAhead), reporter)
    with pytest.raises(UserError, match="not on this machine: the first question fetches it"):
        handlers.load_ahead(ask(LoadAhead, vlm="hf:nobody/nothing"), reporter)
    assert not handlers.models.vlms.values()


# Answers


@pytest.mark.parametrize(
    "changes",
    [
        {"latent": ("5=30",)},
        {"latent": ("5=2x", "7=-3"), "keep_error": True},
        {"latent": ("5=9", "7=-20"), "mode": "add"},
        {"latent": ("5", "9"), "mode": "ablate", "image": "blank:red"},
        {"latent": ("5=40",), "mode": "scale", "tokens": "0,3-9"},
    ],
)
def test_answers_are_those_of_the_command(served, workspace, ask, changes):
    request = ask(**changes)
    id = served.server.ask(request)
    result = served.end(id).result
    assert result == steer(request.question, workspace)
    tokens = served.of(id, Token)
    for name in ANSWERS:
        assert "".join(token.text for token in tokens if token.answer == name) == getattr(result, name)
    generated = dict.fromkeys(token.answer for token in tokens if not token.cached)
    assert [stage.name for stage in served.of(id, StageBegan)] == ["load", *generated]


def test_only_what_changed_is_generated(served, ask):
    def cached(**changes):
        id = served.server.ask(ask(prompt="what is this", **changes))
        assert isinstance(served.end(id), Done)
        return {token.answer for token in served.of(id, Token) if token.cached}

    assert cached(latent=("5=30",)) == set()
    assert cached(latent=("5=31",)) == {"untouched", "attached"}
    assert cached(latent=("5=31",), mode="add") == {"untouched", "attached"}
    assert cached(latent=("5=31",)) == {"untouched", "attached", "steered"}
    assert cached(latent=("5=31",), keep_error=True) == {"untouched"}
    assert cached(latent=("5=31",), tokens="1") == {"untouched"}
    assert cached(latent=("5=31",), image="blank") == set()
    assert cached(latent=("5=31",), max_new_tokens=11) == set()
    assert cached(latent=("5=31",), dtype="bfloat16") == set(), "another model"


def test_an_empty_rack_steers_nothing(served, ask):
    result = served.result(ask(prompt="a star"))
    assert result.steered == result.attached


def test_an_sae_that_is_trained_anew_is_loaded_anew(served, workspace, ask):
    request = ask(latent=("5=30",), sae="retrained")
    folder = workspace.sae("retrained")
    sae = SAE.load(workspace.sae("s"))
    sae.save(folder)
    first = served.result(request)
    sae.W_dec.neg_()
    sae.save(folder)
    second = served.result(request)
    assert second == steer(request.question, workspace)
    assert second != first


def test_equal_weights_at_another_hook_point_are_another_sae(served, workspace, ask):
    SAE.load(workspace.sae("s")).save(workspace.sae("twin"))
    config = read_config(workspace.sae("twin"))
    write_config(workspace.sae("twin"), replace(config, hook="layer:1"))
    requests = [ask(latent=("5=30",), sae=name) for name in ("s", "twin")]
    assert [served.result(request) for request in requests] == [steer(r.question, workspace) for r in requests]


def test_an_image_of_a_source(served, root, ask):
    by_source = served.result(ask(image=f"{root / 'images'}::1.png", latent=("5=30",)))
    assert by_source == served.result(ask(image=str(root / "images/1.png"), latent=("5=30",)))


# Cancelling


def first_token(served, id):
    served.until(lambda: served.of(id, Token))


def test_cancelled_in_the_middle_of_a_stream(served, endless):
    id = served.server.ask(endless)
    first_token(served, id)
    pid = served.server.pid
    asked = time.monotonic()
    served.server.cancel(id)
    assert served.end(id) == Cancelled()
    assert time.monotonic() - asked < 2
    assert served.result(TellStatus()).pid == pid


def test_a_new_question_supersedes_those_before_it(served, ask, endless):
    running = served.server.ask(endless)
    status = served.server.ask(TellStatus())
    waiting = served.server.ask(endless, supersede=False)
    first_token(served, running)
    newest = served.server.ask(ask(latent=("5=30",)))
    assert [served.end(id) for id in (running, waiting)] == [Cancelled(), Cancelled()]
    assert not served.of(waiting, Token)
    assert all(isinstance(served.end(id), Done) for id in (status, newest))


def test_a_sweep_stops_between_tokens(served, ask, endless, root):
    id = served.server.ask(
        ask(Sweep, vlm=str(root / "endless"), max_new_tokens=100_000, over=5, values=(1.0, 2.0, 3.0))
    )
    served.until(lambda: served.of(id, StageBegan))
    served.server.cancel()
    assert served.end(id) == Cancelled()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["ask", "add", "status", "cancel", "all"]), st.integers(0, 5)), max_size=12
    )
)
def test_every_request_ends_exactly_once(served, ask, steps):
    asked = []
    for what, number in steps:
        if what == "cancel" and asked:
            served.server.cancel(asked[number % len(asked)])
        elif what == "all":
            served.server.cancel()
        elif what == "status":
            asked.append(served.server.ask(TellStatus(), supersede=False))
        elif what in ("ask", "add"):
            asked.append(served.server.ask(ask(latent=(f"{number}=30",)), supersede=what == "ask"))
    last = served.server.ask(TellStatus(), supersede=False)
    ends = [served.end(id) for id in asked]
    assert isinstance(served.end(last), Done)
    assert all(isinstance(end, Done | Cancelled) for end in ends)


def test_nothing_waits_when_pipes_are_full(served, ask):
    """Neither side reads for a while: questions are taken at once all the same, and none is lost."""
    go_on = threading.Event()
    served.on_event = lambda event: go_on.wait(PATIENCE)
    started = time.monotonic()
    asked = [served.server.ask(ask(prompt="tree " * 4000, latent=("5=30",))) for _ in range(60)]
    last = served.server.ask(ask(latent=("5=30",)))
    assert time.monotonic() - started < 1
    go_on.set()
    assert all(isinstance(served.end(id), Done | Cancelled) for id in asked)
    assert isinstance(served.end(last), Done)
    served.on_event = lambda event: None


# Dose-response, looking, text


def test_a_sweep_is_one_answer_after_the_other(served, workspace, root, ask, vlm, clip):
    values = tuple(float(v) for v in range(-20, 40, 5))
    request = ask(Sweep, latent=("5=7", "9=-4"), over=5, values=values, neurons="s--val", keep_error=True)
    id = served.server.ask(request)
    points = served.end(id).result.points
    assert list(points) == [event.point for event in served.of(id, PointFound)]
    assert [p.answer_of for p in points] == ["untouched", "attached", *["steered"] * len(values)]
    assert [p.value for p in points] == [None, None, *values]

    sae, image = SAE.load(workspace.sae("s")), open_image(request.question.image)
    inputs = vlm.inputs([image], ["what is it"])
    with torch.inference_mode():
        p = vlm.model(**inputs).logits[0, -1].double().softmax(-1)
    direction, mean = stored(workspace)
    rack = [None, Intervention(keep_error=True)]
    rack += [Intervention(latents=((9, -4.0), (5, value)), keep_error=True) for value in values]
    for point, one in zip(points, rack, strict=True):
        if one is None:
            assert point.answer == answer(vlm, image, "what is it", 12)
            assert point.damage == 0
        else:
            with attached(vlm, sae, one), torch.inference_mode():
                assert point.answer == answer(vlm, image, "what is it", 12)
                q = vlm.model(**inputs).logits[0, -1].double().softmax(-1)
            assert point.damage == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-3, abs=1e-6)
        said = centred(clip, point.answer, mean)
        assert point.concept == pytest.approx(float(direction[5] @ said), abs=1e-5)
    assert len({p.answer for p in points}) > 2


def stored(workspace):
    with h5py.File(workspace.neurons("s", "val")) as file:
        return file["latents/directions"][()].astype(float), file["words/mean"][()].astype(float)


def centred(clip, text, mean):
    u = clip.embed_text([text])[0].double().numpy()
    u = u / np.linalg.norm(u) - mean
    return u / np.linalg.norm(u)


def test_no_concept_is_told_where_there_is_none(served, root, ask, workspace):
    request = {"over": 3, "values": (1.0,), "latent": ()}
    without = served.result(ask(Sweep, **request)).points
    no_direction = served.result(ask(Sweep, neurons="s--val", **request)).points
    assert {p.concept for p in without + no_direction} == {None}
    path = write_scores(workspace, "cls", root / "clip")
    id = served.server.ask(ask(Sweep, neurons=str(path), **request))
    assert {p.concept for p in served.end(id).result.points} == {None}
    assert "another SAE than s" in served.of(id, Warned)[0].message


def test_text_ranks_latents(served, workspace, clip):
    directions, mean = stored(workspace)
    cosines = directions @ centred(clip, "a red fish", mean)
    expected = sorted(set(range(W)) - {3}, key=lambda n: -cosines[n])
    found = served.result(RankByText("s--val", "a red fish")).latents
    assert [n for n, _ in found] == expected
    np.testing.assert_allclose([c for _, c in found], cosines[expected], atol=1e-5)
    assert served.result(RankByText("s--val", "a red fish", top=4)).latents == found[:4]


def latents(workspace, clip, name, hook, image):
    """Of all tokens of the image."""
    hook = HookPoint.parse(hook)
    with torch.inference_mode():
        x = clip.activations(clip.preprocess([image]), [hook])[hook]
    return x[0], SAE.load(workspace.sae(name)).encode


def strongest(values, scale, number):
    order = sorted(np.flatnonzero(values > 0).tolist(), key=lambda n: -values[n] / scale[n])[:number]
    return order


@pytest.mark.parametrize("scored", [False, True])
def test_looking_at_patches(served, workspace, root, clip, scored):
    image = open_image(str(root / "images/2.png"))
    x, encode = latents(workspace, clip, "s", "layer:2", image)
    z = encode(x[1:]).numpy()
    scale = np.ones(W, np.float32)
    if scored:
        with h5py.File(workspace.neurons("s", "val")) as file:
            scale = file["latents/maximum"][()]
        scale[3] = 1
    given = {"neurons": "s--val"} if scored else {"sae": "s"}
    seen = served.result(FindImageLatents(image=f"{root / 'images'}::2.png", **given))
    assert seen.grid == (4, 4) and len(seen.patches) == PATCHES == len(z)
    for found, values, number in [
        (seen.image, z.max(0), 100),
        *zip(seen.patches, z, [12] * PATCHES, strict=True),
    ]:
        assert [n for n, _ in found] == strongest(values, scale, number)
        np.testing.assert_allclose([v for _, v in found], values[[n for n, _ in found]], rtol=1e-5)


@pytest.mark.parametrize("shown", ["white", "uncovered"])
def test_looking_through_an_image_as_the_sae_did(served, workspace, root, clip, shown):
    clear = open_image(str(root / "images/2.png")).convert("RGBA")
    clear.putalpha(0)
    clear.save(root / "clear.png")
    sae = SAE.load(workspace.sae("s"))
    sae.config = replace(sae.config, transparency=shown)
    sae.save(workspace.sae(shown))
    x, encode = latents(workspace, clip, shown, "layer:2", open_image(str(root / "clear.png"), shown))
    z = encode(x[1:]).numpy().max(0)
    seen = served.result(FindImageLatents(image=str(root / "clear.png"), sae=shown))
    assert [n for n, _ in seen.image] == strongest(z, np.ones(W), 100) != []


@pytest.mark.parametrize(("name", "hook"), [("cls", "layer:1"), ("mean", "layer:1"), ("pooled", "last")])
def test_looking_with_one_token_an_image(served, workspace, root, clip, name, hook):
    image = open_image(str(root / "images/2.png"))
    x, encode = latents(workspace, clip, name, hook, image)
    z = encode(x[1:].mean(0) if name == "mean" else x[0]).numpy()
    seen = served.result(FindImageLatents(image=str(root / "images/2.png"), sae=name))
    assert seen.grid is None and seen.patches == ()
    assert [n for n, _ in seen.image] == strongest(z, np.ones(W), 100) != []
    np.testing.assert_allclose([v for _, v in seen.image], z[[n for n, _ in seen.image]], rtol=1e-4)


def test_a_full_accelerator_has_a_way_out_that_is_taken(workspace):
    (message,) = {text for _, text in SENTENCES if "accelerator's memory is full" in text and "workbench" in text}
    line = re.search(r"with (.*) in workspace.toml", message)[1]
    place = Workspace(workspace.root / "elsewhere")
    write_text(place.root / MARKER, line + "\n")
    assert Handlers(place)._device("auto") == torch.device("cpu")
    write_text(place.root / MARKER, 'device = "tpu"\n')
    with pytest.raises(UserError, match="tpu"):
        Handlers(place)._device("auto")
    assert Handlers(place)._device("cpu") == torch.device("cpu")


def test_status_tells_what_is_loaded(served, root, ask):
    served.result(ask(latent=("5=30",)))
    served.result(ask(latent=("5=30",), sae="cls"))
    status = served.result(TellStatus())
    kinds = [(one.kind, one.name) for one in status.loaded]
    assert kinds.count(("vlm", str(root / "llava"))) == 1
    assert sorted(name for kind, name in kinds if kind == "sae") == ["cls", "s"]
    assert status.pid == served.server.pid
    assert 5e7 < status.memory.rss < 5e9
    assert status.memory.gpu is None or status.memory.gpu.used <= status.memory.gpu.total


# Mistakes and bugs


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sae": "nothing"}, "No SAE named 'nothing'"),
        ({"vlm": "/nowhere"}, "There is no directory /nowhere"),
        ({"latent": ("pencil",)}, "is not LATENT=VALUE"),
        ({"latent": ("64=1",)}, "There is no latent 64"),
        ({"image": "nowhere.png"}, "There is no image nowhere.png"),
        ({"image": "/nowhere::a.png"}, "No images at /nowhere"),
        ({"sae": "pooled"}, "last cannot steer"),
        ({"device": "tpu"}, "not a device"),
        ({"max_new_tokens": 0}, "tokens"),
        ({"mode": "louder"}, "question.mode: none of clamp, add, scale, ablate"),
        ({"prompt": None}, "question.prompt: null is not text"),
    ],
)
def test_mistakes_are_sentences(served, ask, changes, says):
    error = served.refusal(ask(**changes))
    assert says in error and "\n" not in error


def test_mistakes_of_other_requests(served, ask, root, workspace):
    requests = [
        (ask(Sweep, over=64, values=(1.0,)), "There is no latent 64"),
        (ask(Sweep, over=1, values=()), "at least one number"),
        (ask(Sweep, over=1, values=(float("nan"),)), "finite"),
        (ask(Sweep, over=1, values=(1.0,), mode="ablate"), "always sets 0"),
        (ask(Sweep, over=1, values=("much",)), 'values[0]: "much" is not a number'),
        (RankByText(neurons="s--val", text=" "), "type a text"),
        (RankByText(neurons="nothing", text="x"), "no artefact 'nothing'"),
        (FindImageLatents(image="blank"), "give an SAE or a neurons file"),
        (FindImageLatents(image=str(root / "clip/config.json"), sae="s"), "not an image"),
        (FindImageLatents(image="blank", sae="cls", neurons="s--val"), "another SAE than cls"),
    ]
    for request, says in requests:
        error = served.refusal(request)
        assert says in error and "\n" not in error


def test_nonsense_on_the_wire_is_logged_and_ended_by_the_end_of_stdin(workspace):
    process = subprocess.run(
        python_module("engine.server", str(workspace.root)),
        input=b'{"kind": \n[]\n{"kind": "cancel", "id": 7}\n',
        capture_output=True,
        env=environment(),
        timeout=PATIENCE,
        start_new_session=True,  # as it is started: it is its own session whose niceness it sets
    )
    assert process.returncode == GONE
    assert process.stdout == b""
    assert process.stderr.count(b"Traceback") == 2


def test_files_without_directions_are_told_apart(served, workspace, root):
    path = write_scores(workspace, "s", root / "clip", "old")
    with changing(path) as file:
        del file["latents/directions"]
    assert "score again" in served.refusal(RankByText(neurons="s--old", text="x"))


def test_scores_whose_parts_do_not_fit_are_damaged(served, workspace, root):
    path = write_scores(workspace, "s", root / "clip", "odd")
    with changing(path) as file:
        del file["latents/maximum"]
        file["latents/maximum"] = np.ones(3, np.float32)  # not one a latent
    assert "s--odd.h5 is damaged (maximum has 3 rows" in served.refusal(FindImageLatents("blank", neurons="s--odd"))


def test_a_bug_is_told_and_logged_and_survived(workspace, capsys):
    told = io.BytesIO()
    server = Server(workspace, told)
    for number, request in enumerate(["what nobody can ask", TellStatus()]):
        server._work(Asked(number, request))
    (_, bug), (_, done) = (read_event(line) for line in told.getvalue().splitlines()[-2:])
    assert isinstance(bug, Failed) and not bug.mistake and bug.error.startswith("AssertionError")
    assert "Traceback" in capsys.readouterr().err
    assert isinstance(done, Done) and done.result.pid == os.getpid()


# Ends of processes


def test_killed_in_the_middle_of_an_answer(served, ask, endless):
    running = served.server.ask(endless)
    waiting = served.server.ask(TellStatus())
    first_token(served, running)
    killed = served.server.pid
    os.kill(killed, signal.SIGKILL)
    for id in (running, waiting):
        end = served.end(id)
        assert isinstance(end, Failed) and not end.mistake
        assert "killed by signal 9" in end.error and "server.log" in end.error
        assert "\n" not in end.error
    assert not served.server.alive

    loading = served.server.ask(endless)  # starts another, which is stopped while it loads
    served.until(lambda: served.of(loading, Loading))
    assert served.server.alive and served.server.pid != killed
    asked = time.monotonic()
    served.server.restart()
    assert served.end(loading) == Cancelled()
    assert time.monotonic() - asked < 2
    assert not served.server.alive
    assert served.result(ask(latent=("5=30",))).untouched


def test_a_closed_server_stays_closed(workspace):
    server = ModelServer(workspace, None, print)
    server.close()
    with pytest.raises(UserError, match="closed"):
        server.ask(TellStatus())
    assert not server.alive


def test_a_log_that_cannot_be_written(workspace):
    server = ModelServer(workspace, Path("/proc/nothing/log"), print)
    with pytest.raises(UserError, match="cannot be started"):
        server.ask(TellStatus())


PARENT = """
import sys, threading
from pathlib import Path
from engine.config import SteerSettings
from engine.server.client import ModelServer
from engine.server.protocol import Answer, Loading, Token
from engine.workspace import Workspace

root, kind = Path(sys.argv[1]), sys.argv[2]

def on_event(number, event):
    if isinstance(event, {"token": Token, "loading": Loading}[kind]) and getattr(event, "seconds", 1) > 0:
        print(server.pid, flush=True)

server = ModelServer(Workspace(root / "work"), None, on_event)
question = SteerSettings(
    sae="s", vlm=str(root / "endless"), latent=("5=30",), max_new_tokens=100_000, device="cpu"
)
server.ask(Answer(question))
assert not {"torch", "numpy"} & set(sys.modules)
threading.Event().wait()
"""


def test_the_server_dies_with_the_interface(workspace, root):
    """Also when the interface is killed, while the server generates or loads."""
    parents = {
        kind: subprocess.Popen([sys.executable, "-c", PARENT, str(root), kind], stdout=subprocess.PIPE, text=True)
        for kind in ("loading", "token")
    }
    for parent in parents.values():
        server = int(parent.stdout.readline())
        assert runs(server)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        killed = time.monotonic()
        while runs(server):
            assert time.monotonic() - killed < 2
            time.sleep(0.01)


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
