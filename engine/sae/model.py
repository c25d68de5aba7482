"""The SAE that is saved and used: encode, decode, load, save. Raw-activation units, inference semantics."""

import errno
import re
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.errors import UserError, reason, refusal
from engine.files import atomic_path, open_tensors
from engine.sae.architectures import REGISTRY
from engine.sae.config import WEIGHTS, SAEConfig, read_config, weights_sha256, write_config


class SAE(nn.Module):
    """A sparse autoencoder over raw activations.

    ``z = (x - b_dec) @ W_enc + b_enc``, cut at 0 and sparsified to ``a`` as ``config.arch`` says,
    ``x_hat = a @ W_dec + b_dec`` (formulas: arXiv 2504.02821). Parameters: ``W_enc (d, w)``, ``b_enc (w)``,
    ``W_dec (w, d)``, ``b_dec (d)`` and, where the architecture has one, ``threshold (w)`` (else None). They are frozen;
    training has its own class.

    At inference a batchtopk SAE keeps what exceeds its one threshold (stored w times), so that the latents of a
    token do not depend on the tokens beside it.
    """

    W_enc: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter
    threshold: nn.Parameter | None

    def __init__(self, config: SAEConfig):
        super().__init__()
        self.config = config
        self.register_parameter("threshold", None)
        for name, shape in shapes(config).items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))

    @classmethod
    def of(cls, config: SAEConfig, weights: dict[str, Tensor]) -> "SAE":
        """An SAE with these tensors, in float32, on their device."""
        sae = cls(config).to(weights["W_enc"].device)
        sae.load_state_dict(weights)
        return sae

    def preactivations(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch w"]:
        """``(x - b_dec) @ W_enc + b_enc``: latents before the architecture cuts them and makes them sparse."""
        if x.shape[-1] != self.config.d:
            raise UserError(
                f"This SAE reads activations {self.config.d} wide, these are {x.shape[-1]} wide: "
                f"take activations of {self.config.model or 'the model'} at {self.config.hook or 'its hook point'}."
            )
        x = x.to(self.W_enc.dtype)
        return (x - self.b_dec) @ self.W_enc + self.b_enc

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch w"]:
        """Latents of raw activations; UserError when their width is not the SAE's."""
        z = self.preactivations(x)
        return REGISTRY[self.config.arch].active(z, self.config, self.threshold)

    def decode(self, a: Float[Tensor, "*batch w"]) -> Float[Tensor, "*batch d"]:
        """Reconstruction of raw activations from latents."""
        return a.to(self.W_dec.dtype) @ self.W_dec + self.b_dec

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        return self.decode(self.encode(x))

    def save(self, folder: str | Path) -> None:
        """Write sae.safetensors and config.json; each replaces its predecessor in one step."""
        folder = Path(folder)
        tensors = {name: p.detach().float() for name, p in self.named_parameters()}
        write_tensors(folder / WEIGHTS, tensors)
        write_config(folder, self.config)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> "SAE":
        """The SAE in ``folder``, in float32; a UserError when it is missing, damaged or of a newer version."""
        config = read_config(folder)
        path = Path(folder) / WEIGHTS
        weights_sha256(Path(folder))
        tensors = read_tensors(path)
        for name, shape in shapes(config).items():
            found = tuple(tensors[name].shape) if name in tensors else "missing"
            if found != shape:
                raise UserError(
                    f"{path} does not fit its config: {name} is {found}, expected {shape}; copy the whole folder again."
                )
        return cls.of(config, {name: tensors[name] for name in shapes(config)}).to(device)


def shapes(config: SAEConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in sae.safetensors."""
    return config.shapes(REGISTRY[config.arch].has_threshold)


def write_tensors(path: Path, tensors: dict[str, Tensor], note: str | None = None) -> None:
    """Replace the safetensors file ``path`` in one step; equal tensors make equal bytes.

    ``note``: text for its header. Only one, because the order of several is not fixed.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, None if note is None else {"note": note})
        except SafetensorError as error:  # what the system said is only in its text
            code = re.search(r"os error (\d+)", str(error))
            raise OSError(int(code[1]) if code else errno.EIO, str(error), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file; a UserError that names it when it is damaged."""
    try:
        with open_tensors(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        damaged = UserError(f"{path} is damaged ({reason(error)}): make the SAE again, or copy it again.")
        raise refusal(error, path) or damaged from error
