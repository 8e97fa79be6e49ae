"""DRÆM in PyTorch: what the project's speed is compared with.

Both networks, the losses and a train step as the method's authors have them, written anew for this
comparison. Pictures are NCHW; the names of the parameters are those of the authors' state dicts, so
that their weights load. It is not part of the package, which does without PyTorch.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

_WINDOW, _SIGMA = 11, 1.5
_SMOOTH = 1e-5


def _units(*channels: int) -> list[nn.Module]:
    """Convolution, batch normalisation and ReLU from each number of channels to the next."""
    return [
        layer
        for before, behind in itertools.pairwise(channels)
        for layer in (
            nn.Conv2d(before, behind, kernel_size=3, padding=1),
            nn.BatchNorm2d(behind),
            nn.ReLU(inplace=True),
        )
    ]


def _block(*channels: int) -> nn.Sequential:
    return nn.Sequential(*_units(*channels))


def _up(before: int, behind: int) -> nn.Sequential:
    upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(upsample, *_units(before, behind))


def _output(before: int, behind: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, behind, kernel_size=3, padding=1))


def _blocks(channels: Iterable[int]) -> dict[str, nn.Module]:
    pairs = enumerate(itertools.pairwise(channels), start=1)
    return {f"block{i}": _block(before, behind, behind) for i, (before, behind) in pairs}


class ReconstructiveNetwork(nn.Module):
    """From a picture to the normal picture, without skips; `width` channels in its first block."""

    def __init__(self, width: int):
        super().__init__()
        b = width
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleDict(_blocks((3, b, 2 * b, 4 * b, 8 * b, 8 * b)))
        decoder: dict[str, nn.Module] = {}
        pairs = ((8 * b, 4 * b), (4 * b, 2 * b), (2 * b, b), (b, b))
        for i, (c1, c2) in enumerate(pairs, start=1):
            decoder[f"up{i}"] = _up(c1, c1)
            decoder[f"db{i}"] = _block(c1, c1, c2)
        self.decoder = nn.ModuleDict(decoder | {"fin_out": _output(b, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] → (B, 3, H, W)."""
        for i, block in enumerate(self.encoder.values()):
            x = block(self.pool(x) if i else x)
        for layer in self.decoder.values():
            x = layer(x)
        return x


class DiscriminativeNetwork(nn.Module):
    """From reconstruction and picture to the logits of normal and anomalous, with skips."""

    def __init__(self, width: int):
        super().__init__()
        b = width
        self.pool = nn.MaxPool2d(2)
        self.encoder_segment = nn.ModuleDict(_blocks((6, b, 2 * b, 4 * b, 8 * b, 8 * b, 8 * b)))
        decoder: dict[str, nn.Module] = {}
        channels = itertools.pairwise((8 * b, 8 * b, 4 * b, 2 * b, b, b))
        for name, (before, behind) in zip(("_b", "1", "2", "3", "4"), channels, strict=True):
            decoder[f"up{name}"] = _up(before, behind)
            # The skip has as many channels as came up from below.
            decoder[f"db{name}"] = _block(behind + before, behind, behind)
        self.decoder_segment = nn.ModuleDict(decoder | {"fin_out": _output(b, 2)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 6, H, W) → (B, 2, H, W)."""
        skips = []
        for i, block in enumerate(self.encoder_segment.values()):
            x = block(self.pool(x) if i else x)
            skips.append(x)
        skips.pop()
        for name, layer in self.decoder_segment.items():
            if name.startswith("db"):
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x)
        return x


class Output(NamedTuple):
    """What the networks make of pictures: reconstruction (B, 3, H, W) and logits (B, 2, H, W)."""

    reconstruction: torch.Tensor
    logits: torch.Tensor


class Draem(nn.Module):
    """Both networks, one behind the other."""

    def __init__(self, reconstructive_width: int, discriminative_width: int):
        super().__init__()
        self.reconstructive = ReconstructiveNetwork(reconstructive_width)
        self.discriminative = DiscriminativeNetwork(discriminative_width)

    def forward(self, images: torch.Tensor) -> Output:
        """(B, 3, H, W) in [0, 1]; height and width divisible by 32."""
        reconstruction = self.reconstructive(images)
        logits = self.discriminative(torch.cat([reconstruction, images], dim=1))
        return Output(reconstruction, logits)


class Losses(NamedTuple):
    """The terms of the loss, which is their sum."""

    l2: torch.Tensor
    ssim: torch.Tensor
    focal: torch.Tensor


def losses(
    output: Output, normal: torch.Tensor, mask: torch.Tensor, *, data_range: float = 1.0
) -> Losses:
    """What training minimises the sum of.

    Args:
        output: what the networks made of the augmented pictures.
        normal: the normal pictures, (B, 3, H, W).
        mask: 1 where an anomaly is, else 0, (B, 1, H, W).
        data_range: of the pictures, for SSIM.
    """
    return Losses(
        functional.mse_loss(output.reconstruction, normal),
        1 - _ssim(output.reconstruction, normal, data_range),
        _focal(torch.softmax(output.logits, dim=1), mask),
    )


def _ssim(a: torch.Tensor, b: torch.Tensor, data_range: float) -> torch.Tensor:
    channels = a.shape[1]
    x = torch.arange(_WINDOW, dtype=a.dtype, device=a.device) - _WINDOW // 2
    weights = torch.exp(-(x**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    window = torch.outer(weights, weights).expand(channels, 1, _WINDOW, _WINDOW).contiguous()

    def blur(values: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(values, window, padding=_WINDOW // 2, groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    variance_a = blur(a * a) - mean_a**2
    variance_b = blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)).mean()


def _focal(probabilities: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    target = torch.cat([1 - mask, mask], dim=1).clamp(_SMOOTH, 1 - _SMOOTH)
    p_t = (target * probabilities).sum(dim=1) + _SMOOTH
    return (-((1 - p_t) ** 2) * p_t.log()).mean()


def make_adam(network: Draem) -> torch.optim.Adam:
    """Adam with the authors' rate."""
    return torch.optim.Adam(network.parameters(), lr=1e-4)


def train_step(
    network: Draem,
    optimizer: torch.optim.Adam,
    normal: torch.Tensor,
    augmented: torch.Tensor,
    mask: torch.Tensor,
    *,
    data_range: float = 1.0,
) -> Losses:
    """Makes one step of gradient descent; returns the losses before it."""
    optimizer.zero_grad()
    found = losses(network(augmented), normal, mask, data_range=data_range)
    sum(found).backward()
    optimizer.step()
    return found
