"""Configurations, tokenizers and processors of the demo's models, in the ordinary classes of transformers.

The models are small but not special: ``from_pretrained`` and ``AutoProcessor.from_pretrained`` load what ``save``
writes.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

from engine.demo.talk import NOTHING, REQUESTS, THING, Statement
from engine.demo.words import BACKGROUNDS, COLOURS, FILLS, GROUPS, KINDS
from engine.demo.world import SIDE

PATCH = 8
PATCHES = (SIDE // PATCH) ** 2
ENCODER_PATCH = 16
WIDTH = 192

# Index 2 is avoided for </s>: CLIPTextModel gives that value a legacy meaning.
SPECIAL = ("<pad>", "<s>", "<unk>", "</s>", "<image>")
PAD, BOS, UNK, EOS, IMAGE = range(5)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'].upper() }}: "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %} "
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def words() -> list[str]:
    """The vocabulary of questions and answers, special tokens first."""
    split = pre_tokenizers.Whitespace()
    text = " ".join(
        [
            f"a an and on background empty picture with {NOTHING} {THING}",
            *KINDS,
            *GROUPS,
            *COLOURS,
            *FILLS,
            *BACKGROUNDS,
            *(request.say(Statement()) for request in REQUESTS.values()),
            *(question for request in REQUESTS.values() for question in request.questions),
            "user: assistant: , . ! ? : ;",
        ]
    )
    found = dict.fromkeys(word for word, _ in split.pre_tokenize_str(text.lower()))
    return [*SPECIAL, *found]


def tokenizer(end: bool, padding_side: str, longest: int) -> PreTrainedTokenizerFast:
    """One token per word, in lower case; texts start with <s>, and end with </s> if ``end``."""
    vocabulary = {word: index for index, word in enumerate(words())}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if end else "<s> $A", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    inner.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side=padding_side,
        model_max_length=longest,
    )


TEXT_LENGTH, CHAT_LENGTH = 64, 256
"""The most tokens that CLIP and LLaVA read."""


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=6,
        num_attention_heads=6,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_act="gelu",
        projection_dim=128,
    )


def new_clip() -> CLIPModel:
    text = CLIPTextConfig(
        vocab_size=len(words()),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        hidden_act="gelu",
        projection_dim=128,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision_config(), projection_dim=128))


def new_llava() -> LlavaForConditionalGeneration:
    text = LlamaConfig(
        vocab_size=len(words()),
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CHAT_LENGTH,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=IMAGE,
        image_seq_length=PATCHES,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.pad_token_id = PAD
    model.generation_config.bos_token_id = BOS
    model.generation_config.eos_token_id = EOS
    model.generation_config.max_new_tokens = 32
    return model


def new_encoder() -> Dinov2Model:
    """The independent encoder: its architecture, weights and world seed differ from the CLIP's, and it saw no text."""
    config = Dinov2Config(
        hidden_size=WIDTH,
        num_hidden_layers=4,
        num_attention_heads=6,
        mlp_ratio=4,
        image_size=SIDE,
        patch_size=ENCODER_PATCH,
        layerscale_value=1.0,
    )
    return Dinov2Model(config)


def _pixels() -> dict[str, Any]:
    return {
        "do_resize": True,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"shortest_edge": SIDE},
    }


def clip_processor() -> CLIPProcessor:
    return CLIPProcessor(
        CLIPImageProcessor(**_pixels()), tokenizer(end=True, padding_side="right", longest=TEXT_LENGTH)
    )


def llava_processor() -> LlavaProcessor:
    return LlavaProcessor(
        CLIPImageProcessor(**_pixels()),
        tokenizer(end=False, padding_side="left", longest=CHAT_LENGTH),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def encoder_processor() -> BitImageProcessor:
    return BitImageProcessor(**_pixels())


def save(model: PreTrainedModel, processor: ProcessorMixin | BitImageProcessor, folder: Path) -> None:
    """Write a complete checkpoint with weights in float16. The folder appears, or is replaced, as a whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    copy.deepcopy(model).to(torch.float16).save_pretrained(partial)
    processor.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
