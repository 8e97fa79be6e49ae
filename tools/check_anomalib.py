"""Whether anomalib's DRÆM says the same here as in anomalib.

    python tools/check_anomalib.py make FOLDER         where anomalib is installed
    python -m tools.check_anomalib compare FOLDER      where draem_jax is

The first trains a model of anomalib for two steps on noise, so that its checkpoint is Lightning's
own, gives it random statistics, and keeps checkpoint, exported model and state dict with the maps
of random pictures. The second imports each file and tells how far our maps are from these. Two
gigabytes of files are left in FOLDER.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_FILES = ("model.ckpt", "weights/torch/model.pt", "state.pt")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["make", "compare"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    make(options.folder) if options.action == "make" else compare(options.folder)


def make(folder: Path) -> None:
    import torch
    from anomalib.data import ImageBatch
    from anomalib.models import Draem
    from lightning.pytorch import Trainer
    from PIL import Image

    (folder / "textures").mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "textures" / "noise.png")
    torch.manual_seed(0)
    model = Draem(dtd_dir=folder / "textures")
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.7, 0.2)

    class Noise:
        def __iter__(self) -> Iterator[Any]:
            return (ImageBatch(image=torch.rand(2, 3, 64, 64)) for _ in range(2))

        def __len__(self) -> int:
            return 2

    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, default_root_dir=folder,
        enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model, Noise())
    model.eval()
    # Two steps leave statistics that are hardly those of the batches; any will do.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    trainer.save_checkpoint(folder / "model.ckpt")
    model.to_torch(folder)
    torch.save(model.model.state_dict(), folder / "state.pt")
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        output = model.model(images)
        swapped = model.model(images.flip(1))
    maps = output.anomaly_map.numpy()
    difference = np.abs(swapped.anomaly_map.numpy() - maps).max()
    print(f"maps from {maps.min():.3g} to {maps.max():.3g}; {difference:.3g} apart in BGR")
    np.savez(folder / "maps.npz", images=images.numpy(), maps=maps)


def compare(folder: Path) -> None:
    from draem_jax.config import default_config
    from draem_jax.networks import forward
    from draem_jax.pytorch.importing import Source, import_torch
    from draem_jax.scores import anomaly_map
    from draem_jax.training.state import create_network
    from draem_jax.training.workdir import load_run

    theirs = np.load(folder / "maps.npz")
    for name in _FILES:
        with tempfile.TemporaryDirectory() as made:
            workdir = Path(made) / "run"
            import_torch(Source.anomalib(folder / name), workdir, default_config())
            config, state = load_run(workdir, networks_only=True)
        images = np.moveaxis(theirs["images"], 1, -1)
        output = forward(create_network(config), state.variables, images)
        ours = np.asarray(anomaly_map(output.logits))
        print(f"{name}: maps differ by {np.abs(ours - theirs['maps']).max():.2g} at most")


if __name__ == "__main__":
    main()
