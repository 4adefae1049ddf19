"""What people train: transformers from the hub's library, LoRA, compiled, scaled, scheduled."""

import os
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import zotk

os.environ.setdefault("HF_HUB_OFFLINE", "1")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import peft
    import transformers

# no padding token: autograd leaves its embedding out, differences do not
TOKENS = torch.randint(1, 50, (8, 6), generator=torch.Generator().manual_seed(1))
LABELS = TOKENS[:, 0] % 2
GPT2 = {"vocab_size": 50, "n_positions": 8, "n_embd": 16, "n_layer": 2, "n_head": 2,
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}  # fmt: skip
BERT = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 8}  # fmt: skip


def seeded(make):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return make()


def gpt2():
    return seeded(lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)))


def bert():
    config = transformers.BertConfig(**BERT, num_labels=2)
    return seeded(lambda: transformers.BertForSequenceClassification(config))


def lora(dtype=torch.bfloat16):
    """A bf16 classifier whose trainable part is LoRA (with dropout) and its head."""
    config = peft.LoraConfig(
        r=2, lora_alpha=4, lora_dropout=0.1, target_modules=["query", "value"],
        modules_to_save=["classifier"],
    )  # fmt: skip
    return seeded(lambda: peft.get_peft_model(bert().to(dtype), config)).train()


def loss_of(net):
    """Cross-entropy in float32 or wider: the libraries' own loss is float32 in any case."""
    of_tokens = isinstance(net, transformers.GPT2LMHeadModel)

    def closure():
        logits = net(TOKENS).logits
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if of_tokens:
            return nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), TOKENS[:, 1:])
        return nn.functional.cross_entropy(logits, LABELS)

    return closure


@pytest.mark.parametrize("make", [gpt2, bert, lambda: lora(torch.float32).eval()])
@pytest.mark.parametrize("memory", ["store", "replay", "exact", "layerwise"])
def test_slopes_are_those_of_autograd(make, memory):
    """c = z·∇L along every direction, tied embeddings and adapters among them."""
    net = make().double().eval()
    closure = loss_of(net)
    made = zotk.measure(closure, net, queries=3, eps=1e-6, memory=memory)
    closure().backward()
    trained = [p for p in net.parameters() if p.requires_grad]
    for c, seed in zip(made.coefficients, made.seeds, strict=True):
        pieces = zotk.Gaussian().pieces(trained, seed)
        slope = sum(
            float((p.grad * z).sum()) for p, z in zip(trained, pieces, strict=True)
            if p.grad is not None
        )  # fmt: skip
        assert 3 * c == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_a_loop_as_people_write_it():
    """Warm-up, clipping and accumulation of two batches, with dropout on: the loss falls."""
    net = bert().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 5, 120)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    start = evaluated(net)
    for _ in range(120):
        for half in (slice(0, 4), slice(4, 8)):

            def closure(half=half):
                return nn.functional.cross_entropy(net(TOKENS[half]).logits, LABELS[half]) / 2

            zotk.backward(
                closure, net, queries=4, directions=zotk.Rademacher(), generator=generator
            )
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    assert evaluated(net) < 0.85 * start


def evaluated(net):
    with torch.no_grad():
        loss = float(loss_of(net.eval())())
    net.train()
    return loss


def test_a_bf16_lora_model_with_dropout_learns():
    """Layerwise, one mask a step, stochastic rounding of small steps."""
    net = lora()
    generator, chance = (torch.Generator().manual_seed(k) for k in range(2))
    frozen = {k: v.clone() for k, v in net.named_parameters() if not v.requires_grad}
    start = evaluated(net)
    for _ in range(150):
        made = zotk.measure(loss_of(net), net, queries=4, eps=0.05, memory="layerwise",
                            generator=generator)  # fmt: skip
        zotk.replay_(net, made, -0.2, rounding="stochastic", generator=chance)
    assert all(torch.equal(v, dict(net.named_parameters())[k]) for k, v in frozen.items())
    assert evaluated(net) < 0.85 * start


def test_the_readmes_examples_run_as_printed(tmp_path, monkeypatch):
    """Fine-tuning; then its log makes the same weights again, bit by bit."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    tune, machines, resume = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-3:]
    monkeypatch.chdir(tmp_path)
    trained, fresh = {}, {}
    few = tune.replace("range(settings.horizon)", "range(3)")
    assert few != tune
    seeded(lambda: exec(few, trained))
    assert trained["settings"].horizon == 200 and trained["settings"].memory == "layerwise"
    seeded(lambda: exec(tune.split("measured = ")[0], fresh))
    weights = [list(found["net"].parameters()) for found in (trained, fresh)]
    assert len(zotk.Log("run.jsonl")) == 3 and not all(map(torch.equal, *weights))
    exec(resume, fresh | {"zotk": zotk, "settings": trained["settings"]})
    assert all(map(torch.equal, *weights))
    assert "group=torch.distributed.group.WORLD" in machines  # run in test_machines


def test_compiled():
    net = bert().eval()
    plain = zotk.measure(loss_of(net), net, eps=1e-2, memory="exact", queries=2)
    compiled = torch.compile(net, backend="eager")
    for memory in ("exact", "store", "layerwise"):
        made = zotk.measure(loss_of(compiled), net, eps=1e-2, memory=memory, queries=2)
        assert made.coefficients == pytest.approx(plain.coefficients, rel=1e-3, abs=1e-5)


def test_grad_scaler_sees_nothing_but_the_gradient():
    """A scaler for losses that are not scaled: `.grad` is unscaled by hand, or not scaled."""
    net = zotk.mlp([4, 3, 2], generator=torch.Generator().manual_seed(2))
    x = torch.ones(5, 4)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    twin = zotk.mlp([4, 3, 2], generator=torch.Generator().manual_seed(2))
    zotk.backward(lambda: scaler.scale(net(x).square().mean()), net, directions=zotk.Rademacher())
    scaler.step(optimizer)
    scaler.update()
    zotk.backward(lambda: twin(x).square().mean(), twin, directions=zotk.Rademacher())
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-3)
