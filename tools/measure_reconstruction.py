"""How well runs restore normal pictures, beside a flat picture in the picture's own mean colour.

    python -m tools.measure_reconstruction runs/quickstart runs/mine

Both are told as 1 - SSIM, the mean over the good test pictures of a run as its networks see them,
with the window of the training loss: 0 where the picture is restored to the last grey value. The
share is that of the two: at 1 a reconstruction says no more of a picture than its colour does.
"""

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from draem_jax import Draem
from draem_jax.config import data_set
from draem_jax.losses import ssim
from draem_jax.training.parallel import use_cpu_devices


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR")
    options = parser.parse_args()

    use_cpu_devices()
    print(f"{'run':40} {'pictures':>8} {'restored':>9} {'flat':>9} {'share':>6}")
    for workdir in options.workdirs:
        restored, flat = np.transpose(dissimilarities(Draem.load(workdir)))
        a, b = restored.mean(), flat.mean()
        print(f"{str(workdir)[-40:]:40} {len(restored):8} {a:9.3f} {b:9.3f} {a / b:6.2f}")


def dissimilarities(detector: Draem) -> list[tuple[float, float]]:
    """1 - SSIM of each good test picture to its reconstruction, and to its mean colour."""
    source = data_set(detector.config, full_scale=detector.full_scale)
    test = source.test_pictures(size=detector.image_size).fitted(detector.fitting)
    good = ((test[i].image, None) for i, is_normal in enumerate(test.normal) if is_normal)
    pairs = []
    for seen in detector.see(good):
        image = jnp.asarray(seen.image[None], jnp.float32) / 255
        flat = jnp.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)
        restored = jnp.asarray(seen.reconstruction)[None]
        pairs.append((1 - float(ssim(image, restored)), 1 - float(ssim(image, flat))))
    return pairs


if __name__ == "__main__":
    main()
