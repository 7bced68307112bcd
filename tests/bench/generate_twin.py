"""Tokens per second of `transformers`, eager, with its own cache: the works of `generate.ts`, on the folder that it leaves.

Prints a line of JSON a batch.
"""

import json
import sys
import time

import torch
import transformers

PROMPT, LONG, WARM, TOKENS = 16, 512, 64, 256

transformers.logging.set_verbosity_error()
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).cuda().eval()


def prompt(length, rows):
    return torch.tensor([[100 + (i * 37 + row * 101) % 40000 for i in range(length)] for row in range(rows)]).cuda()


def run(ids, count):
    torch.cuda.synchronize()
    start = time.perf_counter()
    model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, min_new_tokens=count, pad_token_id=0
    )
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


with torch.no_grad():
    for batch in (1, 32):
        ids = prompt(PROMPT, batch)
        run(ids, WARM)
        each = (run(ids, WARM + TOKENS) - run(ids, WARM)) / TOKENS
        print(json.dumps({"side": "transformers", "batch": batch, "milliseconds": each, "tokensPerSecond": 1000 * batch / each}))
    ids = prompt(LONG, 1)
    first = min(run(ids, 1) for _ in range(6))
    print(json.dumps({"side": "transformers", "prompt": LONG, "firstToken": first}))
