"""What is known of formats and architectures without torch is what there is."""

from engine.sae import asked
from engine.sae.architectures import REGISTRY
from engine.sae.architectures.topk import TopKFamily
from engine.sae.convert import FORMATS


def test_the_formats_and_the_architectures_are_those_that_there_are() -> None:
    assert tuple(FORMATS) == asked.FORMATS
    assert {name for name, one in REGISTRY.items() if issubclass(one, TopKFamily)} == set(asked.TOPK)
