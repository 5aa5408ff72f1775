"""Strings of spoken digits, by many voices."""

import lzma
import os
import re
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autograder.lab.data.files import fault

RATE = 8000  # samples a second
INSTALLED = Path(__file__).with_name("spoken_digits.tar.xz")
NAME = re.compile(r"([0-9]+)_([^_]+)_([0-9]+)\.wav", re.ASCII)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_VOICES = 5  # one voice of so many is for testing
PCM, HEAD = 1, 12  # the format's number, and the bytes before the first chunk
ADVICE = "Get the file again, or save it as 8 or 16-bit PCM, mono, 8000 Hz."


@dataclass(frozen=True)
class Clips:
    """Recordings, and for each what is said and who says it."""

    audio: tuple[Tensor, ...]
    """float32 from -1 to 1, 8000 samples a second, each of its own length."""
    texts: tuple[str, ...]
    """Words with single spaces between them."""
    voices: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class SpokenDigits:
    """Recordings in two parts; no voice of `test` is in `train`."""

    train: Clips
    test: Clips
    rate: int = RATE
    """Samples a second."""


def spoken_digits(path: str | os.PathLike | None = None) -> SpokenDigits:
    """Give recordings of digits, such as "three one four", with their words.

    Without a path: 800 strings of two to five digits by 40 voices of a synthesiser, 20 by each.
    With a path: a folder of WAV files named like those of the Free Spoken Digit Dataset,
    7_jackson_0.wav, for digit, speaker and number; a name may also begin with several digits.
    One voice in five is for testing: in the order of the alphabet the last, and every fifth one
    before it. The order of the clips is that of voices and numbers.

    Shapes: audio (N,) with N from 3,339 to 18,385; 16 minutes in all.
    Units: 8,000 samples a second, from -1 to 1.
    Source: made here with eSpeak NG 1.52 by `autograder.lab.data.synthesis`; no licence needed for
    its output. 8 bits a sample leave the sound more than 30 dB above the error of rounding.
    Raises: DataError that names the file that is wrong and the byte in it.
    """
    if path is None:
        return _parts(_packed(INSTALLED), INSTALLED)
    return _parts(_folder(Path(path)), path)


def wav(samples: np.ndarray) -> bytes:
    """Give sound from -1 to 1 as the bytes of a WAV file: 8-bit, mono, at RATE."""
    data = (np.clip(np.round(samples * 127), -128, 127) + 128).astype(np.uint8).tobytes()
    layout = struct.pack("<HHIIHH", PCM, 1, RATE, RATE, 1, 8)
    data += b"\0" * (len(data) % 2)  # chunks have even lengths
    chunks = _chunk(b"fmt ", layout) + _chunk(b"data", data, len(samples))
    return _chunk(b"RIFF", b"WAVE" + chunks)


def read_wav(content: bytes, path: str | os.PathLike) -> Tensor:
    """Read the bytes of a WAV file as float32 from -1 to 1; `path` is for the errors.

    Raises: DataError with the byte from which on it is not mono PCM of 8 or 16 bits at 8000 Hz.
    """
    wide = None
    for name, place, size in _chunks(content, path):
        if name == b"fmt ":
            wide = _width(content, place, size, path)
        elif name == b"data":
            if wide is None:
                raise fault(path, f"byte {place}", "a chunk 'fmt ' before 'data'", "none", ADVICE)
            if size == 0 or size % wide:
                wanted = f"samples of {wide} bytes"
                raise fault(path, f"byte {place}", wanted, f"{size} bytes of them", ADVICE)
            return _samples(content[place : place + size], wide)
    wanted = "a chunk 'data'"
    raise fault(path, f"byte {len(content)}", wanted, "the end of the file", ADVICE)


def _chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content


def _chunks(content: bytes, path: str | os.PathLike) -> Iterator[tuple[bytes, int, int]]:
    """Give the name of each chunk, the byte at which it begins, and its size."""
    if content[:4] != b"RIFF" or content[8:HEAD] != b"WAVE":
        came = repr(content[:HEAD]) if content else "an empty file"
        raise fault(path, "byte 0", "a WAV file, which begins RIFF....WAVE", came, ADVICE)
    begin = HEAD
    while begin < len(content):
        head = content[begin : begin + 8]
        if len(head) < 8:
            came = f"{len(head)} bytes up to the end of the file"
            raise fault(path, f"byte {begin}", "8 bytes that begin a chunk", came, ADVICE)
        name, size = struct.unpack("<4sI", head)
        begin += 8
        if begin + size > len(content):
            came = f"{len(content) - begin} up to the end of the file"
            wanted = f"the {size} bytes of the chunk {name.decode('latin-1')!r}"
            raise fault(path, f"byte {begin}", wanted, came, ADVICE)
        yield name, begin, size
        begin += size + size % 2


def _width(content: bytes, place: int, size: int, path: str | os.PathLike) -> int:
    """Check the chunk that says how sound is stored; give the bytes of a sample."""
    if size < 16:
        wanted = "16 bytes or more in the chunk 'fmt '"
        raise fault(path, f"byte {place}", wanted, f"{size}", ADVICE)
    form, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[place : place + 16])
    for offset, what, came, known in (
        (0, "the format 1, which is PCM", form, (PCM,)),
        (2, "1 channel", channels, (1,)),
        (4, f"{RATE} samples a second", rate, (RATE,)),
        (14, "8 or 16 bits a sample", bits, (8, 16)),
    ):
        if came not in known:
            raise fault(path, f"byte {place + offset}", what, f"{came}", ADVICE)
    return bits // 8


def _samples(data: bytes, wide: int) -> Tensor:
    if wide == 1:  # without a sign: silence is 128
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 127
    else:
        samples = np.frombuffer(data, "<i2").astype(np.float32) / 32767
    return torch.from_numpy(samples.clip(-1, 1))


def _packed(path: Path) -> Iterator[tuple[str, bytes]]:
    """Read the archive of the package."""
    wanted, advice = "the archive of the package", "Get the file from the repository again."
    try:
        with tarfile.open(path, "r:xz") as archive:
            for entry in archive:
                yield entry.name, archive.extractfile(entry).read()
    except OSError as error:
        came = f"no file to read ({error.strerror})"
        raise fault(path, "", wanted, came, advice) from error
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise fault(path, "", wanted, f"{error}", advice) from error


def _folder(path: Path) -> Iterator[tuple[str, bytes]]:
    wanted = "a folder of WAV files"
    advice = "Give the folder in which files like 7_jackson_0.wav lie."
    if not path.is_dir():
        came = "a file" if path.exists() else "no such folder"
        raise fault(path, "", wanted, came, advice)
    files = sorted(path.glob("*.wav"))
    if not files:
        raise fault(path, "", wanted, "none in it", advice)
    for file in files:
        try:
            yield file.name, file.read_bytes()
        except OSError as error:
            came = f"nothing that can be read ({error.strerror})"
            raise fault(file, "", "a WAV file", came, advice) from error


def _parts(files: Iterator[tuple[str, bytes]], path: str | os.PathLike) -> SpokenDigits:
    """Read the files, put them in order and divide them by voice."""
    found = []
    for name, content in files:
        match = NAME.fullmatch(name)
        if match is None:
            wanted = "a name like 7_jackson_0.wav, for digit, speaker and number"
            raise fault(Path(path, name), "", wanted, repr(name), "Rename it or take it away.")
        digits, voice, number = match.groups()
        text = " ".join(WORDS[int(digit)] for digit in digits)
        found.append((voice, int(number), text, read_wav(content, Path(path, name))))
    found.sort(key=lambda clip: clip[:3])
    voices = sorted({voice for voice, *_ in found})
    if len(voices) < 2:
        came = f"only {voices[0]}"
        raise fault(path, "", "two voices or more", came, "One of them is for testing.")
    testing = set(voices[::-1][::TEST_VOICES])
    return SpokenDigits(
        *(
            Clips(
                tuple(audio for *_, audio in part),
                tuple(text for _, _, text, _ in part),
                tuple(voice for voice, *_ in part),
            )
            for part in (
                [clip for clip in found if clip[0] not in testing],
                [clip for clip in found if clip[0] in testing],
            )
        )
    )
