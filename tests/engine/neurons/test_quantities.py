"""What is declared of quantities holds together."""

from dataclasses import replace

import pytest

from engine.neurons.quantities import QUANTITIES, Quantity, check_order


@pytest.mark.parametrize("of", ["image_frequency", "gain", "late"])
def test_a_quantity_above_what_it_is_made_of_is_refused_at_import(of: str) -> None:
    early = Quantity("early", "", "float64", made_by="engine.metrics.firing:image_frequency", of=(of,))
    late = replace(early, name="late", of=("activations",))
    with pytest.raises(ValueError, match=f"early is made of {of}: declare it below {of}"):
        check_order([early, *QUANTITIES, late])
    if of != "gain":  # which is never made
        check_order([*QUANTITIES, late, early])
