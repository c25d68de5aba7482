"""What a checkpoint brings back: all that the steps after it depend on."""

import torch

from engine.sae.architectures.batchtopk import BatchTopK
from engine.sae.checkpoint import restore, save_checkpoint
from engine.sae.state import Checkpointed, read_state
from engine.sae.train import find_dead
from engine.sae.training_sae import TrainingSAE


def made(seed: int) -> tuple[TrainingSAE, torch.optim.Adam]:
    model = TrainingSAE(BatchTopK(1, 0.5), 6, 24, seed)
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


def step(model: TrainingSAE, optimiser: torch.optim.Adam, number: int) -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(number))
    loss = model.loss(x)
    loss.total.backward()
    optimiser.step()
    optimiser.zero_grad()
    model.constrain()
    model.observe(loss, len(x), 0.9, number)


def test_a_step_after_it_is_the_one_that_would_have_followed(tmp_path):
    """The counters of dead latents, their list, which a GPU renews every 16 steps, and Adam's moments with the rest."""
    whole, adam = made(0)
    for number in range(4):
        step(whole, adam, number)
    whole.dead = find_dead(whole, 10)
    assert whole.dead is not None and 0 < len(whole.dead) < 24 and whole.theta > 0
    save_checkpoint(
        tmp_path, whole, adam, Checkpointed(identity={"steps": 9}, step=4, scale=2.5, history=(), threads=1)
    )
    state = read_state(tmp_path)
    assert state is not None and (state.step, state.scale) == (4, 2.5)
    again, other_adam = made(1)
    restore(tmp_path, state, again, other_adam)
    for _ in range(2):
        assert again.dead is not None and torch.equal(again.dead, whole.dead)
        for name, value in whole.state_dict().items():
            assert torch.equal(again.state_dict()[name], value), name
        for model, optimiser in ((whole, adam), (again, other_adam)):
            step(model, optimiser, 4)
