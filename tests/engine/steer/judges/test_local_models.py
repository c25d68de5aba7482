"""Judges that read with a model of transformers in a local folder."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from engine.errors import UserError
from engine.steer.judges import Case
from engine.steer.judges.chat import ChatJudge
from engine.steer.judges.questions import question, read_reply
from engine.steer.judges.text import SentenceModel
from tests.support.language_models import save_chat_model, save_text_model

CASES = [
    Case("appeared", "red", "what is it", "a red fish"),
    Case("followed", "", "describe this image .", "a car on the green tree and a house"),
    Case("kept", "fish", "what is it", "two big star", "a small dark fish"),
]


def test_a_chat_model_is_asked_in_its_own_format(tmp_path):
    folder = save_chat_model(tmp_path / "chat")
    judge = ChatJudge(folder, str(folder), "cpu", batch_size=2)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    for case, verdict in zip(CASES, judge.judge(CASES), strict=True):
        given = tokenizer(f"USER: {question(case)} ASSISTANT:", return_tensors="pt", add_special_tokens=False)
        given.pop("token_type_ids", None)
        out = model.generate(**given, max_new_tokens=8, do_sample=False)
        said = tokenizer.decode(out[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
        assert verdict.said == said.strip() and verdict.yes == read_reply(said)
    assert ChatJudge(folder, str(folder), "cpu").identity == judge.identity


def test_what_is_no_chat_model_is_said(tmp_path):
    folder = save_chat_model(tmp_path / "chat")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        ChatJudge(folder, "it", "cpu")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="Cannot load it as a chat model"):
        ChatJudge(folder, "it", "cpu")


def test_a_text_model_gives_the_mean_of_its_tokens(tmp_path):
    folder = save_text_model(tmp_path / "bert")
    model = SentenceModel(folder, "it", "cpu")
    texts = ["a red fish", "two big dark green house on the car"]
    tokenizer, bert = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for row, text in zip(model.embed(texts), texts, strict=True):
        with torch.no_grad():
            hidden = bert(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert row.tolist() == pytest.approx((sum(hidden) / len(hidden)).tolist(), abs=1e-4)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="Cannot load it as a text model"):
        SentenceModel(folder, "it", "cpu")
