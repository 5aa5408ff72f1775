"""Real digits and scenes made of them: shapes, parts that do not meet, what bad files are told."""

import gzip
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autograder.lab.data import scenes as scenes_module
from autograder.lab.data.digits import digits
from autograder.lab.data.scenes import digit_scenes, stamped_digits
from autograder.lab.errors import DataError


def complaint(call, *arguments):
    """Give the text of a DataError; a call that succeeds fails the test."""
    with pytest.raises(DataError) as caught:
        call(*arguments)
    return str(caught.value)


def rows(images):
    return {image.numpy().tobytes() for image in images}


# digits


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    theirs, ours = load_digits(), digits()
    assert ours.train.images.shape == (1437, 1, 8, 8)
    assert ours.test.images.shape == (360, 1, 8, 8)
    assert ours.train.images.dtype == torch.float32
    assert ours.train.labels.dtype == torch.int64
    known = {
        image.astype(np.float32).tobytes(): label
        for image, label in zip(theirs.images / 16, theirs.target, strict=True)
    }
    for part in (ours.train, ours.test):
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            assert known[image.numpy().tobytes()] == label


def test_digits_parts_do_not_meet_and_are_balanced():
    parts = digits()
    assert rows(parts.train.images) & rows(parts.test.images) == set()
    for part in (parts.train, parts.test):
        share = part.labels.bincount(minlength=10) / len(part)
        assert share.min() > 0.07
        assert share.max() < 0.13
    assert parts.test.labels[:8].tolist() == [2, 8, 2, 6, 6, 7, 1, 9]


def idx(values):
    """Write an array the way MNIST does."""
    values = np.asarray(values, np.uint8)
    head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Write a small data set in MNIST's files, plain and packed."""
    chance = np.random.default_rng(0)
    pixels = {
        "train": chance.integers(0, 256, (6, 5, 4)),
        "t10k": chance.integers(0, 256, (3, 5, 4)),
    }
    for part, values in pixels.items():
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(values))
        labels = gzip.compress(idx(np.arange(len(values)) + 4))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(labels)
    return tmp_path, pixels


def test_digits_read_mnist(mnist):
    path, pixels = mnist
    parts = digits(path)
    assert parts.train.images.shape == (6, 1, 5, 4)
    assert parts.test.images.shape == (3, 1, 5, 4)
    assert parts.train.labels.tolist() == [4, 5, 6, 7, 8, 9]
    expected = torch.tensor(pixels["t10k"] / 255, dtype=torch.float32)
    torch.testing.assert_close(parts.test.images[:, 0], expected)


def test_digits_read_names_with_a_dot(mnist):
    path, _ = mnist
    for file in list(path.iterdir()):
        file.rename(path / file.name.replace("-idx", ".idx"))
    assert len(digits(path).train) == 6


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "train-images-idx3-ubyte",
            b"\x89PNG",
            "byte 0: expected an idx file of bytes with 3 axes",
        ),
        ("train-images-idx3-ubyte", b"", "byte 0: expected an idx file"),
        ("train-images-idx3-ubyte", idx(np.ones((6, 5, 4)))[:9], "byte 9: expected 16 bytes of"),
        ("train-images-idx3-ubyte", idx(np.ones((6, 5, 4)))[:-7], "byte 129: expected 136 bytes"),
        ("train-images-idx3-ubyte", idx(np.ones((6, 5, 4))) + b"x", "byte 136: expected 136 bytes"),
        ("train-images-idx3-ubyte", idx(np.ones((0, 5, 4))), "byte 4: expected sizes above 0"),
        ("train-images-idx3-ubyte", idx(np.ones((6, 5, 5))), "expected images of one size, got"),
        ("train-labels-idx1-ubyte", idx(np.ones(5)), "byte 4: expected 6 labels, got 5"),
        ("train-labels-idx1-ubyte", idx([1, 2, 3, 4, 26, 6]), "byte 12: expected a label from 0"),
        ("train-labels-idx1-ubyte", idx(np.ones((6, 2, 2))), "byte 0: expected an idx file"),
        (
            "train-labels-idx1-ubyte",
            gzip.compress(idx(np.ones(6)), mtime=0)[:-9],
            "expected a whole gzip",
        ),
        (
            "train-labels-idx1-ubyte",
            gzip.compress(idx(np.ones(6)), mtime=0)[:-8] + bytes(8),
            "byte 0 or after: expected a whole gzip",
        ),
    ],
)
def test_digits_name_what_is_wrong_with_a_file(mnist, name, content, said):
    path, _ = mnist
    (path / (name + ".gz")).unlink(missing_ok=True)
    (path / name).write_bytes(content)
    assert said in complaint(digits, path)


def test_digits_name_a_missing_file(mnist):
    path, _ = mnist
    (path / "t10k-labels-idx1-ubyte.gz").unlink()
    said = complaint(digits, path)
    assert "expected a folder with t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz" in said
    assert "got none. Give the folder that holds MNIST's four files." in said


def test_digits_name_the_command_that_installs_them(monkeypatch):
    module = sys.modules[digits.__module__]  # the package's name `digits` is the function
    monkeypatch.setattr(module, "folder", lambda *_: Path("/nowhere"))
    module._installed.cache_clear()
    assert "Install scikit-learn again." in complaint(digits)
    monkeypatch.undo()
    module._installed.cache_clear()


# digit_scenes


def test_scenes_have_their_digits_where_the_map_says():
    scenes = digit_scenes(train=60, test=30)
    for part, count, source in (
        (scenes.train, 60, digits().train), (scenes.test, 30, digits().test)
    ):  # fmt: skip
        assert part.images.shape == (count, 1, 24, 24)
        assert part.masks.shape == (count, 24, 24)
        assert part.masks.dtype == torch.int64
        patterns = rows(source.images > 0)
        for image, mask in zip(part.images[:, 0], part.masks, strict=True):
            assert (image[mask > 0] > 0).all()
            assert image.max() <= 1
            assert found(mask, patterns) in (2, 3)


def found(mask, patterns):
    """Count the digits by a slow search; each window of 8×8 is compared with every known digit."""
    count, left = 0, (mask > 0).clone()
    while left.any():
        hits = []
        for row in range(17):
            for column in range(17):
                window = left[row : row + 8, column : column + 8]
                if window.any() and window[None].numpy().tobytes() in patterns:
                    hits.append((int(window.sum()), row, column))
        assert hits, "ink that is no digit of this part"
        _, row, column = max(hits)
        left[row : row + 8, column : column + 8] = False
        count += 1
    return count


def test_scenes_repeat_and_differ_by_seed():
    one, again, other = (digit_scenes(train=5, test=5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.train.images, again.train.images)
    assert torch.equal(one.test.masks, again.test.masks)
    assert not torch.equal(one.test.images, other.test.images)
    with pytest.raises(ValueError, match="test: expected 0 or more, got -1"):
        digit_scenes(test=-1)


def test_scenes_have_clutter():
    scenes = digit_scenes(train=50, test=1).train
    behind = (scenes.images[:, 0] > 0) & (scenes.masks == 0)
    assert behind.flatten(1).sum(1).min() > 3
    assert scenes.images[:, 0][behind].max() < scenes_module.FAINT


# stamped_digits


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (2, 5), (1, 3)])
def test_stamped_digits_hold_one_image_twice_and_another_once(rows, columns):
    made = stamped_digits(train=40, test=20, seed=5, rows=rows, columns=columns)
    for part, count, source in (
        (made.train, 40, digits().train), (made.test, 20, digits().test)
    ):  # fmt: skip
        assert part.images.shape == (count, 1, 8 * rows, 8 * columns)
        assert part.labels.dtype == torch.int64
        for image, label in zip(part.images[:, 0], part.labels.tolist(), strict=True):
            cells = image.unflatten(0, (rows, 8)).unflatten(2, (columns, 8)).transpose(1, 2)
            dark = [c for c in cells.flatten(0, 1) if c.max() > scenes_module.FAINT]
            found = [nearest(cell, source.images) for cell in dark]
            assert len(found) == 3
            once = [number for number in found if found.count(number) == 1]
            twice = {number for number in found if found.count(number) == 2}
            assert [source.labels[number] for number in once] == [label]
            assert [source.labels[number] != label for number in twice] == [True]


def nearest(cell, known):
    """Number the image from which a cell differs in the fewest pixels: in the specks alone."""
    return int((known[:, 0] != cell).sum((1, 2)).argmin())


def test_stamped_digits_repeat():
    one, again, other = (stamped_digits(train=6, test=4, seed=seed) for seed in (9, 9, 10))
    assert torch.equal(one.test.images, again.test.images)
    assert torch.equal(one.train.labels, again.train.labels)
    assert not torch.equal(one.train.images, other.train.images)
    assert len(stamped_digits(train=0, test=1).train) == 0


def test_stamped_digits_are_balanced():
    share = stamped_digits(train=4000, test=1).train.labels.bincount(minlength=10) / 4000
    assert (share - 0.1).abs().max() < 0.03


def test_stamped_digits_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="train: expected 0 or more, got -3"):
        stamped_digits(train=-3)
    with pytest.raises(ValueError, match="expected three cells or more, got 1×2"):
        stamped_digits(rows=1, columns=2)


# digit_scenes from a folder


@pytest.fixture
def pngs(tmp_path):
    """Write a dozen pairs of PNG files: images in grey or colour, masks in grey or a palette."""
    chance = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(12):
        grey = chance.integers(0, 256, (6, 9), dtype=np.uint8)
        image, mask = Image.fromarray(grey), Image.fromarray(grey // 64)
        if number % 2:
            image = image.convert("RGB")
            mask.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        image.save(tmp_path / "images" / f"scene{number}.png")
        mask.save(tmp_path / "masks" / f"scene{number}.png")
    return tmp_path


def test_scenes_read_a_folder(pngs):
    scenes = digit_scenes(pngs)
    assert len(scenes.train) + len(scenes.test) == 12
    assert len(scenes.test) > 0
    for part in (scenes.train, scenes.test):
        assert part.images.shape[1:] == (1, 6, 9)
        assert torch.equal(part.masks, (part.images[:, 0] * 255).round().long() // 64)


def with_pixels(content, packed):
    """Put other data into a PNG file, with the right checksum; IHDR and PLTE end at byte 57."""
    at = content.index(b"IDAT")
    end = at + 8 + struct.unpack(">I", content[at - 4 : at])[0]
    chunk = b"IDAT" + packed
    size, check = (struct.pack(">I", number) for number in (len(packed), zlib.crc32(chunk)))
    return content[: at - 4] + size + chunk + check + content[end:]


def spoil(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: b"GIF89a", "scene3.png, byte 0: expected a PNG file"),
        (lambda content: content[:-20], "expected"),
        (lambda content: content[:20] + b"\xff" + content[21:], "byte 8: expected a chunk as it"),
        (lambda content: content[:8], "byte 8: expected another chunk, got the end"),
        (lambda content: with_pixels(content, b"no zlib"), "byte 57: expected a PNG image"),
    ],
)
def test_scenes_name_a_damaged_file(pngs, change, said):
    spoil(pngs / "masks" / "scene3.png", change)
    came = complaint(digit_scenes, pngs)
    assert "scene3.png, byte " in came
    assert said in came


def test_scenes_name_what_does_not_fit(pngs):
    def save(mode, size, kind="masks"):
        Image.new(mode, size).save(pngs / kind / "scene3.png")

    save("RGB", (9, 6))
    assert "scene3.png: expected a mask of 8-bit classes" in complaint(digit_scenes, pngs)
    save("L", (9, 7))
    assert "scene3.png: expected 9×6 pixels, got 9×7 pixels" in complaint(digit_scenes, pngs)
    save("L", (9, 6))
    save("I;16", (9, 6), "images")
    assert "scene3.png: expected an image of 8-bit channels" in complaint(digit_scenes, pngs)
    (pngs / "masks" / "scene3.png").unlink()
    assert "masks/scene3.png: expected a file beside the one in images, got none" in complaint(
        digit_scenes, pngs
    )
    assert "expected a folder of PNG files, got none" in complaint(digit_scenes, pngs / "masks")
