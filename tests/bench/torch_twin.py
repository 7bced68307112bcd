"""The works of the benchmark in PyTorch: SDPA attention, fused optimizers, eager but for the way "compile".

Takes one argument, JSON: {"works": [...], "ways": [...], "rounds": N, "turn": ms, "warmUp": ms}. Prints a line of JSON for
the machine and one for each contender. As in measure.ts, a round is a turn of at least `turn` ms of steps with one wait at
its end.

Ways of a model: f32 with TF32 off, TF32, autocast to bf16, bf16 (weights and moments as well), autocast compiled. Ways of a
product: f32, TF32, and bf16 where one of the last three is asked for.
"""

import contextlib
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
# How a way is called, and how it computes.
WAYS = {
    "f32": ("", "f32, TF32 off"),
    "tf32": (", TF32", "f32, products in TF32"),
    "autocast": (", autocast", "autocast to bf16"),
    "bf16": (", bf16", "bf16, weights and moments as well"),
    "compile": (", compiled", "autocast to bf16, compiled"),
}


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


def language_model(name, model, work, lengths, way):
    """A transformers model: AdamW and clipping by the global norm; in f32 then the same without clipping."""
    batch, length, vocabulary = work["batch"], work["length"], work["shape"]["vocabulary"]
    mixed = way in ("autocast", "compile")
    model = model.to(DEVICE, torch.bfloat16 if way == "bf16" else torch.float32).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    ids = (torch.arange(batch * length, device=DEVICE) * 7919 % vocabulary).view(batch, length)
    forward = torch.compile(model, dynamic=False) if way == "compile" else model

    def step(clip=True):
        with torch.autocast(DEVICE, torch.bfloat16) if mixed else contextlib.nullcontext():
            loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    seen = measure(step, work["lossAt"], lengths)
    unclipped = rounds_of(lambda: step(clip=False), lengths) if way == "f32" else None
    called, precision = WAYS[way]
    side = {
        **EAGER,
        "precision": precision,
        "optimizer": "AdamW, fused",
        "clipping": "global norm 1",
        "attention": getattr(model.config, "_attn_implementation", None) or "transformers' default",
        "head": "tied",
    }
    return {"name": name + called, "side": side, "unclipped": unclipped, **seen}


def llama_config(work):
    from transformers import LlamaConfig

    shape = work["shape"]
    return LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["mlp"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kvHeads"],
        max_position_embeddings=work["length"],
        tie_word_embeddings=shape.get("tied", True),
    )


def llama(work, lengths, way):
    from transformers import LlamaForCausalLM

    return language_model("PyTorch Llama", LlamaForCausalLM(llama_config(work)), work, lengths, way)


def gpt2(work, lengths, way):
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
    return language_model("PyTorch GPT-2", GPT2LMHeadModel(config), work, lengths, way)


def adapter(work, lengths, way):
    """Pairs of LoRA of rank 16 on all projections, by PEFT, beside a frozen base in bf16."""
    import peft
    from transformers import LlamaForCausalLM

    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(DEVICE):
            model = LlamaForCausalLM(llama_config(work))
    finally:
        torch.set_default_dtype(torch.float32)
    model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=16, target_modules="all-linear"))
    model = model.to(DEVICE).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0, fused=True)
    batch, length = work["batch"], work["length"]
    ids = (torch.arange(batch * length, device=DEVICE) * 7919 % work["shape"]["vocabulary"]).view(batch, length)

    def step():
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    side = {
        **EAGER,
        "precision": "bf16 base, f32 pairs",
        "optimizer": "AdamW of LoRA pairs, fused",
        "clipping": "none",
        "attention": "sdpa",
        "head": "tied",
    }
    return {"name": "PEFT bf16", "side": side, "unclipped": None, **measure(step, work["lossAt"], lengths)}


def one_layer(work, lengths, way):
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


def product(work, lengths, way):
    m, n, k, layout = work["m"], work["n"], work["k"], work["layout"]
    dtype = torch.bfloat16 if way == "bf16" else torch.float32

    def operand(rows, columns, transposed):
        stored = (columns, rows) if transposed else (rows, columns)
        values = torch.rand(*stored, device=DEVICE).sub_(0.5).to(dtype)
        return values.T if transposed else values

    a, b = operand(m, k, layout[0] == "T"), operand(k, n, layout[1] == "T")
    c = torch.empty(m, n, device=DEVICE, dtype=dtype)

    def step():
        torch.matmul(a, b, out=c)

    first = turn(step, 1)
    side = {key: "none" for key in ("optimizer", "clipping", "attention", "head")}
    called, precision = WAYS[way]
    precision = "bf16" if way == "bf16" else precision
    side = {**EAGER, **side, "batch": "operands on the device", "precision": precision}
    return {
        "name": "cuBLAS" + called,
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


def runs_of(work, ways):
    """What is run for a work, in the order of its rows, and how."""
    kind = work["kind"]
    if kind == "model":
        models = [llama, gpt2] if work.get("gpt2") else [llama]
        return [(model, way) for way in ways for model in models]
    if kind == "product":
        eager = [way for way in ways if way in ("f32", "tf32")]
        return [(product, way) for way in eager + (["bf16"] if len(eager) < len(ways) else [])]
    return [(adapter, "bf16")] if kind == "adapter" else [(one_layer, "f32")]


def main():
    question = json.loads(sys.argv[1])
    torch.manual_seed(0)
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
        for run, way in runs_of(work, question["ways"]):
            tidy()
            torch.backends.cuda.matmul.allow_tf32 = way == "tf32"
            try:
                say({"work": index, **run(work, question, way)})
            # One that cannot run, such as a compilation without a C compiler, is named, and the others go on.
            except Exception as error:
                what = str(error).strip().split("\n")[0]
                say({"leftOut": f"{run.__name__} {way}, work {index}: {type(error).__name__}: {what}"})
            if way == "compile":
                torch._dynamo.reset()


main()
