"""The plan of the authors' released SAEs, on files made to their layout: imported, scored, steered, beside people."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.activations.matrix_files import read_matrix
from engine.config import PlanSettings
from engine.demo.world import write_images
from engine.errors import UserError
from engine.metrics.monosemanticity import monosemanticity
from engine.models.encoder import VisionEncoder
from engine.runs.expected_plan import expected_plan
from engine.runs.plan import check_plan, check_stages, read_plan, run_plan, shipped
from engine.sae.config import read_config
from engine.workspace import Workspace

IMAGES, LATENTS = 16, 24
RUN = "imagenet_train_activations_clip-vit-large-patch14-336_{}_matroyshka_batch_top_k_8_x1/trainer_0"
PLACES = {
    "last": "cls/-1_post_projection",
    "layer22": "cls/22_post_mlp_residual",
    "steered": "random_k_2/22_post_mlp_residual",
}


def published(folder: Path, d: int, seed: int) -> None:
    """What the paper's scripts leave: a config that names neither model nor layer, and a state dict."""
    chance = torch.Generator().manual_seed(seed)
    W_dec = torch.nn.functional.normalize(torch.randn(LATENTS, d, generator=chance), dim=1)
    tensors = {"W_enc": W_dec.T.contiguous(), "b_enc": torch.zeros(LATENTS), "W_dec": W_dec, "b_dec": torch.zeros(d)}
    sizes = torch.tensor([6, 6, 12])
    rest = {"k": torch.tensor(8, dtype=torch.int32), "threshold": torch.tensor(0.0), "group_sizes": sizes}
    folder.mkdir(parents=True)
    torch.save(tensors | rest, folder / "ae.pt")
    trainer = {"dict_class": "MatroyshkaBatchTopKSAE", "activation_dim": d, "dict_size": LATENTS, "k": 8}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer | {"layer": "", "lm_name": ""}}))


def benchmark(folder: Path) -> None:
    """Four latents on the images, and pairs of them."""
    folder.mkdir()
    A = np.random.default_rng(0).random((4, IMAGES))
    rows = [",".join(map(str, (k, *values))) for k, values in enumerate(A.tolist())]
    (folder / "activations.csv").write_text("\n".join(rows))
    pairs = [f"{x},{y},x,.2,.1" for x in range(4) for y in range(x)]
    (folder / "pairs.csv").write_text("\n".join(["k_x,k_y,R_user,MS_x_dino,MS_y_dino", *pairs]))


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """The inputs of the plan, with the demo in place of CLIP and LLaVA."""
    for seed, (name, place) in enumerate(PLACES.items()):
        published(tmp_path / "released" / _run(place), 128 if name == "last" else 192, seed)
    write_images(tmp_path / "val", IMAGES, 5)
    benchmark(tmp_path / "human")
    folders = [f"{name}={tmp_path / name}" for name in ("released", "val", "human")]
    demo = ["model=demo", "layer=layer:4", "tokens=patches", "vlm=demo", "dinov2=demo:encoder", "clip=demo"]
    return [*folders, *demo, *(f"{name}={_run(place)}" for name, place in PLACES.items())]


def _run(place: str) -> str:
    below, point = place.split("/")
    return f"{below}/{RUN.format(point)}"


def test_it_imports_scores_steers_and_asks_people(
    workspace: Workspace, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    forward = VisionEncoder.activations

    def counting(self: VisionEncoder, inputs: Any, hooks: Any, images: int | None = None) -> Any:
        judged.extend([images] if images and self.spec == "demo:encoder" else [])
        return forward(self, inputs, hooks, images)

    monkeypatch.setattr(VisionEncoder, "activations", counting)
    few = 'vlm = "$vlm"\npart = ["dose"]\ndoses = [1.0]\ncount = 1\nmin_support = 1\npictures = 0\n'
    (plan := tmp_path / "few.toml").write_text(shipped()["paper-released"].read_text().replace('vlm = "$vlm"\n', few))
    asked = PlanSettings(plan=str(plan), input=tuple(given))
    assert {one.state for one in expected_plan(asked, workspace).stages} == {"to do"}
    done = run_plan(asked, workspace).stages
    assert [one.stage for one in done] == [
        *["extract"] * 2, *["import"] * 3, *["score"] * 6, "steerability", *["agreement"] * 2, *["figure"] * 3,
    ]  # fmt: skip
    assert sum(images for images in judged if images > 1) == IMAGES, "scores take what was kept for the benchmark"
    read = {name: read_config(workspace.sae(f"released-{name}")) for name in PLACES}
    assert {name: (one.model, one.hook, one.tokens, one.groups) for name, one in read.items()} == {
        "last": ("demo", "last", "cls", (6, 12, 24)),
        "layer22": ("demo", "layer:4", "cls", (6, 12, 24)),
        "steered": ("demo", "layer:4", "patches", (6, 12, 24)),
    }
    A = np.loadtxt(tmp_path / "human/activations.csv", delimiter=",")[:, 1:].T
    for judge, one in zip(("dinov2", "clip"), [one for one in done if one.stage == "agreement"], strict=True):
        E = read_matrix(workspace.embeddings(f"imagenet-{judge}"))
        ms = monosemanticity(A.astype(np.float32), E, interval=False).ms
        share = np.mean([ms[x] > ms[y] for x in range(4) for y in range(x)])
        (of_file, ours) = one.result["scores"]
        assert (of_file["score"], ours["score"]) == ("MS by dino", "MS")
        assert ours["agreement"]["weighted"] == pytest.approx(share) and of_file["agreement"]["weighted"] == 1
    assert {file.name for file in (workspace.root / "figures").iterdir()} == {"ms.svg", "top-images.svg", "dose.svg"}
    there = {one.task: one.state for one in expected_plan(asked, workspace).stages}
    assert there == {**dict.fromkeys(there, "there"), "agreement": "to do", "figure": "to do"}


def test_the_plan_that_is_brought_can_be_run_as_it_is(workspace: Workspace, given: list[str]) -> None:
    plan = shipped()["paper-released"]
    stages = read_plan(plan, workspace, given)
    check_plan(stages, workspace, plan)
    check_stages(stages, workspace, plan)
    assert {one.task for one in stages} == {"extract", "import", "score", "steerability", "agreement", "figure"}
    brought = [one.settings.name for one in stages if one.task == "import"]
    scored = {(one.settings.sae, one.settings.embed_with) for one in stages if one.task == "score"}
    assert len(scored) == 2 * len(brought) and {sae for sae, _ in scored} == set(brought), "all, by both judges"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("last=nowhere", r"\[\[import\]\]: .*released/nowhere does not exist"),
        ("layer=22", r"\[\[import\]\]: "),
        ("human=/nowhere", r"\[\[agreement\]\]: /nowhere has no pairs.csv"),
    ],
)
def test_a_wrong_input_is_told_of_its_table(change: str, says: str, workspace: Workspace, given: list[str]) -> None:
    asked = PlanSettings(plan="paper-released", input=(*given, change))
    with pytest.raises(UserError, match=says):
        expected_plan(asked, workspace)
