"""Small data sets in the published layouts, made as the tests need them."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from draem_jax.data.dataset import DataSet
from draem_jax.data.pictures import resize_mask

SIZE = (24, 32)


class Normal(NamedTuple):
    """All normal pictures of a data set, read."""

    images: np.ndarray
    names: list[str]


class Labelled(NamedTuple):
    """All test pictures of a data set, read, with masks of their size: 1 on defects."""

    images: np.ndarray
    masks: np.ndarray
    defect_types: list[str]
    names: list[str]
    has_mask: np.ndarray


def read_training(data: DataSet, *, size, holdout=0.0) -> Normal:
    pictures = data.training_pictures(size=size, holdout=holdout)
    return Normal(np.stack([pictures[i] for i in range(len(pictures))]), list(pictures.names))


def read_test(data: DataSet, *, size) -> Labelled:
    stored = data.test_pictures(size=size)
    pictures = [stored[i] for i in range(len(stored))]
    return Labelled(
        np.array([p.image for p in pictures], np.uint8).reshape(-1, *size, 3),
        np.array([resize_mask(p.mask, size) for p in pictures], np.uint8).reshape(-1, *size, 1),
        [p.defect_type for p in pictures],
        list(stored.names),
        np.array([p.has_mask for p in pictures], bool),
    )


def write_picture(path: Path, *, size=SIZE, mode="RGB", **options) -> np.ndarray:
    """Writes a picture that depends on its path's last three parts alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
    array = rng.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(array).convert(mode).save(path, **options)
    return array


def write_mask(path: Path, *, size=SIZE, value=255, mode="L") -> np.ndarray:
    """Writes a mask whose upper left quarter is defect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[: size[0] // 2, : size[1] // 2] = value
    Image.fromarray(mask).convert(mode).save(path)
    return mask > 0


def make_mvtec_ad(
    root: Path,
    category: str = "bottle",
    *,
    train: int = 4,
    good: int = 2,
    types: Mapping[str, int] | None = None,
) -> Path:
    """CATEGORY/train/good, CATEGORY/test/TYPE, CATEGORY/ground_truth/TYPE."""
    folder = root / category
    for i in range(train):
        write_picture(folder / "train" / "good" / f"{i:03d}.png")
    for i in range(good):
        write_picture(folder / "test" / "good" / f"{i:03d}.png")
    for defect, count in (types or {"broken_large": 2, "contamination": 1}).items():
        for i in range(count):
            write_picture(folder / "test" / defect / f"{i:03d}.png")
            write_mask(folder / "ground_truth" / defect / f"{i:03d}_mask.png")
    (folder / "license.txt").write_text("for research only")
    return root


def make_mvtec_loco(root: Path, category: str = "pushpins") -> Path:
    """As MVTec AD, with validation/good and a folder of masks for each picture."""
    folder = root / category
    for split, count in (("train", 3), ("validation", 2), ("test", 2)):
        for i in range(count):
            write_picture(folder / split / "good" / f"{i:03d}.png")
    for defect in ("logical_anomalies", "structural_anomalies"):
        for i in range(2):
            write_picture(folder / "test" / defect / f"{i:03d}.png")
            write_mask(folder / "ground_truth" / defect / f"{i:03d}" / "000.png", value=240)
    second = np.zeros(SIZE, np.uint8)
    second[-2:, -3:] = 7
    Image.fromarray(second).save(folder / "ground_truth" / "logical_anomalies" / "000" / "001.png")
    return root


def make_visa(root: Path, category: str = "candle") -> Path:
    """split_csv/1cls.csv over CATEGORY/Data; masks hold numbers of classes."""
    lines = ["object,split,label,image,mask"]
    for i in range(6):
        path = f"{category}/Data/Images/Normal/{i:04d}.JPG"
        write_picture(root / path, format="jpeg")
        lines.append(f"{category},{'test' if i in (1, 4) else 'train'},normal,{path},")
    for i in range(3):
        path = f"{category}/Data/Images/Anomaly/{i:03d}.JPG"
        mask = f"{category}/Data/Masks/Anomaly/{i:03d}.png"
        write_picture(root / path, format="jpeg")
        write_mask(root / mask, value=i + 1)
        lines.append(f"{category},test,anomaly,{path},{mask}")
    (root / "split_csv").mkdir(exist_ok=True)
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")
    return root


def make_btad(root: Path, category: str = "03") -> Path:
    """ok and ko; pictures and masks in bmp or png, not always alike."""
    folder = root / category
    for i in range(3):
        write_picture(folder / "train" / "ok" / f"{i:04d}.bmp")
    for i in range(2):
        write_picture(folder / "test" / "ok" / f"{i:04d}.bmp")
        write_picture(folder / "test" / "ko" / f"{i:04d}.bmp")
        write_mask(folder / "ground_truth" / "ko" / f"{i:04d}.{('png', 'bmp')[i]}")
    return root


def make_dagm(root: Path, category: str = "Class3") -> Path:
    """Train and Test with a folder Label each; grey pictures with suffixes in capitals."""
    for half, count, defective in (("Train", 5, (2,)), ("Test", 4, (1, 3))):
        folder = root / category / half
        lines = ["1"]
        for i in range(count):
            write_picture(folder / f"{i:04d}.PNG", mode="L")
            if i in defective:
                write_mask(folder / "Label" / f"{i:04d}_label.PNG")
                lines.append(f"{i}\t1\t{i:04d}.PNG\t1\t{i:04d}_label.PNG")
            else:
                lines.append(f"{i}\t0\t{i:04d}.PNG\t0\t0")
        (folder / "Label" / "Labels.txt").write_text("\n".join(lines) + "\n")
    return root


def make_dtd(root: Path) -> Path:
    """images/ATTRIBUTE/ATTRIBUTE_NUMBER.jpg, and more besides."""
    for attribute in ("banded", "woven"):
        for i in (2, 10, 9):
            write_picture(root / "dtd" / "images" / attribute / f"{attribute}_{i:04d}.jpg")
    (root / "dtd" / "labels").mkdir()
    (root / "dtd" / "labels" / "train1.txt").write_text("banded/banded_0002.jpg\n")
    return root


def pack(folder: Path, archive: Path) -> Path:
    """Packs what a folder holds, by the ending of the archive's name."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in sorted(folder.rglob("*")):
                packed.write(path, path.relative_to(folder).as_posix())
        return archive
    mode = {".gz": "w:gz", ".xz": "w:xz", ".bz2": "w:bz2", ".tar": "w"}[archive.suffix]
    with tarfile.open(archive, mode) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return archive


def copy(folder: Path, to: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(folder, to, dirs_exist_ok=True))
