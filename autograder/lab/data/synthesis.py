"""Make spoken_digits.tar.xz, which `speech` reads.

    python -c "from autograder.lab.data import synthesis; synthesis.write()"

The voice is eSpeak NG's, a formant synthesiser: the library that the package espeakng-loader
carries, called through ctypes. Only this script needs that package. The same version gives the
same samples on every computer of one kind; `tests/test_speech.py` makes some again and compares.
"""

import ctypes
import io
import lzma
import multiprocessing
import random
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from autograder.lab.data.speech import INSTALLED, RATE, WORDS, wav
from autograder.lab.errors import DataError

PACKAGE = "espeakng-loader==0.2.4"
SEED = 8
EACH = 20  # utterances of a voice
PEAK = 0.9
ESPEAK_RATE = 22050  # samples a second
# A voice is a timbre and an accent. Timbres that draw on an unseeded random generator, and would
# differ from run to run, are left out, and so are robots.
TIMBRES = (
    "adam", "Alex", "Andrea", "Andy", "anika", "Annie", "announcer", "antonio", "aunty", "belinda",
    "boris", "Denis", "Diogo", "ed", "f1", "f4", "Gene", "grandma", "grandpa", "gustave",
    "Henrique", "Hugo", "ian", "iven", "Jacky", "john", "Lee", "linda", "m1", "m3",
    "m4", "m7", "m8", "Mario", "Michael", "miguel", "Mike", "norbert", "quincy", "steph",
)  # fmt: skip
ACCENTS = (
    "en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-us-nyc", "en-029",
)  # fmt: skip
# Numbers of the C interface, from speak_lib.h.
RETRIEVAL, SPEED, PITCH, POSITION_CHARACTER, UTF8 = 1, 1, 3, 1, 1


@dataclass(frozen=True)
class Utterance:
    """What is said, and how."""

    digits: str
    timbre: str
    accent: str
    speed: int
    """Words a minute."""
    pitch: int
    """From 0 to 100."""
    number: int

    @property
    def name(self) -> str:
        return f"{self.digits}_{self.timbre.lower()}_{self.number}.wav"


def planned() -> list[Utterance]:
    """Give all utterances, in the order of the file."""
    chance = random.Random(SEED)
    plan = []
    for place, timbre in enumerate(TIMBRES):
        accent = ACCENTS[place % len(ACCENTS)]
        for number in range(EACH):
            digits = "".join(chance.choice("0123456789") for _ in range(chance.randint(2, 5)))
            speed, pitch = chance.randint(130, 180), chance.randint(35, 65)
            plan.append(Utterance(digits, timbre, accent, speed, pitch, number))
    return plan


def spoken(plan: Iterable[Utterance]) -> Iterator[np.ndarray]:
    """Speak each utterance: float64, at RATE, with its peak at PEAK.

    The synthesiser remembers what it said before, so each utterance has a process of its own.
    Raises: DataError where the package is missing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(2, maxtasksperchild=1) as pool:
        yield from pool.imap(speak, plan, chunksize=1)


def speak(utterance: Utterance) -> np.ndarray:
    """Speak one utterance; the first call of a process alone gives what the file holds."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise DataError(
            f"the synthesiser is not installed. Run: pip install --no-deps {PACKAGE}"
        ) from error
    espeak, pieces = ctypes.CDLL(espeakng_loader.get_library_path()), []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def hear(samples: ctypes.Array, count: int, events: int) -> int:
        if samples and count:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    folder = espeakng_loader.get_data_path().encode()
    text = " ".join(WORDS[int(digit)] for digit in utterance.digits).encode()
    voice = f"{utterance.accent}+{utterance.timbre}".encode()
    started = espeak.espeak_Initialize(RETRIEVAL, 0, folder, 0)
    espeak.espeak_SetSynthCallback(hear)
    faults = (
        started != ESPEAK_RATE,
        espeak.espeak_SetVoiceByName(voice),
        espeak.espeak_SetParameter(SPEED, utterance.speed, 0),
        espeak.espeak_SetParameter(PITCH, utterance.pitch, 0),
        espeak.espeak_Synth(text, len(text) + 1, 0, POSITION_CHARACTER, 0, UTF8, None, None),
        espeak.espeak_Synchronize(),
    )
    if any(faults) or not pieces:
        raise DataError(f"{utterance.name}: expected sound from {PACKAGE}, got {faults}.")
    samples = resample_poly(
        np.concatenate(pieces).astype(np.float64), RATE // 50, ESPEAK_RATE // 50
    )
    return samples * (PEAK / np.abs(samples).max())


def write(path: Path = INSTALLED) -> None:
    """Write all utterances as 8-bit WAV files into one archive."""
    # Neighbouring samples differ little: the delta filter saves a fifth.
    filters = [
        {"id": lzma.FILTER_DELTA, "dist": 1},
        {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME},
    ]
    plan = planned()
    with (
        lzma.open(path, "wb", filters=filters) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for utterance, samples in zip(plan, spoken(plan), strict=True):
            content = wav(samples)
            entry = tarfile.TarInfo(utterance.name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
