"""Tiny LLaVAs of the real classes, saved like full-size ones, and random SAEs that fit them."""

from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from engine.sae.config import SAEConfig
from engine.sae.model import SAE

WIDTH, LATENTS, LAYERS = 32, 64, 4
TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
)
WORDS = "describe this image . what is it a an the red blue green fish tree house car star on in two and big small dark"


def word_tokenizer(**roles: str) -> PreTrainedTokenizerFast:
    """A tokenizer with a token per word. ``roles``: special tokens by what they are for; else the image's alone."""
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    words = [*special, "USER", "ASSISTANT", ":", *WORDS.split()]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return _wrapped(core, **roles)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a token per byte: characters beyond ASCII take several."""
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({piece: i for i, piece in enumerate([*special, *alphabet])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return _wrapped(core)


def _wrapped(core: Tokenizer, **roles: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=roles or {"image_token": "<image>"},
    )


def save_llava(folder: Path, *, tokenizer=None, template: str | None = TEMPLATE, seed: int = 0, **config) -> Path:
    """A LLaVA with random weights that are large enough for images and latents to change its answers."""
    tokenizer = tokenizer or word_tokenizer()
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=2,
                image_size=32, patch_size=8, projection_dim=16,
            ),
            text_config=LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
                bos_token_id=1, eos_token_id=2, pad_token_id=3,
            ),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            image_seq_length=16,
            **config,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    model.generation_config.update(eos_token_id=2, pad_token_id=3, bos_token_id=1)
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(folder)
    return folder


def random_sae(
    *, hook: str = "layer:2", d: int = WIDTH, w: int = LATENTS, arch: str = "batchtopk", seed: int = 1
) -> SAE:
    generator = torch.Generator().manual_seed(seed)
    sae = SAE(SAEConfig(arch=arch, d=d, w=w, k=8, hook=hook))
    rows = torch.nn.functional.normalize(torch.randn(w, d, generator=generator), dim=1)
    sae.W_dec.copy_(rows)
    sae.W_enc.copy_(rows.T)
    sae.b_enc.copy_(0.1 * torch.randn(w, generator=generator))
    sae.b_dec.copy_(0.1 * torch.randn(d, generator=generator))
    if sae.threshold is not None:
        sae.threshold.fill_(0.4)
    return sae


def exact_sae(hook: str = "layer:2", d: int = WIDTH) -> SAE:
    """Each coordinate and its negative have a latent: all is given back."""
    sae, eye = SAE(SAEConfig(arch="relu", d=d, w=2 * d, k=0, hook=hook)), torch.eye(d)
    sae.W_dec.copy_(torch.cat([eye, -eye]))
    sae.W_enc.copy_(sae.W_dec.T)
    return sae


def picture(seed: int = 0) -> Image.Image:
    pixels = torch.randint(0, 256, (40, 56, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())
