"""From a folder as the SAEs of arXiv 2504.02821 are published to a steered answer."""

import json
from pathlib import Path

import torch

from engine.config import ImportSettings, SteerSettings
from engine.sae.exchange import import_sae
from engine.sae.model import SAE
from engine.steer.compare import steer
from tests.engine.steer.test_attached import by_hand
from tests.support.layouts import png
from tests.support.shell import in_pipe
from tests.support.tiny_llava import LATENTS, WIDTH, picture, random_sae

RUN = "imagenet_train_activations_clip-vit-large-patch14-336_2_post_mlp_residual_matroyshka_batch_top_k_8_x2"


def published(original: SAE, place: Path) -> Path:
    """The folder in which the paper's scripts leave an SAE; its config names neither model nor layer."""
    folder = place / RUN / "trainer_0"
    folder.mkdir(parents=True)
    tensors = {name: one.data for name, one in original.named_parameters()}
    sizes = torch.tensor([LATENTS // 4, LATENTS // 4, LATENTS // 2])
    whole = tensors | {"threshold": tensors["threshold"][0].clone(), "k": torch.tensor(8, dtype=torch.int32)}
    torch.save(whole | {"group_sizes": sizes}, folder / "ae.pt")
    trainer = {"dict_class": "MatryoshkaBatchTopKSAE", "activation_dim": WIDTH, "dict_size": LATENTS, "k": 8}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer | {"layer": "", "lm_name": ""}}))
    return folder


def test_a_published_sae_steers_as_the_original_object_does(workspace, llava_folder, vlm, tmp_path):
    original = random_sae(arch="batchtopk")  # by_hand reads nothing but its tensors
    folder = published(original, tmp_path)
    picture().save(tmp_path / "image.png")

    answers = {"model": str(llava_folder), "hook": "layer:2", "tokens": "all"}
    import_sae(ImportSettings(source=str(folder), name="published", **answers), workspace)
    asked = {"sae": "published", "vlm": str(llava_folder), "image": str(tmp_path / "image.png"), "device": "cpu"}
    found = steer(SteerSettings(**asked, prompt="what is it", latent=("5=30",), max_new_tokens=12), workspace)

    assert found.steered == by_hand(vlm, original, picture(), layer=2, latents=((5, 30.0),))
    assert found.attached == by_hand(vlm, original, picture(), layer=2, latents=())
    assert found.steered != found.untouched


def test_from_a_published_folder_to_an_answer_in_the_four_commands_of_the_readme(llava_folder, vlm, tmp_path):
    original = random_sae(arch="batchtopk")
    folder = published(original, tmp_path)
    picture().save(tmp_path / "image.png")
    (tmp_path / "images").mkdir()
    for number in range(12):
        (tmp_path / "images" / f"{number}.png").write_bytes(png(number))
    reads = ("--model", str(llava_folder), "--hook", "layer:2", "--tokens", "all")
    asked = ("--vlm", str(llava_folder), "--image", "image.png", "--prompt", "what is it", "--latent", "5=30")
    commands = (
        ("import", str(folder), "--name", "published", *reads),
        ("score", "published", "--images", "images", "--embed-with", "demo"),
        ("neurons", "published", "--top", "3"),
        ("steer", "published", *asked, "--max-new-tokens", "12", "--device", "cpu", "--json"),
    )
    for command in commands:
        done = in_pipe(*command, cwd=tmp_path)
        assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["steered"] == by_hand(vlm, original, picture(), layer=2, latents=((5, 30.0),))
    assert answer["steered"] != answer["untouched"]
