"""The jobs of ranks_jobs.ts in PyTorch: SDPA attention, fused AdamW, eager, DistributedDataParallel over NCCL.

Takes one argument, JSON: {"jobs": [...], "shapes": {...}, "seconds": s, "turn": ms}. Alone, or started by torchrun. Rank 0 prints a
line of JSON for each job. f32 has TF32 off; "f16" of a job is autocast to bf16 here, and adapters are PEFT's on a base in bf16.
"""

import contextlib
import gc
import json
import math
import os
import sys
import time

# A program that uses NVLink's multicast can put a host's GPUs out of service, which others share.
os.environ.update(NCCL_NVLS_ENABLE="0", TORCH_SYMM_MEM_DISABLE_MULTICAST="1", NVSHMEM_DISABLE_NVLS="1")

import torch
import torch.distributed as dist

BEGAN = time.time()
SIZE, RANK = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
DEVICE = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
WARM = 3


def built(job, shape):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["mlp"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kvHeads"],
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = LlamaForCausalLM(config)
    if not job["adapter"]:
        return model.train()
    import peft

    model = peft.get_peft_model(
        model.to(torch.bfloat16), peft.LoraConfig(r=16, lora_alpha=16, target_modules="all-linear")
    )
    return model.to(DEVICE).train()


def freeze_half(model, job):
    layers = (model.base_model.model if job["adapter"] else model).model.layers
    for layer in layers[: len(layers) // 2]:
        for parameter in layer.parameters():
            parameter.requires_grad = False


def agreed(number):
    if SIZE == 1:
        return number
    shared = torch.tensor([number], device=DEVICE, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return shared.item()


def measure(job, question):
    shape, micro = question["shapes"][job["shape"]], job["micro"]
    model = built(job, shape)
    if job["half"]:
        freeze_half(model, job)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0 if job["adapter"] else 0.01, fused=True)
    shared = model
    if SIZE > 1:
        shared = torch.nn.parallel.DistributedDataParallel(
            model, device_ids=[DEVICE.index], gradient_as_bucket_view=True, broadcast_buffers=False
        )
    size = job["batch"] * job["length"]
    batches = []
    for i in range(micro):
        at = torch.arange(size, device=DEVICE) + (RANK * micro + i) * size
        batches.append((at * 7919 % shape["vocabulary"]).view(job["batch"], job["length"]))
    mixed = job["precision"] == "f16" and not job["adapter"]

    def step():
        for i, ids in enumerate(batches):
            quiet = shared.no_sync() if SIZE > 1 and i < micro - 1 else contextlib.nullcontext()
            with quiet:
                with torch.autocast("cuda", torch.bfloat16) if mixed else contextlib.nullcontext():
                    loss = shared(input_ids=ids, labels=ids, use_cache=False).loss / micro
                loss.backward()
        if not job["adapter"]:
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach() * micro

    def turn(steps):
        torch.cuda.synchronize()
        if SIZE > 1:
            dist.barrier(device_ids=[DEVICE.index])
        began = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - began)

    losses = [step().item() for _ in range(2)]
    steps = int(agreed(max(WARM, math.ceil(question["turn"] / (turn(WARM) / WARM)))))
    ms = turn(steps) / steps
    way = "PEFT, bf16" if job["adapter"] else "autocast" if mixed else "f32"
    moved = sum(p.numel() * p.element_size() for p in trained) if SIZE > 1 else None
    return {"job": job, "gpus": SIZE, "by": way, "ms": ms, "bytes": moved, "exchange": None, "losses": losses}


def main():
    question = json.loads(sys.argv[1])
    torch.cuda.set_device(DEVICE)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if SIZE > 1:
        dist.init_process_group("nccl", device_id=DEVICE)
    if RANK == 0:
        print(torch.cuda.get_device_name(), "torch", torch.__version__, file=sys.stderr, flush=True)
    for job in question["jobs"]:
        if agreed(time.time() - BEGAN) > question["seconds"]:
            break
        line = measure(job, question)
        if RANK == 0:
            print(json.dumps(line), flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    if SIZE > 1:
        dist.destroy_process_group()


main()
