"""Real handwritten digits: scikit-learn's small ones, or MNIST's files."""

import functools
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autograder.lab.data.files import fault
from autograder.lab.data.packages import folder

COUNT, TEST, SIZE = 1797, 360, 8
LEVELS = 16  # scikit-learn's images hold counts of ink from 0 to 16
SPLIT_SEED = 0
# What the parts of MNIST are called; some copies have a dot in the place of the second hyphen.
FILES = {
    "train": ("train-images-idx3", "train-labels-idx1"),
    "test": ("t10k-images-idx3", "t10k-labels-idx1"),
}
UNSIGNED_BYTE = 8  # the only type of number that MNIST has
GZIP = b"\x1f\x8b"
PIECE = 4096  # bytes that are unpacked at a time, so that an error can say where


@dataclass(frozen=True, eq=False)
class Images:
    """Images in grey, 0 for paper and 1 for ink, and the digit that each shows."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Digits:
    """Digits to train on and others to test with."""

    train: Images
    test: Images


def digits(path: str | os.PathLike | None = None) -> Digits:
    """Give scikit-learn's 1,797 handwritten digits, or those of a folder with MNIST's files.

    Without a path: 8×8 images by 13 people, of which 360 are for testing, the same ones always,
    chosen at random: the people of both parts are the same. scikit-learn is read, not imported.
    With a path: a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, and t10k- files of
    the same kinds, each plain or with the ending .gz. Fashion-MNIST and KMNIST fit too.

    Shapes: images (N, 1, 8, 8) float32, labels (N,) int64 from 0 to 9; 1,437 for training and 360
    for testing. MNIST: (N, 1, 28, 28), 60,000 and 10,000.
    Units: ink from 0 to 1.
    Source: UCI's Optical Recognition of Handwritten Digits, its test part (Alpaydin and Kaynak
    1998), CC BY 4.0, as scikit-learn ships it.
    Raises: DataError where scikit-learn is missing, or with the byte of the file that is wrong.
    """
    if path is None:
        return _installed()
    train, test = (_read_part(path, *names) for names in FILES.values())
    if train.images.shape[1:] != test.images.shape[1:]:
        came = " and ".join("×".join(map(str, p.images.shape[2:])) for p in (train, test))
        raise fault(path, "", "images of one size", came, "Take both parts from one data set.")
    return Digits(train, test)


@functools.cache
def _installed() -> Digits:
    path = folder("sklearn", "scikit-learn") / "datasets" / "data" / "digits.csv.gz"
    expected = f"{COUNT} lines of {SIZE * SIZE} counts and a digit"
    try:
        table = np.loadtxt(path, delimiter=",")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise fault(path, "", expected, str(error), "Install scikit-learn again.") from error
    if table.shape != (COUNT, SIZE * SIZE + 1):
        came = f"a table of {table.shape}"
        raise fault(path, "", expected, came, "Install the version in packages.txt.")
    images = torch.from_numpy(table[:, :-1] / LEVELS).float().view(-1, 1, SIZE, SIZE)
    labels = torch.from_numpy(table[:, -1]).long()
    # numpy's legacy generator is frozen, so the split is the same in every version.
    order = torch.from_numpy(np.random.RandomState(SPLIT_SEED).permutation(COUNT))
    test, train = order[:TEST], order[TEST:]
    return Digits(Images(images[train], labels[train]), Images(images[test], labels[test]))


def _read_part(path: str | os.PathLike, images_name: str, labels_name: str) -> Images:
    images_path, labels_path = _find(path, images_name), _find(path, labels_name)
    images, labels = _read_idx(images_path, 3), _read_idx(labels_path, 1)
    if len(images) != len(labels):
        advice = "Take both files from one data set."
        raise fault(labels_path, "byte 4", f"{len(images)} labels", f"{len(labels)}", advice)
    wrong = np.flatnonzero(labels > 9)
    if len(wrong):
        place, came = f"byte {8 + wrong[0]}", str(labels[wrong[0]])
        raise fault(labels_path, place, "a label from 0 to 9", came, "Give digits, not letters.")
    pixels = torch.from_numpy(images).float().div_(255)[:, None]
    return Images(pixels, torch.from_numpy(labels).long())


def _find(path: str | os.PathLike, name: str) -> Path:
    names = [name + "-ubyte", name.replace("-idx", ".idx") + "-ubyte"]
    for found in (Path(path, each + end) for each in names for end in ("", ".gz")):
        if found.is_file():
            return found
    advice = "Give the folder that holds MNIST's four files."
    raise fault(path, "", f"a folder with {names[0]} or {names[0]}.gz", "none", advice)


def _read_idx(path: Path, axes: int) -> np.ndarray:
    """Read an idx file of unsigned bytes: two zeros, type, number of axes, their sizes, values."""
    again = "Get the file again."
    content = path.read_bytes()
    expected = f"an idx file of bytes with {axes} {'axis' if axes == 1 else 'axes'}"
    if content.startswith(GZIP):
        content = _unpack(path, content)
    begin = 4 + 4 * axes
    magic = bytes((0, 0, UNSIGNED_BYTE, axes))
    if content[:4] != magic:
        raise fault(path, "byte 0", expected, repr(content[:4]), "Give MNIST's own files.")
    if len(content) < begin:
        raise fault(path, f"byte {len(content)}", f"{begin} bytes of sizes", "the end", again)
    sizes = struct.unpack(f">{axes}I", content[4:begin])
    if not all(sizes):
        raise fault(path, "byte 4", "sizes above 0", str(sizes), again)
    end = begin + math.prod(sizes)
    if len(content) != end:
        place, came = f"byte {min(end, len(content))}", f"{len(content)} bytes"
        raise fault(path, place, f"{end} bytes for the sizes {sizes}", came, again)
    return np.frombuffer(content, np.uint8, offset=begin).reshape(sizes).copy()


def _unpack(path: Path, content: bytes) -> bytes:
    again, unpacked = "Get the file again.", []
    packed = zlib.decompressobj(wbits=31)  # 31: with gzip's head and checksum
    for at in range(0, len(content), PIECE):
        try:
            unpacked.append(packed.decompress(content[at : at + PIECE]))
        except zlib.error as error:
            place = f"byte {at} or after"
            raise fault(path, place, "a whole gzip file", str(error), again) from error
    if not packed.eof:
        raise fault(path, f"byte {len(content)}", "a whole gzip file", "the end", again)
    return b"".join(unpacked)
