from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engine.sae.architectures.topk import TopKFamily
from engine.sae.sparse_codes import Kept, largest
from engine.sae.training_sae import register


@register("batchtopk")
@dataclass(frozen=True)
class BatchTopK(TopKFamily):
    """The batch keeps its k * batch largest latents, so that a token may have more or fewer (arXiv 2412.06410).

    At inference, what exceeds one threshold: the mean over batches of the smallest latent that was kept.
    """

    has_threshold = True

    def keep(self, z: Float[Tensor, "batch w"]) -> Float[Tensor, "batch w"]:
        top = z.detach().flatten().topk(min(self.k * len(z), z.numel()), sorted=False).indices
        mask = torch.zeros(z.numel(), dtype=torch.bool, device=z.device).index_fill_(0, top, True)
        return z * mask.view_as(z)

    def kept(self, z: Float[Tensor, "batch w"], hint: float) -> Kept:
        flat = largest(z.flatten(), self.k * len(z), hint)
        return Kept(flat // z.shape[1], flat % z.shape[1], z.flatten()[flat], len(z))
