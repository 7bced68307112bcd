/** The largest batch that fits a limit of memory. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  adamW,
  add,
  chain,
  clipByGlobalNorm,
  defineTraining,
  type Gpu,
  InputError,
  leaf,
  nextTokenLoss,
  read,
  tensor,
  type Training,
  type TrainingOptions,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import type { LlamaParams, TokenBatch } from "@firn/train/models";
import { openTestGpu } from "../reference/open_gpu.ts";
import { llamaSource, tokenBatch } from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const model = await newModel<LlamaParams>(gpu, { source: llamaSource({ layers: 2, tied: true }), seed: 1 });
const { params } = model;
const batchOf = (size: number): TokenBatch => {
  const ids = leaf("ids", { shape: [size, 16], dtype: "i32" });
  return { inputIds: ids, labels: ids };
};

function define(options: Partial<TrainingOptions<TokenBatch>> = {}): Training<LlamaParams, TokenBatch> {
  return defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.01 })),
    steps: 1,
    lookEvery: 1,
    ...options,
  });
}

const MiB = 2 ** 20;

Deno.test("largestBatch takes what it says and not a byte more, and one more sample does not fit", async () => {
  using training = define({ memory: MiB });
  const { submits } = gpu.counts;
  const { size, memory } = training.largestBatch({ params, batchOf, most: 1000 });
  assertEquals(gpu.counts.submits, submits);
  assert(size > 4 && memory.bytes <= MiB && memory.blocks === 0, `${size} in ${memory.bytes} bytes`);
  const more = training.largestBatch({ params, batchOf, most: 1000, memory: MiB + 8 * MiB / size });
  assert(more.size > size);

  await read(gpu, add(tensor([1]), 1)); // A device has one buffer through which the host reads.
  const before = gpu.counts.bytes;
  await training.next(await training.init(params), tokenBatch([size, 16]));
  assertEquals(gpu.counts.bytes - before, memory.bytes);
  assertEquals(training.memory(), { ...memory, of: training.memory()!.of });
  // The next larger one would compute values again.
  using tight = define({ memory: MiB });
  await tight.next(await tight.init(params), tokenBatch([size + 1, 16]));
  assert(tight.memory()!.blocks > 0);
});

Deno.test("largestBatch gives frozen parameters and accumulated gradients their due", () => {
  const sizeOf = (options: Partial<TrainingOptions<TokenBatch>>, frozen: readonly string[] = []) =>
    define(options).largestBatch({ params, batchOf, most: 1000, memory: MiB, frozen }).size;
  const plain = sizeOf({});
  const [head, mixed] = [sizeOf({ trainable: (path) => /layers\.1/.test(path) }), sizeOf({ accumulate: 4 })];
  const frozen = sizeOf({}, [
    "model.embed_tokens",
    ...["q_proj", "k_proj", "v_proj", "o_proj"].map((name) => `model.layers.0.self_attn.${name}`),
  ]);
  assert(head > 1.2 * plain && frozen > plain && mixed < plain, `${head}, ${frozen}, ${plain}, ${mixed}`);
});

Deno.test("largestBatch tries no more samples than there are, and computes values again for a single one", () => {
  using training = define();
  assertEquals(training.largestBatch({ params, batchOf, most: 3, memory: "1 GiB" }).size, 3);
  const one = training.largestBatch({ params, batchOf, most: 1, memory: "1 GiB" }).memory.bytes;
  const { size, memory } = training.largestBatch({ params, batchOf, most: 9, memory: one - 1 });
  assert(size === 1 && memory.bytes < one && memory.blocks > 0);
});

Deno.test("largestBatch says that a limit must be given, and what the least is", () => {
  using training = define();
  assertThrows(
    () => training.largestBatch({ params, batchOf, most: 9 }),
    InputError,
    `WebGPU does not tell how much memory "${gpu.name}" has: give "memory", such as "8 GiB"`,
  );
  assertThrows(
    () => training.largestBatch({ params, batchOf, most: 0, memory: 1 }),
    InputError,
    '"most" must be',
  );
  assertThrows(
    () => training.largestBatch({ params, batchOf, most: 9, memory: "1 KiB" }),
    InputError,
    "Cannot train in 1024 bytes of memory",
  );
});
