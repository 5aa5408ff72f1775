"""Scenes of small handwritten digits over clutter, with their label maps or one digit's name."""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from autograder.lab.data.digits import Digits, Images, digits
from autograder.lab.data.files import fault

SIZE, DIGIT = 24, 8  # pixels of a side, of a scene and of a digit
SPECKS, FAINT = 5 / 144, 0.6  # clutter: this share of the pixels at random, up to so dark
TEST_SHARE = 0.2  # of a folder's scenes
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class Masked:
    """Scenes, and for each pixel its class: 0 for background, 1 + d where the digit d stands."""

    images: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Scenes:
    """Scenes to train on and others, with digits of their own, to test with."""

    train: Masked
    test: Masked


def digit_scenes(
    path: str | os.PathLike | None = None, *, train: int = 2000, test: int = 500, seed: int = 0
) -> Scenes:
    """Give scenes with two or three digits at random places over clutter, and their label maps.

    Without a path: made of scikit-learn's digits with a seed. Digits keep clear of each other. The
    map holds a digit's class where its ink is. Test scenes hold only digits of the test part,
    whatever the seed.
    With a path: a folder with images/NAME.png, in grey or in colours that become grey, and
    masks/NAME.png, whose 8-bit values or palette numbers are the classes. One name in five is for
    testing, chosen by a hash of the name; `train`, `test` and `seed` have no say.

    Shapes: images (N, 1, 24, 24) float32, masks (N, 24, 24) int64 from 0 to 10. From a folder: the
    size of its images, and classes from 0 to 255.
    Units: ink from 0 to 1; from a folder, brightness from 0 to 1.
    Source: see `digits`.
    Raises: DataError with the file, and the byte, that is wrong; ValueError for a negative number.
    """
    if path is not None:
        return _read(path)
    _no_negative(train=train, test=test)
    made, chance = digits(), torch.Generator().manual_seed(seed)
    return Scenes(_placed(made.train, train, chance), _placed(made.test, test, chance))


def stamped_digits(
    *, train: int = 4000, test: int = 500, seed: int = 0, rows: int = 3, columns: int = 3
) -> Digits:
    """Give scenes of two digits, one of them stamped twice, labelled with the other one.

    A scene is cut into rows×columns cells of 8×8 pixels, and three of them hold a digit, which
    covers the clutter. Both stamps are the same image. Test scenes hold only digits of the test
    part, whatever the seed.

    Shapes: images (N, 1, 8 · rows, 8 · columns) float32, labels (N,) int64 from 0 to 9.
    Units: ink from 0 to 1.
    Source: see `digits`.
    Raises: ValueError for a negative number, or fewer than three cells.
    """
    _no_negative(train=train, test=test)
    if rows < 1 or columns < 1 or rows * columns < 3:
        raise ValueError(f"expected three cells or more, got {rows}×{columns}")
    made, chance = digits(), torch.Generator().manual_seed(seed)
    return Digits(
        _stamped(made.train, train, rows, columns, chance),
        _stamped(made.test, test, rows, columns, chance),
    )


def _no_negative(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 0:
            raise ValueError(f"{name}: expected 0 or more, got {number}")


def _clutter(count: int, height: int, width: int, chance: torch.Generator) -> Tensor:
    """Give empty scenes with specks, (count, height, width)."""
    specks = round(SPECKS * height * width)
    places = torch.randint(height * width, (count, specks), generator=chance)
    ink = FAINT * torch.rand(count, specks, generator=chance)
    empty = torch.zeros(count, height * width)
    return empty.scatter_(1, places, ink).view(count, height, width)


def _pick(part: Images, wanted: Tensor, chance: torch.Generator) -> Tensor:
    """Pick an image at random for each wanted digit: (...) to (..., 8, 8)."""
    order = part.labels.argsort(stable=True)
    counts = part.labels.bincount(minlength=10)
    begin = counts.cumsum(0) - counts
    at = (torch.rand(wanted.shape, generator=chance) * counts[wanted]).long()
    return part.images[order[begin[wanted] + at], 0]


def _stamped(part: Images, count: int, rows: int, columns: int, chance: torch.Generator) -> Images:
    names = torch.rand(count, 10, generator=chance).argsort(1)[:, :2]  # (N, 2)
    cells = torch.rand(count, rows * columns, generator=chance).argsort(1)[:, :3]
    stamps = _pick(part, names, chance)[:, [0, 0, 1]]  # (N, 3, 8, 8): the first one twice
    paper = _clutter(count, rows * DIGIT, columns * DIGIT, chance)
    paper = paper.view(count, rows, DIGIT, columns, DIGIT).transpose(2, 3)  # (N, rows, columns, ..)
    paper = paper.reshape(count, rows * columns, DIGIT, DIGIT)
    paper[torch.arange(count)[:, None], cells] = stamps
    paper = paper.view(count, rows, columns, DIGIT, DIGIT).transpose(2, 3)
    return Images(paper.reshape(count, 1, rows * DIGIT, columns * DIGIT), names[:, 1])


def _placed(part: Images, count: int, chance: torch.Generator) -> Masked:
    images = _clutter(count, SIZE, SIZE, chance)
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.long)
    for image, mask in zip(images, masks, strict=True):
        number = int(torch.randint(2, 4, (), generator=chance))
        names = torch.randint(10, (number,), generator=chance)
        inks = _pick(part, names, chance)
        corners = _apart(number, chance)
        for name, ink, (row, column) in zip(names.tolist(), inks, corners, strict=True):
            window = (slice(row, row + DIGIT), slice(column, column + DIGIT))
            image[window] = torch.maximum(image[window], ink)
            mask[window][ink > 0] = 1 + name
    return Masked(images[:, None], masks)


def _apart(number: int, chance: torch.Generator) -> list[list[int]]:
    """Draw corners until no two digits share a pixel."""
    while True:
        corners = torch.randint(SIZE - DIGIT + 1, (number, 2), generator=chance)
        gaps = (corners[:, None] - corners).abs().amax(-1)  # (number, number)
        if (gaps + DIGIT * torch.eye(number) >= DIGIT).all():
            return corners.tolist()


def _read(path: str | os.PathLike) -> Scenes:
    parts: dict[bool, list[tuple[Tensor, Tensor]]] = {False: [], True: []}
    size = None
    for name, image_path, mask_path in _pairs(path):
        image, mask = _decode(image_path), _decode(mask_path)
        if mask.mode not in ("L", "P", "1"):
            expected = "a mask of 8-bit classes, grey or with a palette"
            raise fault(mask_path, "", expected, f"mode {mask.mode}", "Save one class a pixel.")
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
            came, advice = f"mode {image.mode}", "Save it with 8 bits a channel."
            raise fault(image_path, "", "an image of 8-bit channels", came, advice)
        size = size or image.size
        for own, at in ((image, image_path), (mask, mask_path)):
            if own.size != size:
                wanted, came = ("{}×{} pixels".format(*each) for each in (size, own.size))
                raise fault(at, "", wanted, came, "Give all images and masks one size.")
        grey = torch.from_numpy(np.array(image.convert("L"))).float().div_(255)[None]
        classes = torch.from_numpy(np.array(mask).astype(np.int64))
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        parts[number < TEST_SHARE * 2**64].append((grey, classes))
    if not (parts[False] and parts[True]):
        came = f"{len(parts[False])} for training and {len(parts[True])} for testing"
        raise fault(path, "", "scenes for both parts", came, "Give more pairs.")
    columns = (zip(*parts[part], strict=True) for part in (False, True))
    return Scenes(*(Masked(*map(torch.stack, both)) for both in columns))


def _pairs(path: str | os.PathLike) -> Iterator[tuple[str, Path, Path]]:
    folders = {kind: Path(path, kind) for kind in ("images", "masks")}
    found = {kind: {p.name: p for p in folder.glob("*.png")} for kind, folder in folders.items()}
    advice = "Give each image a mask of the same name."
    for kind, other in (("images", "masks"), ("masks", "images")):
        if not found[kind]:
            raise fault(folders[kind], "", "a folder of PNG files", "none", advice)
        for name in sorted(found[kind].keys() - found[other].keys()):
            raise fault(
                folders[other] / name, "", "a file beside the one in " + kind, "none", advice
            )
    for name in sorted(found["images"]):
        yield name, found["images"][name], found["masks"][name]


def _decode(path: Path) -> Image.Image:
    """Open a PNG file whose chunks are whole, so that an error can name the byte."""
    again, content = "Get the file again.", path.read_bytes()
    if not content.startswith(PNG):
        raise fault(path, "byte 0", "a PNG file", repr(content[:8]), "Save it as PNG.")
    at, kind, pixels = len(PNG), b"", 0
    while kind != b"IEND":
        if len(content) < at + 12:
            raise fault(path, f"byte {len(content)}", "another chunk", "the end", again)
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        end = at + 12 + length
        if len(content) < end:
            raise fault(path, f"byte {len(content)}", f"{end} bytes", "the end", again)
        if struct.unpack(">I", content[end - 4 : end])[0] != zlib.crc32(content[at + 4 : end - 4]):
            raise fault(path, f"byte {at}", "a chunk as it was written", "another checksum", again)
        pixels = pixels or (at if kind == b"IDAT" else 0)
        at = end
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise fault(path, f"byte {pixels}", "a PNG image", str(error), again) from error
    return image
