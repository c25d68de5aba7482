"""What is measured on held-out images where the judge saw them in another order, and not all of them."""

import numpy as np
import pytest
import torch
from scipy import stats

from engine.activations.loader import Loader
from engine.metrics.matched_neurons import against, matched_ms
from engine.metrics.monosemanticity import monosemanticity
from engine.sae.config import SAEConfig
from engine.sae.held_out import HeldOut
from engine.sae.model import SAE
from tests.support.stores import write_store
from tests.support.trainings import activations


def test_what_the_judge_saw_is_found_by_the_image(workspace):
    rng = np.random.default_rng(0)
    store = write_store(workspace.activations("a"), activations()[0], tokens=4)
    seen = rng.permutation(300)[:220].tolist()
    E = rng.normal(size=(220, 8)).astype(np.float32)
    write_store(workspace.embeddings("e"), E, shows=seen)
    sae = SAE(SAEConfig(arch="relu", d=16, w=32))
    sae.W_enc.copy_(torch.from_numpy(rng.normal(size=(16, 32))))
    sae.W_dec.copy_(sae.W_enc.T)
    sae.b_enc.fill_(-6)
    loader = Loader(store, 64, 0, 0.4)
    found = HeldOut.of(loader, "e", workspace).measure(sae)

    held = loader.held_out.images.tolist()
    judged = [image for image in held if image in seen]
    assert judged != sorted(judged) and 40 < len(judged) < len(held)
    x = np.stack([store.read(4 * image, 4 * image + 4) for image in judged])
    judge = E[[seen.index(image) for image in judged]]
    own = monosemanticity(sae.encode(torch.from_numpy(x)).amax(1).numpy(), judge)
    control = against(own.ms, matched_ms(x.max(1), (-x).max(1), judge, own.support))
    assert 0 < np.median(own.support) < len(judged)
    assert found.ms == pytest.approx(own.mean, rel=1e-5)
    assert (found.ms_matched, found.ms_beaten) == pytest.approx((control.mean, control.share_beaten), rel=1e-5)
    known = own.ms[~np.isnan(own.ms)]
    ends = stats.t.interval(0.95, len(known) - 1, known.mean(), stats.sem(known))
    assert (found.ms_latents, found.ms_matched_latents) == (len(known), control.latents)
    assert (found.ms_low, found.ms_high) == pytest.approx(ends, rel=1e-5)
    assert (found.ms_matched_low, found.ms_matched_high) == pytest.approx((control.low, control.high), rel=1e-5)
