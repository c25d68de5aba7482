"""Tiny language models of the real classes, saved as their library saves them."""

from pathlib import Path

import torch
import transformers as t

from tests.support.tiny_llava import word_tokenizer

CHAT = "{% for m in messages %}USER: {{ m['content'] }}{% endfor %} ASSISTANT:"


def save_chat_model(folder: Path, replies: str = "yes no") -> Path:
    """An instruction model with random weights whose tokenizer knows the words of ``replies``."""
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(replies.split())
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    model = t.LlamaForCausalLM(
        t.LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024,
            bos_token_id=1, eos_token_id=2, pad_token_id=3,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_text_model(folder: Path) -> Path:
    """A BERT with random weights."""
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    model = t.BertModel(
        t.BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=64, pad_token_id=3,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
