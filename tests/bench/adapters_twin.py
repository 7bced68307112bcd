"""The works of `adapters.ts` in PyTorch and PEFT: eager, SDPA attention, fused AdamW. Prints a line of JSON a work.

A base in nf4 needs bitsandbytes; without it those works are left out and named on standard error.
"""

import gc
import json
import sys
import time

import peft
import torch
import transformers

WARM_UP, STEPS = 5, 15
SHAPES = {
    "smollm2-135m": (576, 1536, 30, 9, 3, 49152, True),
    "llama-3.2-1b": (2048, 8192, 16, 32, 8, 128256, True),
    "llama-2-7b": (4096, 11008, 32, 32, 32, 32000, False),
}
# Name, shape, type of the base, rows, tokens.
WORKS = [
    ("135m-f32", "smollm2-135m", "f32", 8, 512),
    ("135m-bf16", "smollm2-135m", "bf16", 8, 512),
    ("1b-f32", "llama-3.2-1b", "f32", 4, 1024),
    ("1b-bf16", "llama-3.2-1b", "bf16", 4, 1024),
    ("1b-nf4", "llama-3.2-1b", "nf4", 4, 1024),
    ("7b-bf16", "llama-2-7b", "bf16", 1, 1024),
    ("7b-nf4", "llama-2-7b", "nf4", 1, 1024),
]

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
transformers.logging.set_verbosity_error()


def quantized(model):
    """Replaces the projections of all layers by bitsandbytes' nf4 with double quantization."""
    import bitsandbytes as bnb

    for module in list(model.model.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, torch.nn.Linear):
                continue
            new = bnb.nn.Linear4bit(
                child.in_features, child.out_features, bias=False, compute_dtype=torch.bfloat16, compress_statistics=True,
                quant_type="nf4",
            )
            new.weight = bnb.nn.Params4bit(
                child.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
            )
            setattr(module, name, new.cuda())
    return model


for name, shape, kind, rows, length in WORKS:
    if len(sys.argv) > 1 and name not in sys.argv[1:]:
        continue
    hidden, mlp, layers, heads, kv_heads, vocabulary, tied = SHAPES[shape]
    config = transformers.LlamaConfig(
        hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, vocab_size=vocabulary, max_position_embeddings=4096, tie_word_embeddings=tied,
    )
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float32 if kind == "f32" else torch.bfloat16)
    with torch.device("cuda"):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if kind == "nf4":
        try:
            model = quantized(model)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = peft.get_peft_model(model, peft.LoraConfig(r=16, lora_alpha=16, target_modules="all-linear")).cuda().train()
    ids = (torch.arange(rows * length) * 7919 % vocabulary).reshape(rows, length).cuda()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0, fused=True)
    losses = []
    for step in range(STEPS):
        if step == WARM_UP:
            torch.cuda.synchronize()
            began = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
    torch.cuda.synchronize()
    ms = 1e3 * (time.perf_counter() - began) / (STEPS - WARM_UP)
    peak = torch.cuda.max_memory_allocated() // 2**20
    print(json.dumps({"name": name, "ms": ms, "MiB": peak, "loss": [losses[0].item(), losses[-1].item()]}), flush=True)
    del model, optimizer, loss, losses, ids
    gc.collect()
    torch.cuda.empty_cache()
