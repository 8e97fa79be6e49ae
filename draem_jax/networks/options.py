"""What the networks may have besides what the paper gives them."""

from dataclasses import dataclass

COARSE_STAGES = 4
"""Stages of either decoder that a level of the encoder stands beside, the finest left out."""

AUXILIARY = "auxiliary"
"""The collection that what is made for the loss alone is sown into, by the name of its term.

It is made where the collection is mutable, in training, and nowhere else.
"""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What the networks have besides the paper's; nothing by default.

    Attributes:
        difference: the discriminative network sees |picture − reconstruction| as well. The signed
            difference would add nothing that its first layer cannot make of the two; the size of
            it, of which no linear layer is capable, is what defects of either sign have in common.
        reconstructive_input: a name in `RECONSTRUCTIVE_INPUTS`, what is reconstructed from.
        reconstructive_skips: so many stages of the reconstructive decoder, from the deepest one,
            get the encoder's level of their size added; 0 to 4.
        sspcab: a predictive block stands for the last convolution before the reconstruction, see
            `PredictiveBlock`.
        copied_share: for so many of the pictures that a device has of a batch, rounded, the
            discriminative network sees in training the picture for a reconstruction, as if the
            reconstructive network had copied a defect with the rest. So it learns not to rely on
            what was restored alone; in [0, 1].
        deep_supervision: so many stages of the discriminative decoder, from the finest one below
            full size, say in training what they make of the map; 0 to 4.
    """

    difference: bool = False
    reconstructive_input: str = "picture"
    reconstructive_skips: int = 0
    sspcab: bool = False
    copied_share: float = 0.0
    deep_supervision: int = 0


PLAIN = NetworkOptions()
