import numpy as np
import pytest

from engine.demo.pipeline import choose
from engine.demo.world import COLOURS, KINDS
from engine.errors import UserError

CONCEPTS = len(KINDS) + len(COLOURS)


def test_a_latent_is_chosen_on_one_split_and_measured_on_the_other():
    labels = np.eye(CONCEPTS, dtype=bool)
    found = choose(labels[:, ::-1] * np.float32(3), labels, labels[:, ::-1] * np.float32(5), labels)
    assert [c.latent for c in found] == list(range(CONCEPTS))[::-1]
    assert all(c.auroc == 1 and c.maximum == 3 for c in found)
    blind = choose(labels.astype(np.float32), labels, np.zeros_like(labels, np.float32), labels)
    assert all(c.auroc == 0.5 for c in blind), "the training images' figure is never reported"


def test_too_few_pictures_are_said_in_words():
    labels = np.eye(CONCEPTS, dtype=bool)
    values = labels.astype(np.float32)
    with pytest.raises(UserError, match=r"fish.*--pictures"):
        choose(values, labels, values, labels & (np.arange(CONCEPTS) > 0))
