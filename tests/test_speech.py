"""Spoken digits: what the parts hold, that the file is made again, what is said of bad files."""

import random
import struct

import numpy as np
import pytest
import torch

from autograder.lab.data import speech, synthesis
from autograder.lab.errors import DataError


@pytest.fixture(scope="module")
def installed():
    return speech.spoken_digits()


def recording(samples=400, *, wide=2, rate=8000, channels=1, form=1, extra=b""):
    """Give a WAV file as other programs write it: a ramp of 16 or 8 bits."""
    data = struct.pack(f"<{samples}h", *range(samples))
    if wide == 1:
        data = bytes(value % 256 for value in range(samples))
    layout = struct.pack("<HHIIHH", form, channels, rate, rate * wide, wide, 8 * wide)
    body = b"WAVE" + b"fmt " + struct.pack("<I", 16) + layout + extra
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.fixture
def folder(tmp_path):
    """Write files in the form of the Free Spoken Digit Dataset and give their folder."""

    def call(files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return tmp_path

    return call


GOOD = {f"{digit}_{voice}_0.wav": recording() for digit in (7, 3) for voice in ("ann", "bob")}


def complaint(path):
    """Give the text of a DataError; a call that succeeds fails the test."""
    with pytest.raises(DataError) as caught:
        speech.spoken_digits(path)
    return str(caught.value)


def test_no_voice_of_test_is_in_train(installed):
    train, test = installed.train, installed.test
    assert (len(train), len(test)) == (640, 160)
    assert len(set(train.voices)) == 32
    assert len(set(test.voices)) == 8
    assert not set(train.voices) & set(test.voices)
    assert installed.rate == 8000


def test_clips_are_sound(installed):
    words = set(speech.WORDS)
    heard = set()
    for part in (installed.train, installed.test):
        assert len(part.audio) == len(part.texts) == len(part.voices) == len(part)
        for audio, text in zip(part.audio, part.texts, strict=True):
            assert audio.dtype == torch.float32
            assert 0.85 < audio.abs().max() <= 1
            assert 2 <= len(text.split()) <= 5
            assert set(text.split()) <= words
            # A word takes from a sixth of a second to a whole one.
            assert 8000 / 6 < len(audio) / len(text.split()) < 8000
            heard |= set(text.split())
    assert heard == words
    lengths = [len(audio) for part in (installed.train, installed.test) for audio in part.audio]
    assert (min(lengths), max(lengths)) == (3339, 18385)
    assert 15.5 < sum(lengths) / 8000 / 60 < 16.5


def test_archive_is_small():
    assert speech.INSTALLED.stat().st_size <= 4_000_000


def test_plan_is_what_the_archive_holds(installed):
    plan = sorted(synthesis.planned(), key=lambda one: (one.timbre.lower(), one.number))
    stored = [*zip(installed.train.voices, installed.train.texts, strict=True)]
    stored += zip(installed.test.voices, installed.test.texts, strict=True)
    said = [" ".join(speech.WORDS[int(digit)] for digit in one.digits) for one in plan]
    assert sorted(stored, key=lambda one: one[0]) == [
        (one.timbre.lower(), text) for one, text in zip(plan, said, strict=True)
    ]
    assert len(plan) == 800


def test_synthesis_makes_the_clips_again(installed):
    """The stored samples, but for rounding of the resampler; and what 8 bits cost."""
    pytest.importorskip("espeakng_loader", reason="the synthesiser is only needed to make the file")
    stored = {}
    for part in (installed.train, installed.test):
        for voice, text, audio in zip(part.voices, part.texts, part.audio, strict=True):
            stored.setdefault((voice, text), audio.numpy())
    plan = synthesis.planned()
    chosen = [plan[number] for number in random.Random(0).sample(range(800), 12)]
    for one, samples in zip(chosen, synthesis.spoken(chosen), strict=True):
        text = " ".join(speech.WORDS[int(digit)] for digit in one.digits)
        audio = stored[one.timbre.lower(), text]
        assert len(samples) == len(audio)
        error = samples - audio
        assert np.abs(error).max() < 0.5 / 127 + 1e-6  # the step of 8 bits, and nothing else
        assert 10 * np.log10((samples**2).mean() / (error**2).mean()) > 30  # decibels


def test_each_utterance_is_spoken_afresh():
    """The synthesiser remembers what it said: order and company must not matter."""
    pytest.importorskip("espeakng_loader", reason="the synthesiser is only needed to make the file")
    three = synthesis.planned()[5:8]
    forth, back = list(synthesis.spoken(three)), list(synthesis.spoken(three[::-1]))
    for one, other in zip(forth, back[::-1], strict=True):
        assert np.array_equal(one, other)


def test_wav_is_read_as_it_was_written():
    """A law: to a step of 8 bits, and the header is one that Python's own reader takes."""
    import io
    import wave

    samples = np.sin(np.linspace(0, 40, 901)) * 0.9  # an odd number, which is padded
    content = speech.wav(samples)
    read = speech.read_wav(content, "x.wav").numpy()
    assert np.abs(read - samples).max() <= 0.5 / 127 + 1e-6
    with wave.open(io.BytesIO(content)) as file:
        assert file.getparams()[:4] == (1, 1, 8000, 901)
        assert file.readframes(901) == content[44:945]


def test_folder_like_the_free_spoken_digit_dataset(folder):
    files = {"7_jackson_0.wav": recording(400), "7_jackson_10.wav": recording(300)}
    files |= {"0_jackson_2.wav": recording(200), "9_theo_0.wav": recording(500, wide=1)}
    list_chunk = b"LIST" + struct.pack("<I", 5) + b"about\0"  # an odd size is padded
    files |= {"31_george_0.wav": recording(350, extra=list_chunk)}
    found = speech.spoken_digits(folder(files))
    assert set(found.test.voices) == {"theo"}
    assert found.train.voices == ("george", "jackson", "jackson", "jackson")
    # By number, not by the text of the number.
    assert found.train.texts == ("three one", "seven", "zero", "seven")
    assert [len(audio) for audio in found.train.audio] == [350, 400, 200, 300]
    ramp = torch.arange(350) / 32767
    assert torch.allclose(found.train.audio[0], ramp, atol=1e-7)
    expected = ((torch.arange(500) % 256 - 128) / 127).clamp(-1, 1)
    assert torch.allclose(found.test.audio[0], expected)


def test_one_voice_in_five_is_for_testing(folder):
    """Every fifth from the end of the alphabet, as many as there are."""
    names = [f"v{number:02}" for number in range(11)]
    found = speech.spoken_digits(folder({f"1_{name}_0.wav": recording(50) for name in names}))
    assert found.test.voices == ("v00", "v05", "v10")
    assert len(found.train) == 8


BROKEN = {
    "empty": (b"", "byte 0: expected a WAV file, which begins RIFF....WAVE, got an empty file"),
    "foreign": (
        b"ID3\x04 music",
        "byte 0: expected a WAV file, which begins RIFF....WAVE, got b'ID3",
    ),
    "riff_of_another_kind": (
        b"RIFF\x04\0\0\0AVI LIST",
        "byte 0: expected a WAV file, which begins RIFF....WAVE, got b'RIFF",
    ),
    "cut_in_the_head": (
        recording()[:12],
        "byte 12: expected a chunk 'data', got the end of the file",
    ),
    "cut_in_a_chunks_head": (
        recording()[:15],
        "byte 12: expected 8 bytes that begin a chunk, got 3 bytes up to the end of the file",
    ),
    "cut_in_the_layout": (
        recording()[:30],
        "byte 20: expected the 16 bytes of the chunk 'fmt ', got 10 up to the end of the file",
    ),
    "cut_in_the_sound": (
        recording()[:-100],
        "byte 44: expected the 800 bytes of the chunk 'data', got 700 up to the end of the file",
    ),
    "no_sound": (recording(0), "byte 44: expected samples of 2 bytes, got 0 bytes of them"),
    "compressed": (recording(form=85), "byte 20: expected the format 1, which is PCM, got 85"),
    "stereo": (recording(channels=2), "byte 22: expected 1 channel, got 2"),
    "another_rate": (recording(rate=16000), "byte 24: expected 8000 samples a second, got 16000"),
    "wide": (recording()[:34] + b"\x18\0" + recording()[36:], "byte 34: expected 8 or 16 bits"),
    "half_a_sample": (
        recording()[:40] + struct.pack("<I", 799) + recording()[44:],
        "byte 44: expected samples of 2 bytes, got 799 bytes of them",
    ),
    "sound_first": (
        recording()[:12] + b"data\x02\0\0\0\0\0" + recording()[12:],
        "byte 20: expected a chunk 'fmt ' before 'data', got none",
    ),
    "short_layout": (
        recording()[:12] + b"fmt \x04\0\0\0\x01\0\x01\0",
        "byte 20: expected 16 bytes or more in the chunk 'fmt ', got 4",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_errors_name_the_file_and_the_byte(folder, kind):
    content, said = BROKEN[kind]
    path = folder(GOOD | {"5_ann_1.wav": content})
    text = complaint(path)
    assert text.startswith(f"{path / '5_ann_1.wav'}, {said}")
    assert text.endswith("Get the file again, or save it as 8 or 16-bit PCM, mono, 8000 Hz.")


@pytest.mark.parametrize("name", ["five_ann_1.wav", "5_ann.wav", "5-ann-1.wav", "5_ann_b_1.wav"])
def test_errors_name_a_misnamed_file(folder, name):
    text = complaint(folder(GOOD | {name: recording()}))
    assert f"{name}: expected a name like 7_jackson_0.wav" in text


def test_errors_name_what_is_no_folder(folder, tmp_path):
    assert "expected a folder of WAV files, got no such folder" in complaint(tmp_path / "gone")
    assert "expected a folder of WAV files, got none in it" in complaint(tmp_path)
    path = folder(GOOD) / "7_ann_0.wav"
    assert f"{path}: expected a folder of WAV files, got a file" in complaint(path)


def test_one_voice_is_too_few(folder):
    text = complaint(folder({"7_ann_0.wav": recording(), "3_ann_0.wav": recording()}))
    assert "expected two voices or more, got only ann" in text


def test_unreadable_file_is_named(folder):
    path = folder(GOOD)
    (path / "8_cid_0.wav").mkdir()
    assert f"{path / '8_cid_0.wav'}: expected a WAV file, got nothing that can be read" in (
        complaint(path)
    )


@pytest.mark.parametrize("damage", ["missing", "cut", "turned"])
def test_damaged_archive_is_named(tmp_path, monkeypatch, damage):
    path = tmp_path / "spoken_digits.tar.xz"
    content = bytearray(speech.INSTALLED.read_bytes())
    if damage == "turned":
        content[2000] ^= 255
    if damage != "missing":
        path.write_bytes(content[:5000] if damage == "cut" else content)
    monkeypatch.setattr(speech, "INSTALLED", path)
    text = complaint(None)
    assert text.startswith(f"{path}")
    assert "expected the archive of the package, got" in text
    assert text.endswith("Get the file from the repository again.")
