"""From a folder as the SAEs of arXiv 2504.02821 are published to a steered answer."""

import json

import torch

from engine.config import ImportSettings, SteerSettings
from engine.sae.exchange import import_sae
from engine.steer.compare import steer
from tests.engine.steer.test_attached import by_hand
from tests.support.tiny_llava import LATENTS, WIDTH, picture, random_sae


def test_a_published_sae_steers_as_the_original_object_does(workspace, llava_folder, vlm, tmp_path):
    original = random_sae(arch="batchtopk")  # by_hand reads nothing but its tensors
    run = "imagenet_train_activations_clip-vit-large-patch14-336_2_post_mlp_residual_matroyshka_batch_top_k_8_x2"
    folder = tmp_path / run / "trainer_0"
    folder.mkdir(parents=True)
    tensors = {name: one.data for name, one in original.named_parameters()}
    sizes = torch.tensor([LATENTS // 4, LATENTS // 4, LATENTS // 2])
    whole = tensors | {"threshold": tensors["threshold"][0].clone(), "k": torch.tensor(8, dtype=torch.int32)}
    torch.save(whole | {"group_sizes": sizes}, folder / "ae.pt")
    trainer = {"dict_class": "MatryoshkaBatchTopKSAE", "activation_dim": WIDTH, "dict_size": LATENTS, "k": 8}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer | {"layer": "", "lm_name": ""}}))
    picture().save(tmp_path / "image.png")

    answers = {"model": str(llava_folder), "hook": "layer:2", "tokens": "all"}
    import_sae(ImportSettings(source=str(folder), name="published", **answers), workspace)
    asked = {"sae": "published", "vlm": str(llava_folder), "image": str(tmp_path / "image.png"), "device": "cpu"}
    found = steer(SteerSettings(**asked, prompt="what is it", latent=("5=30",), max_new_tokens=12), workspace)

    assert found.steered == by_hand(vlm, original, picture(), layer=2, latents=((5, 30.0),))
    assert found.attached == by_hand(vlm, original, picture(), layer=2, latents=())
    assert found.steered != found.untouched
