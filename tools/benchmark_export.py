"""How fast exported models are in onnxruntime, beside the checkpoint in JAX and PyTorch's networks.

    python -m tools.benchmark_export --workdir=runs/mine exported/ exported_int8/ --batch=8

On the CPU, of noise at the size that the networks see; the sides take turns, so that what else the
machine does meets all alike. PyTorch takes part where it is installed and has the same networks
(tools/pytorch_rival.py), with weights of its own, which do not matter to the speed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from draem_jax.detector import Draem
from draem_jax.networks.options import PLAIN
from draem_jax.training.parallel import use_cpu_devices
from draem_jax.training.state import create_network

Side = Callable[[np.ndarray], object]
"""Says of pictures, uint8 (batch, height, width, 3), what there is to say, and waits for it."""

_PAUSE = 0.1  # seconds, in which threads that wait for more to do go to sleep


def measure(sides: Mapping[str, Side], pictures: np.ndarray, *, rounds: int) -> dict[str, float]:
    """Pictures a second of each side, the median over rounds in which each has its turn."""
    for look in sides.values():
        look(pictures)  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, look in sides.items():
            time.sleep(_PAUSE)
            start = time.perf_counter()
            look(pictures)
            seconds[name].append(time.perf_counter() - start)
    return {name: len(pictures) / statistics.median(taken) for name, taken in seconds.items()}


def our_sides(detector: Draem, batch: int) -> dict[str, Side]:
    """The checkpoint, by its compiled program alone and by `Draem.predict`."""
    fitted = detector.fitted_to(batch)

    def program(pictures: np.ndarray) -> object:
        output = fitted.run_batch(pictures)
        return np.asarray(output.score), np.asarray(output.anomaly_map)

    return {"JAX, compiled program": program, "JAX, Draem.predict": fitted.predict}


def onnx_side(folder: Path) -> tuple[str, Side]:
    """The ONNX model of an exported folder, and what it is called."""
    import onnxruntime

    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    precision = manifest["files"]["model.onnx"]["precision"]
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )

    def look(pictures: np.ndarray) -> object:
        return session.run(["score", "anomaly_map"], {"pictures": pictures})

    return f"ONNX {precision}, onnxruntime {onnxruntime.__version__}", look


def torch_side(detector: Draem, window: int = 21) -> dict[str, Side]:
    """PyTorch's networks with map and score; nothing where there is none that is the same."""
    network = create_network(detector.config)
    if network.variant != "full" or network.options != PLAIN:
        print("PyTorch is left out: its networks have none of the run's options")
        return {}
    try:
        import torch

        from tools.pytorch_rival import Draem as Rival
    except ImportError:
        print("PyTorch is left out: it is not installed")
        return {}
    rival = Rival(network.reconstructive_width, network.discriminative_width).eval()

    def look(pictures: np.ndarray) -> object:
        with torch.inference_mode():
            images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().contiguous() / 255
            maps = torch.softmax(rival(images).logits, dim=1)[:, 1:]
            means = torch.nn.functional.avg_pool2d(maps, window, stride=1, padding=window // 2)
            return means.amax(dim=(1, 2, 3)).numpy(), maps.numpy()

    return {f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads": look}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", help="exported, with model.onnx in each")
    parser.add_argument("--workdir", type=Path, required=True, help="of the run")
    parser.add_argument("--batch", type=int, default=8, help="pictures at once")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    use_cpu_devices()
    detector = Draem.load(given.workdir, batch_size=given.batch)
    sides = dict(map(onnx_side, given.folders))
    sides |= our_sides(detector, given.batch) | torch_side(detector)
    shape = (given.batch, *detector.image_size, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = measure(sides, pictures, rounds=given.rounds)
    model = detector.config.model
    print(
        f"\nwidths {model.reconstructive_width}/{model.discriminative_width}, pictures of "
        f"{shape[1]} x {shape[2]}, {given.batch} at once; the median of {given.rounds} rounds\n"
    )
    print("| | pictures a second | ms a picture |\n|---|---|---|")
    for name, rate in found.items():
        print(f"| {name} | {rate:.3g} | {1000 / rate:.3g} |")


if __name__ == "__main__":
    main()
