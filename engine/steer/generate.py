"""What a vision-language model says about an image: one answer as a stream, many in batches, and the next token."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from engine.errors import UserError, counted
from engine.models.vlm import VLM
from engine.sae.model import SAE
from engine.steer.asked import check_length
from engine.steer.interventions import Intervention, attached

Interventions = Intervention | Sequence[Intervention | None] | None


def answer(
    vlm: VLM,
    image: Image.Image,
    prompt: str,
    max_new_tokens: int = 24,
    on_text: Callable[[str], None] | None = None,
) -> str:
    """The greedy answer to ``prompt`` about ``image``, without special tokens.

    ``on_text`` receives the text in pieces as it is generated; together they are the answer. What it raises ends the
    generation.
    """
    streamer = None if on_text is None else TextStream(vlm.processor.tokenizer, on_text)
    ids = _generate(vlm, vlm.inputs([image], [prompt]), max_new_tokens, streamer)[0]
    return _text(vlm, ids)


def answers(
    vlm: VLM,
    images: Sequence[Image.Image],
    prompt: str | Sequence[str],
    max_new_tokens: int = 24,
    *,
    sae: SAE | None = None,
    interventions: Interventions = None,
    batch_size: int = 32,
    check: Callable[[], None] | None = None,
) -> list[str]:
    """``answer`` for many images, ``batch_size`` at a time; one prompt for all, or one an image.

    ``interventions`` (through ``sae``): one for all images, or one an image, in which None leaves an image untouched.
    ``check`` is called after every token; what it raises ends the generation.
    """
    prompts = [prompt] * len(images) if isinstance(prompt, str) else list(prompt)
    if len(prompts) != len(images):
        raise UserError(
            f"The prompts are {len(prompts)} for {counted(len(images), 'image')}: give one for all, or one an image."
        )
    each = _each(interventions, len(images))
    said: list[str] = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        if not vlm.alone:
            inputs = vlm.inputs(list(images[part]), prompts[part])
            with _through(vlm, sae, each[part]):
                said += [_text(vlm, ids) for ids in _generate(vlm, inputs, max_new_tokens, _Steps(check))]
            continue
        for image, question, one in zip(images[part], prompts[part], each[part], strict=True):
            with _through(vlm, sae, one):
                ids = _generate(vlm, vlm.inputs([image], [question]), max_new_tokens, _Steps(check))[0]
                said.append(_text(vlm, ids))
    return said


def next_token_logits(
    vlm: VLM,
    image: Image.Image,
    prompt: str,
    *,
    sae: SAE | None = None,
    interventions: Sequence[Intervention | None] = (None,),
) -> Float[Tensor, "intervention vocabulary"]:
    """Logits of the first token of the answer under each of ``interventions`` (None: untouched), in float32."""
    n = len(interventions)
    if not vlm.alone:
        with _through(vlm, sae, interventions):
            return _first_logits(vlm, vlm.inputs([image] * n, [prompt] * n))
    rows = []
    for one in interventions:
        with _through(vlm, sae, one):
            rows.append(_first_logits(vlm, vlm.inputs([image], [prompt])))
    return torch.cat(rows)


def next_token_kl(
    vlm: VLM, image: Image.Image, prompt: str, sae: SAE, interventions: Sequence[Intervention]
) -> Float[Tensor, " intervention"]:
    """The damage that each intervention does: KL(p || q) = sum p (ln p - ln q) over the vocabulary, in nats.

    p is the untouched model's distribution of the first token of its answer, q the steered one's; in float64.
    """
    logits = next_token_logits(vlm, image, prompt, sae=sae, interventions=[None, *interventions])
    log_p, *log_q = logits.double().log_softmax(-1)
    if not log_q:
        return logits.new_zeros(0, dtype=torch.float64)
    return (log_p.exp() * (log_p - torch.stack(log_q))).sum(-1).clamp(min=0.0)  # rounding may leave -1e-17


@dataclass(frozen=True, eq=False)
class Spoken:
    """Greedy answers of the untouched model to one prompt about several images."""

    inputs: BatchFeature
    ids: list[list[int]]
    """The tokens of each answer, up to and with its end token."""
    logits: list[Float[Tensor, "_ vocabulary"]]
    """Of each answer, token by token, before any setting of generation changes them; in float32."""


def spoken(
    vlm: VLM,
    images: Sequence[Image.Image],
    prompt: str,
    max_new_tokens: int = 24,
    check: Callable[[], None] | None = None,
) -> Spoken:
    """What the model says untouched, and how likely every token was to it. One image where the model is ``alone``.

    ``check`` is called after every token; what it raises ends the generation.
    """
    inputs, config = vlm.inputs(list(images), [prompt] * len(images)), _greedy(vlm, max_new_tokens)
    out = _generate_with_logits(vlm, inputs, config, check)
    ids = [_until_end(row, config) for row in out.sequences[:, inputs["input_ids"].shape[1] :].tolist()]
    return Spoken(inputs, ids, _by_answer(out.logits, ids))


def forced(
    vlm: VLM, said: Spoken, sae: SAE, intervention: Intervention, check: Callable[[], None] | None = None
) -> list[Float[Tensor, "_ vocabulary"]]:
    """The logits of the same tokens under ``intervention``: each after those that were ``said``, whatever it would say
    itself (teacher forcing)."""
    config = _greedy(vlm, max(map(len, said.ids)))
    with attached(vlm, sae, intervention):
        out = _generate_with_logits(vlm, said.inputs, config, check, [_Forced(said.ids)])
    return _by_answer(out.logits, said.ids)


def _generate_with_logits(
    vlm: VLM,
    inputs: BatchFeature,
    config: GenerationConfig,
    check: Callable[[], None] | None,
    processors: Sequence[LogitsProcessor] = (),
) -> Any:
    config.update(output_logits=True, return_dict_in_generate=True)
    given = {
        "generation_config": config,
        "streamer": _Steps(check),
        "logits_processor": LogitsProcessorList(processors),
    }
    with torch.inference_mode(), _mismatch_explained(vlm):
        return vlm.model.generate(**inputs, **given)


def _by_answer(steps: Sequence[Tensor], ids: list[list[int]]) -> list[Tensor]:
    """``steps``: of each token, the logits of all answers."""
    return [torch.stack([step[row] for step in steps[: len(answer)]]).float() for row, answer in enumerate(ids)]


class _Forced(LogitsProcessor):
    """Lets the model say nothing but the given tokens, one after the other; anything after their end."""

    def __init__(self, ids: list[list[int]]):
        self.ids, self.step = ids, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        only = scores.clone()
        for row, answer in enumerate(self.ids):
            if self.step < len(answer):
                only[row] = -torch.inf
                only[row, answer[self.step]] = 0.0
        self.step += 1
        return only


class _Steps(BaseStreamer):
    """Calls ``check`` after every token of a batch."""

    def __init__(self, check: Callable[[], None] | None):
        self.check = check

    def put(self, value: Tensor) -> None:
        if self.check:
            self.check()

    def end(self) -> None:
        pass


class TextStream(BaseStreamer):
    """Turns the tokens of one answer into pieces of text, which together are the answer.

    A piece is held back while its last character is not complete (a character may take several tokens), and while
    text already given out would change (some tokenizers take back the space before a full stop).
    """

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]):
        self.tokenizer = tokenizer
        self.on_text = on_text
        self.ids: list[int] = []
        self.given = ""
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        if not self._prompt_seen:  # generate hands over the prompt first
            self._prompt_seen = True
            return
        self.ids += value.reshape(-1).tolist()
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if self.tokenizer.clean_up_tokenization_spaces:
            text = text.rpartition(" ")[0]
        self._give(text.rstrip("\ufffd"))

    def end(self) -> None:
        self._give(self.tokenizer.decode(self.ids, skip_special_tokens=True))

    def _give(self, text: str) -> None:
        if len(text) > len(self.given) and text.startswith(self.given):
            piece, self.given = text[len(self.given) :], text
            self.on_text(piece)


def _generate(
    vlm: VLM, inputs: BatchFeature, max_new_tokens: int, streamer: BaseStreamer | None = None
) -> list[list[int]]:
    """New token ids of each row, up to and with its end token."""
    config = _greedy(vlm, max_new_tokens)
    with torch.inference_mode(), _mismatch_explained(vlm):
        out = vlm.model.generate(**inputs, generation_config=config, streamer=streamer)
    return [_until_end(row, config) for row in out[:, inputs["input_ids"].shape[1] :].tolist()]


def _greedy(vlm: VLM, max_new_tokens: int) -> GenerationConfig:
    """The model's own generation settings, without chance."""
    check_length(max_new_tokens)
    config = copy.deepcopy(vlm.model.generation_config)
    config.update(do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None)
    config.update(max_new_tokens=max_new_tokens, max_length=None)
    if config.pad_token_id is None:  # rows of a batch that end early are filled up with it, and cut off again
        config.pad_token_id = next(iter(_end_ids(config)), 0)
    return config


def _end_ids(config: GenerationConfig) -> list[int]:
    ends = config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def _until_end(ids: list[int], config: GenerationConfig) -> list[int]:
    ends = _end_ids(config)
    length = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
    return ids[:length]


def _first_logits(vlm: VLM, inputs: BatchFeature) -> Float[Tensor, "row vocabulary"]:
    config = _greedy(vlm, 1)
    config.update(output_logits=True, return_dict_in_generate=True)
    with torch.inference_mode(), _mismatch_explained(vlm):
        out = vlm.model.generate(**inputs, generation_config=config)
    return out.logits[0].float()


def _text(vlm: VLM, ids: list[int]) -> str:
    return vlm.processor.tokenizer.decode(ids, skip_special_tokens=True)


def _through(vlm: VLM, sae: SAE | None, given: Interventions) -> AbstractContextManager[None]:
    if given is None or (not isinstance(given, Intervention) and all(one is None for one in given)):
        return nullcontext()
    if sae is None:
        raise UserError("Interventions need the SAE whose latents they change: give one.")
    return attached(vlm, sae, given)


def _each(given: Interventions, n: int) -> list[Intervention | None]:
    if given is None or isinstance(given, Intervention):
        return [given] * n
    if len(given) != n:
        raise UserError(
            f"The interventions are {len(given)} for {counted(n, 'image')}: give one for all, or one an image."
        )
    return list(given)


class _mismatch_explained:
    """Says in a sentence what LLaVA means by unequal counts of image features and image tokens."""

    def __init__(self, vlm: VLM):
        self.spec = vlm.spec

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError) and "mage features and image tokens" in str(error):
            raise UserError(
                f"The processor of {self.spec} makes another number of image tokens than its vision tower gives "
                "features: correct patch_size, num_additional_image_tokens and vision_feature_select_strategy in its "
                "processor_config.json."
            ) from error
