/**
 * What a call costs besides the device: a function of `compile` beside `read` and `evaluate`, which plan and record each time.
 *
 * ```sh
 * deno run -A tests/bench/compiled.ts
 * ```
 *
 * The loss of 32 tokens of a Llama of two layers, 48 channels wide, so that the device has little to do, and in the width of
 * SmolLM2-135M. A line for each: milliseconds of the first call, and the median of 30 later ones. It takes half a minute.
 *
 * @module
 */

import { evaluate, type Gpu, nextTokenLoss, read, type Tensor, tensor } from "@firn/train";
import { newModel } from "@firn/train/hub";
import { compile } from "@firn/train/infer";
import { readFlags, runMain } from "../../examples/flags.ts";
import { GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { print } from "../../examples/print.ts";

const LENGTH = 32, CALLS = 30, VOCABULARY = 512;

/** Times some work, whose argument is the number of the call. */
async function time(name: string, work: (call: number) => Promise<unknown>): Promise<void> {
  const times: number[] = [];
  for (let call = 0; call <= CALLS; call++) {
    const began = performance.now();
    await work(call);
    times.push(performance.now() - began);
  }
  const [first, ...later] = times, median = later.toSorted((a, b) => a - b)[CALLS >> 1];
  print(`${name.padEnd(26)} first ${first.toFixed(1)} ms, then ${median.toFixed(2)} ms`);
}

async function measure(gpu: Gpu, { width, heads }: { readonly width: number; readonly heads: number }) {
  print(`\n${width} channels`);
  const source = {
    model_type: "llama",
    vocab_size: VOCABULARY,
    hidden_size: width,
    intermediate_size: 3 * width,
    num_hidden_layers: 2,
    num_attention_heads: heads,
    num_key_value_heads: heads / 3,
  };
  const model = await newModel(gpu, { source, seed: 1 }), { params } = model, loss = nextTokenLoss(model);
  const batch = (call: number): { readonly inputIds: Tensor; readonly labels: Tensor } => {
    const ids = Int32Array.from({ length: LENGTH }, (_, i) => (31 * call + 7 * i) % VOCABULARY);
    const inputIds = tensor(ids, [1, LENGTH]);
    return { inputIds, labels: inputIds };
  };
  await time("read", (call) => read(gpu, loss(params, batch(call))));
  await time("evaluate", (call) => evaluate(gpu, { loss, params, batches: [batch(call)] }));
  using compiled = compile(gpu, (now: typeof params, own: ReturnType<typeof batch>) => loss(now, own));
  await time("compile", (call) => compiled(params, batch(call)));
}

async function main(args: readonly string[]): Promise<void> {
  await using gpu = await openDevice(readFlags(args, GPU_FLAGS).values);
  print(gpu.name);
  await measure(gpu, { width: 48, heads: 3 });
  await measure(gpu, { width: 576, heads: 9 });
}

if (import.meta.main) await runMain(main, "compiled");
