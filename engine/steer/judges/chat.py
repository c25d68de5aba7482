"""The judge that is a local instruction model of transformers, asked greedily."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engine.errors import UserError, reason
from engine.files import path_of, value_sha256
from engine.integrity import content_sha256
from engine.models.encoder import refusing_odd
from engine.models.from_transformers import quiet
from engine.models.hub import check_notation, hub_folder
from engine.models.patience import within
from engine.models.vlm import PATIENCE
from engine.steer.judges import Case, Given, Verdict
from engine.steer.judges.questions import ASKS, IDENTITY, REPLY_TOKENS, question, read_reply


class ChatJudge:
    """Asks the questions of :mod:`engine.steer.judges.questions` in the model's own chat format."""

    name = "chat"
    asks = ASKS

    def __init__(self, folder: Path, spec: str, device: Any, batch_size: int = 32):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            with quiet():
                tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                model: Any = AutoModelForCausalLM.from_pretrained(
                    folder,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype=torch.float32 if torch.device(device).type == "cpu" else "auto",
                )
        except (OSError, ValueError) as error:
            raise UserError(
                f"Cannot load {spec} as a chat model ({reason(error)}): give one of transformers, in safetensors."
            ) from error
        if not tokenizer.chat_template:
            raise UserError(f"{spec} has no chat template: give an instruction model to --chat-model.")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._tokenizer, self._model, self._batch = tokenizer, model.to(device).eval().requires_grad_(False), batch_size
        files = {file.name: content_sha256(file) for file in sorted(folder.glob("*.safetensors"))}
        self.model, self.identity = spec, value_sha256([IDENTITY, files, tokenizer.chat_template])

    def judge(self, cases: Sequence[Case]) -> list[Verdict]:
        found: list[Verdict] = []
        for start in range(0, len(cases), self._batch):
            texts = [self._turn(question(case)) for case in cases[start : start + self._batch]]
            found += [Verdict(read_reply(said), said.strip()) for said in self._replies(texts)]
        return found

    def _turn(self, text: str) -> str:
        asked = [{"role": "user", "content": text}]
        try:
            said = within(
                PATIENCE,
                lambda: self._tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False),
            )
        except Exception as error:  # a template raises whatever it likes
            raise UserError(f"The chat template of {self.model} fails ({reason(error)}): correct it.") from error
        return str(said)

    @torch.inference_mode()
    def _replies(self, texts: list[str]) -> list[str]:
        given = self._tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        ).to(self._model.device)
        given.pop("token_type_ids", None)
        out = self._model.generate(
            **given,
            max_new_tokens=REPLY_TOKENS,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        return self._tokenizer.batch_decode(out[:, given["input_ids"].shape[1] :], skip_special_tokens=True)


def load(given: Given) -> ChatJudge:
    spec = given.settings.chat_model
    check_notation(spec)
    folder = hub_folder(spec) if spec.startswith("hf:") else path_of(spec)
    with given.reporter.loading(f"the model {spec}", 0), refusing_odd(spec):
        return ChatJudge(folder, spec, given.device, given.settings.batch_size)
