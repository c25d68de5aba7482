"""Tiny vision-language models of the real classes, with their real processors, saved as their library saves them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t

from tests.support.tiny_llava import TEMPLATE, word_tokenizer

VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
SQUARE = {"height": 32, "width": 32}
PINPOINTS = [[32, 64], [64, 32], [64, 64]]
MERGED = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
Made = tuple[Any, Any]


def text_config(tokenizer: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer), "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, **more,
    }  # fmt: skip


def save_vlm(family: str, folder: Path) -> Path:
    """A model of ``family`` whose random weights are large enough for images and latents to change its answers."""
    model, processor = VLMS[family]()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    model.generation_config.update(eos_token_id=2, pad_token_id=3, bos_token_id=1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _added(*names: str, **roles: str) -> tuple[Any, list[int]]:
    """A tokenizer that knows ``names``, some of them by their ``roles``, and their numbers."""
    tokenizer = word_tokenizer(**roles)
    tokenizer.add_tokens(list(names), special_tokens=True)
    return tokenizer, tokenizer.convert_tokens_to_ids(list(names))


def llava() -> Made:
    return _llava(t.LlavaConfig, t.LlavaForConditionalGeneration)


def vip_llava() -> Made:
    more = {"vision_feature_layers": [-2, -3]}
    return _llava(t.VipLlavaConfig, t.VipLlavaForConditionalGeneration, **more)


def _llava(config: Any, model: Any, **more: Any) -> Made:
    tokenizer = word_tokenizer()
    made = config(
        vision_config=t.CLIPVisionConfig(**VISION),
        text_config=t.LlamaConfig(**text_config(tokenizer)),
        image_token_index=4,
        **more,
    )
    processor = t.LlavaProcessor(
        image_processor=t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return model(made), processor


def llava_next() -> Made:
    tokenizer = word_tokenizer()
    config = t.LlavaNextConfig(
        vision_config=t.CLIPVisionConfig(**VISION),
        text_config=t.LlamaConfig(**text_config(tokenizer)),
        image_token_index=4,
        image_grid_pinpoints=PINPOINTS,
    )
    processor = t.LlavaNextProcessor(
        image_processor=t.LlavaNextImageProcessor(
            size={"shortest_edge": 32}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return t.LlavaNextForConditionalGeneration(config), processor


def llava_onevision() -> Made:
    tokenizer, (video,) = _added("<video>")
    config = t.LlavaOnevisionConfig(
        vision_config=t.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=t.Qwen2Config(**text_config(tokenizer)),
        image_token_index=4,
        video_token_index=video,
        image_grid_pinpoints=PINPOINTS,
    )
    processor = t.LlavaOnevisionProcessor(
        image_processor=t.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=PINPOINTS),
        tokenizer=tokenizer,
        video_processor=t.LlavaOnevisionVideoProcessor(size=SQUARE),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )
    return t.LlavaOnevisionForConditionalGeneration(config), processor


def pixtral_llava() -> Made:
    tokenizer = _pixtral_tokenizer()
    config = t.LlavaConfig(
        vision_config=t.PixtralVisionConfig(**{**VISION, "image_size": 64}),
        text_config=t.MistralConfig(**text_config(tokenizer), head_dim=24),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return t.LlavaForConditionalGeneration(config), _pixtral_processor(tokenizer, 1)


def mistral3() -> Made:
    tokenizer = _pixtral_tokenizer()
    config = t.Mistral3Config(
        vision_config=t.PixtralVisionConfig(**{**VISION, "image_size": 64}),
        text_config=t.MistralConfig(**text_config(tokenizer), head_dim=24),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )
    return t.Mistral3ForConditionalGeneration(config), _pixtral_processor(tokenizer, 2)


def _pixtral_tokenizer() -> Any:
    return _added("[IMG]", "[IMG_BREAK]", "[IMG_END]")[0]


def pixtral_images() -> Any:
    return t.PixtralImageProcessor(size={"longest_edge": 64}, patch_size={"height": 8, "width": 8})


def _pixtral_processor(tokenizer: Any, merge: int) -> Any:
    images = t.PixtralImageProcessor(size={"longest_edge": 64}, patch_size={"height": 8 * merge, "width": 8 * merge})
    return t.PixtralProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=8,
        spatial_merge_size=merge,
        chat_template=TEMPLATE.replace("<image>", "[IMG]"),
    )


def paligemma() -> Made:
    tokenizer = word_tokenizer()
    config = t.PaliGemmaConfig(
        vision_config=t.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=t.GemmaConfig(**text_config(tokenizer), head_dim=24),
        image_token_index=4,
        projection_dim=48,
    )
    images = t.SiglipImageProcessor(size=SQUARE)
    images.image_seq_length = 16
    processor = t.PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)
    return t.PaliGemmaForConditionalGeneration(config), processor


def gemma3() -> Made:
    names = ("<boi>", "<eoi>", "<soft>")
    tokenizer, (begin, end, soft) = _added(*names, boi_token=names[0], eoi_token=names[1], image_token=names[2])
    config = t.Gemma3Config(
        vision_config=t.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=t.Gemma3TextConfig(**text_config(tokenizer), head_dim=24),
        mm_tokens_per_image=4,
        boi_token_index=begin,
        eoi_token_index=end,
        image_token_index=soft,
    )
    processor = t.Gemma3Processor(
        image_processor=t.Gemma3ImageProcessor(size=SQUARE),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=TEMPLATE.replace("<image>", "<boi>"),
    )
    return t.Gemma3ForConditionalGeneration(config), processor


def qwen2_vl() -> Made:
    vision = {"depth": 4, "embed_dim": 32, "hidden_size": 48, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    return _qwen(t.Qwen2VLConfig, t.Qwen2VLForConditionalGeneration, t.Qwen2VLProcessor, vision, [2, 4, 6])


def qwen2_5_vl() -> Made:
    vision = {
        "depth": 4, "hidden_size": 32, "out_hidden_size": 48, "intermediate_size": 64, "num_heads": 2, "patch_size": 8,
        "window_size": 32, "fullatt_block_indexes": [1, 3],
    }  # fmt: skip
    return _qwen(t.Qwen2_5_VLConfig, t.Qwen2_5_VLForConditionalGeneration, t.Qwen2_5_VLProcessor, vision, [2, 4, 6])


def qwen3_vl() -> Made:
    vision = {
        "depth": 4, "hidden_size": 32, "out_hidden_size": 48, "intermediate_size": 64, "num_heads": 2, "patch_size": 8,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    return _qwen(t.Qwen3VLConfig, t.Qwen3VLForConditionalGeneration, t.Qwen3VLProcessor, vision, [4, 4, 4], head_dim=24)


def _qwen(config: Any, model: Any, processor: Any, vision: Any, sections: list[int], **more: Any) -> Made:
    tokenizer, (image, video, start, end) = _added(*MERGED, image_token=MERGED[0])
    rope = {"rope_type": "default", "mrope_section": sections, "rope_theta": 10000.0}
    made = config(
        vision_config=vision,
        text_config=text_config(tokenizer, rope_parameters=rope, **more),
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    videos = t.Qwen3VLVideoProcessor if model is t.Qwen3VLForConditionalGeneration else t.Qwen2VLVideoProcessor
    return model(made), processor(
        image_processor=t.Qwen2VLImageProcessor(patch_size=8, min_pixels=1024, max_pixels=4096),
        tokenizer=tokenizer,
        video_processor=videos(patch_size=8),
        chat_template=TEMPLATE.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>"),
    )


def idefics3() -> Made:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer, _ = _added("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *tiles)
    config = t.Idefics3Config(
        vision_config=VISION, text_config=text_config(tokenizer, model_type="llama"), image_token_id=4, scale_factor=2
    )
    images = t.Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = t.Idefics3Processor(images, tokenizer=tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    return t.Idefics3ForConditionalGeneration(config), processor


def idefics2() -> Made:
    names = ("<fake_token_around_image>", "<end_of_utterance>")
    tokenizer, _ = _added(*names, image_token="<image>", image_boundary_token=names[0], end_of_utterance_token=names[1])
    config = t.Idefics2Config(
        vision_config=VISION,
        perceiver_config={"model_type": "idefics2_perceiver", "resampler_n_latents": 4, "resampler_depth": 1,
                          "resampler_n_heads": 2, "resampler_head_dim": 8, "num_key_value_heads": 1,
                          "hidden_size": 48},
        text_config=text_config(tokenizer, model_type="mistral", head_dim=24),
        image_token_id=4,
    )  # fmt: skip
    images = t.Idefics2ImageProcessor(size={"shortest_edge": 24, "longest_edge": 32}, do_image_splitting=False)
    processor = t.Idefics2Processor(images, tokenizer=tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    return t.Idefics2ForConditionalGeneration(config), processor


def internvl() -> Made:
    names = ("<img>", "</img>", "<IMG_CONTEXT>", "<video>")
    roles = ("start_image_token", "end_image_token", "context_image_token", "video_token")
    tokenizer, ids = _added(*names, **dict(zip(roles, names, strict=True)))
    config = t.InternVLConfig(
        vision_config={**VISION, "image_size": [32, 32], "patch_size": [8, 8]},
        text_config=text_config(tokenizer, model_type="qwen2"),
        image_token_id=ids[2],
        image_seq_length=4,
    )
    processor = t.InternVLProcessor(
        image_processor=internvl_images(),
        tokenizer=tokenizer,
        video_processor=t.InternVLVideoProcessor(size=SQUARE),
        image_seq_length=4,
        chat_template=TEMPLATE.replace("<image>", "<IMG_CONTEXT>"),
    )
    return t.InternVLForConditionalGeneration(config), processor


def internvl_images() -> Any:
    return t.GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=6)


def aya_vision() -> Made:
    names = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL")
    tokenizer, ids = _added(*names)
    config = t.AyaVisionConfig(
        vision_config=t.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=text_config(tokenizer, model_type="cohere2", head_dim=24),
        image_token_index=ids[2],
        downsample_factor=2,
        adapter_layer_norm_eps=1e-6,
    )
    processor = t.AyaVisionProcessor(
        image_processor=t.GotOcr2ImageProcessor(size=SQUARE, max_patches=4),
        tokenizer=tokenizer,
        patch_size=8,
        img_size=32,
        downsample_factor=2,
        chat_template=TEMPLATE,
    )
    return t.AyaVisionForConditionalGeneration(config), processor


def mllama() -> Made:
    tokenizer, (image,) = _added("<|image|>")
    config = t.MllamaConfig(
        vision_config={
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_global_layers": 2,
            "attention_heads": 2, "image_size": 32, "patch_size": 8, "vision_output_dim": 96, "max_num_tiles": 4,
            "intermediate_layers_indices": [1, 2],
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1], [2, 2], [1, 3], [3, 1], [1, 4], [4, 1]],
        },
        text_config=text_config(tokenizer, cross_attention_layers=[1]),
        image_token_index=image,
    )  # fmt: skip
    processor = t.MllamaProcessor(
        image_processor=t.MllamaImageProcessor(size=SQUARE, max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template=TEMPLATE.replace("<image>", "<|image|>"),
    )
    return t.MllamaForConditionalGeneration(config), processor


def blip2() -> Made:
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer().backend_tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    config = t.Blip2Config(
        vision_config={**VISION},
        qformer_config={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
                        "encoder_hidden_size": 32, "vocab_size": len(tokenizer)},
        text_config={"model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 48, "word_embed_proj_dim": 48,
                     "ffn_dim": 96, "num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": 1,
                     "eos_token_id": 2, "pad_token_id": 3},
        num_query_tokens=4,
        image_token_index=4,
    )  # fmt: skip
    processor = t.Blip2Processor(t.BlipImageProcessor(size=SQUARE), tokenizer, num_query_tokens=4)
    return t.Blip2ForConditionalGeneration(config), processor


VLMS: dict[str, Callable[[], Made]] = {
    "LLaVA": llava,
    "VipLLaVA": vip_llava,
    "LLaVA-NeXT": llava_next,
    "LLaVA-OneVision": llava_onevision,
    "Pixtral": pixtral_llava,
    "Mistral 3": mistral3,
    "PaliGemma": paligemma,
    "Gemma 3": gemma3,
    "Qwen2-VL": qwen2_vl,
    "Qwen2.5-VL": qwen2_5_vl,
    "Qwen3-VL": qwen3_vl,
    "Idefics2": idefics2,
    "Idefics3": idefics3,
    "InternVL": internvl,
    "Aya Vision": aya_vision,
    "Mllama": mllama,
    "BLIP-2": blip2,
}
