"""A training step of each family in PyTorch: eager, float32 with TF32 off, SDPA attention, fused AdamW.

Takes the file that `families.ts --sources` prints. Prints a line of JSON a family.
"""

import json
import sys
import time

import torch
import transformers

WARM_UP, STEPS = 20, 60

torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
transformers.logging.set_verbosity_error()

with open(sys.argv[1]) as file:
    works = json.load(file)
# Fields that must be floats; JSON of JavaScript has no 30.0.
FLOATS = ("attn_logit_softcapping", "final_logit_softcapping", "embedding_multiplier", "logits_scaling")
for name, work in works.items():
    source = {k: float(v) if k in FLOATS and v is not None else v for k, v in work["source"].items()}
    config = transformers.AutoConfig.for_model(**source)
    torch.manual_seed(1)
    model = getattr(transformers, source["architectures"][0])(config).cuda().train()
    inputs = {
        key: torch.tensor(value["values"]).reshape(value["shape"]).cuda()
        for key, value in work["inputs"].items()
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0, fused=True)
    torch.cuda.reset_peak_memory_stats()
    for step in range(STEPS):
        if step == WARM_UP:
            torch.cuda.synchronize()
            began = time.perf_counter()
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    ms = 1e3 * (time.perf_counter() - began) / (STEPS - WARM_UP)
    print(
        json.dumps({
            "name": name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "ms": ms,
            "MiB": torch.cuda.max_memory_allocated() // 2**20,
            "loss": loss.item(),
        }),
        flush=True,
    )
    del model, optimizer, loss, inputs
    torch.cuda.empty_cache()
