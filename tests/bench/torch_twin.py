"""The works of the benchmark in PyTorch: eager, float32 with TF32 off, SDPA attention, fused optimizers.

Takes one argument, JSON: {"works": [...], "rounds": N, "turn": ms, "warmUp": ms}. Prints a line of JSON for the machine
and one for each contender. As in measure.ts, a round is a turn of at least `turn` ms of steps with one wait at its end.
"""

import gc
import json
import math
import subprocess
import sys
import time

try:
    import torch
except ImportError:
    sys.exit("this Python has no torch: install it, or leave out --torch")

import torch.nn.functional as F

if not torch.cuda.is_available():
    sys.exit("torch finds no CUDA device: run it on an NVIDIA GPU, or leave out --torch")

DEVICE = "cuda"
VOCABULARY = 256
EAGER = {"precision": "f32, TF32 off", "recompute": "nothing", "batch": "one, on the device"}


def say(line):
    print(json.dumps(line), flush=True)


def turn(step, steps):
    """Milliseconds of some steps with one wait at the end."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began)


def rounds_of(step, lengths):
    """Milliseconds of a step in each round, after the clocks have risen."""
    steps, ms = 1, turn(step, 1)
    while ms < lengths["warmUp"]:
        steps *= 2
        ms = turn(step, steps)
    steps = max(1, math.ceil(lengths["turn"] * steps / ms))
    return [turn(step, steps) / steps for _ in range(lengths["rounds"])]


def tidy():
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def measure(step, loss_at, lengths):
    """First step, loss after `loss_at` steps, rounds and peak memory. `step` returns the loss, a tensor."""
    first = turn(step, 1)
    loss = None
    for _ in range(loss_at - 1):
        loss = step()
    loss = step().item() if loss is None else loss.item()
    times = rounds_of(step, lengths)
    return {"first": first, "loss": loss, "times": times, "memory": torch.cuda.max_memory_allocated()}


def language_model(name, model, work, lengths):
    """A transformers model: AdamW and clipping by the global norm, then the same without clipping."""
    batch, length, vocabulary = work["batch"], work["length"], work["shape"]["vocabulary"]
    model = model.to(DEVICE).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    ids = (torch.arange(batch * length, device=DEVICE) * 7919 % vocabulary).view(batch, length)

    def step(clip=True):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    seen = measure(step, work["lossAt"], lengths)
    unclipped = rounds_of(lambda: step(clip=False), lengths)
    side = {
        **EAGER,
        "optimizer": "AdamW, fused",
        "clipping": "global norm 1",
        "attention": getattr(model.config, "_attn_implementation", None) or "transformers' default",
        "head": "tied",
    }
    return {"name": name, "side": side, "unclipped": unclipped, **seen}


def llama(work, lengths):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = work["shape"]
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["mlp"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kvHeads"],
        max_position_embeddings=work["length"],
        tie_word_embeddings=True,
    )
    return language_model("PyTorch Llama", LlamaForCausalLM(config), work, lengths)


def gpt2(work, lengths):
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = work["shape"]
    config = GPT2Config(
        vocab_size=shape["vocabulary"],
        n_positions=max(1024, work["length"]),
        n_embd=shape["hidden"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return language_model("PyTorch GPT-2", GPT2LMHeadModel(config), work, lengths)


def one_layer(work, lengths):
    """The network of one_layer.ts, with its batches and weights of the same deviation."""
    width, length, batch = work["width"], work["time"], work["batch"]
    heads = max(1, width // 32)

    def normal(*shape):
        return torch.nn.Parameter(0.02 * torch.randn(*shape, device=DEVICE))

    def ones():
        return torch.nn.Parameter(torch.ones(width, device=DEVICE))

    wte, wpe = normal(VOCABULARY, width), normal(length, width)
    wqkv, wo = normal(width, 3 * width), normal(width, width)
    w1, w2 = normal(width, 4 * width), normal(4 * width, width)
    g1, g2, gf = ones(), ones(), ones()
    optimizer = torch.optim.Adam([wte, wpe, wqkv, wo, w1, w2, g1, g2, gf], lr=1e-3, fused=True)

    # The batches of one_layer.ts come again after 256 steps; all of them are on the device.
    steps = torch.arange(VOCABULARY, device=DEVICE).view(-1, 1, 1)
    rows = torch.arange(batch, device=DEVICE).view(1, -1, 1)
    columns = torch.arange(length, device=DEVICE).view(1, 1, -1)
    inputs = (7 * steps + 31 * rows + 5 * columns) % VOCABULARY
    targets = (inputs + 5) % VOCABULARY
    taken = 0

    def rms_norm(x, gain):
        return x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-5) * gain

    def forward(x, y):
        h = wte[x] + wpe
        q, k, v = (rms_norm(h, g1) @ wqkv).view(batch, length, 3, heads, width // heads).unbind(2)
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
        )
        h = h + attended.transpose(1, 2).reshape(batch, length, width) @ wo
        h = h + F.gelu(rms_norm(h, g2) @ w1, approximate="tanh") @ w2
        return F.cross_entropy((rms_norm(h, gf) @ wte.T).view(-1, VOCABULARY), y.view(-1))

    def step():
        nonlocal taken
        taken += 1
        loss = forward(inputs[taken % VOCABULARY], targets[taken % VOCABULARY])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    side = {
        **EAGER,
        "optimizer": "Adam, fused",
        "clipping": "none",
        "attention": "sdpa",
        "head": "tied",
        "batch": "a new one each step, on the device",
    }
    return {"name": "PyTorch", "side": side, "unclipped": None, **measure(step, work["lossAt"], lengths)}


def product(work, lengths):
    m, n, k, layout = work["m"], work["n"], work["k"], work["layout"]
    a = torch.rand(k, m, device=DEVICE).sub_(0.5).T if layout[0] == "T" else torch.rand(m, k, device=DEVICE).sub_(0.5)
    b = torch.rand(n, k, device=DEVICE).sub_(0.5).T if layout[1] == "T" else torch.rand(k, n, device=DEVICE).sub_(0.5)
    c = torch.empty(m, n, device=DEVICE)

    def step():
        torch.matmul(a, b, out=c)

    first = turn(step, 1)
    side = {key: "none" for key in ("optimizer", "clipping", "attention", "head")}
    side = {**EAGER, **side, "batch": "operands on the device"}
    return {
        "name": "cuBLAS",
        "side": side,
        "first": first,
        "loss": None,
        "times": rounds_of(step, lengths),
        "unclipped": None,
        "memory": None,
    }


def driver():
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def transformers_version():
    try:
        from importlib.metadata import version

        return version("transformers")
    except ImportError:
        return None


def main():
    question = json.loads(sys.argv[1])
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    say(
        {
            "torch": torch.__version__,
            "transformers": transformers_version(),
            "cuda": torch.version.cuda,
            "device": torch.cuda.get_device_name(),
            "driver": driver(),
        }
    )
    for index, work in enumerate(question["works"]):
        runs = {
            "model": [llama, gpt2] if work.get("gpt2") else [llama],
            "layer": [one_layer],
            "product": [product],
        }[work["kind"]]
        for run in runs:
            tidy()
            say({"work": index, **run(work, question)})


main()
