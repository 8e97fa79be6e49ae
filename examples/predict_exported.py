"""Decide about pictures with an exported detector, without draem_jax and JAX.

pip install onnxruntime numpy pillow
draem-jax export --workdir=runs/quickstart --out=exported/
python examples/predict_exported.py exported/ photo1.png photo2.jpg
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read_rgb(path):
    """A picture of 8 bits as it is seen: turned as the camera says, over white."""
    picture: Image.Image = Image.open(path)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        sys.exit(f"{path} has more than 8 bits; bring it to 8 as manifest.json says")
    picture = ImageOps.exif_transpose(picture)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return picture.convert("RGB")


folder = Path(sys.argv[1])
manifest, thresholds = (
    json.loads((folder / name).read_text(encoding="utf-8"))
    for name in ("manifest.json", "thresholds.json")
)
_, height, width, _ = manifest["input"]["shape"]
normal_scores = np.array(thresholds["normal_scores"])
model = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

print("picture,score,p_value,anomalous,highest_x,highest_y")
for path in sys.argv[2:]:
    picture = read_rgb(path)
    small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    score, margin = model.run(["score", "margin"], {"pictures": small[None]})
    p_value = (1 + np.sum(normal_scores >= score[0])) / (1 + len(normal_scores))
    whole = Image.fromarray(margin[0]).resize(picture.size, Image.Resampling.BILINEAR)
    y, x = np.unravel_index(np.array(whole).argmax(), whole.size[::-1])
    print(f"{path},{score[0]:.6f},{p_value:.6g},{int(p_value <= thresholds['alpha'])},{x},{y}")
