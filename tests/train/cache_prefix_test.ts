import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  adamW,
  type CachedPrefix,
  defineTraining,
  dropout,
  type FreezePolicy,
  type Gpu,
  InputError,
  matmul,
  mean,
  multiply,
  nextTokenLoss,
  openGpu,
  type Path,
  reshape,
  subtract,
  type Tensor,
  tensor,
  type TrainingOptions,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { gelu } from "@firn/train/ops";
import { newModel } from "@firn/train/hub";
import { tokenWindows } from "@firn/train/data";
import { closePrefix, gradES } from "@firn/train/policies";
import type { LlamaParams, TokenBatch } from "@firn/train/models";
import { bitsOf, llamaSource, type Mlp, newMlp, type Pairs, pairs, scheduled } from "./tiny.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const model = await newModel<LlamaParams>(gpu, { source: llamaSource({ layers: 2, tied: false }), seed: 1 });
const loss = nextTokenLoss(model);
/** All of the bottom: embedding, and the first layer with its norms. */
const BOTTOM: readonly Path[] = [
  "model.embed_tokens",
  ...["input_layernorm", "post_attention_layernorm"].map((name) => `model.layers.0.${name}`),
  ...["q_proj", "k_proj", "v_proj", "o_proj"].map((name) => `model.layers.0.self_attn.${name}`),
  ...["gate_proj", "up_proj", "down_proj"].map((name) => `model.layers.0.mlp.${name}`),
];
/** Six windows, two a batch: an epoch has three steps, and each shuffles them. */
const windows = tokenWindows(Int32Array.from({ length: 48 }, (_, i) => (i * i * 7 + i) % 64), {
  length: 8,
  batch: 2,
  seed: 3,
});
/** What the layers above read of a window: 8 vectors of 32 channels. */
const SAMPLE = 4 * 8 * 32;
const FREEZE = 3;
const options: TrainingOptions<TokenBatch> = {
  optimizer: adamW({ learningRate: 0.01 }),
  steps: 12,
  lookEvery: 1,
  policy: scheduled([{ from: FREEZE, frozen: BOTTOM }]),
};

/** Trains to the end, and tells of each step what it launched and what was kept after it. */
async function run(more: Partial<TrainingOptions<TokenBatch>>, device: Gpu = gpu) {
  using training = defineTraining<LlamaParams, TokenBatch>(device, loss, { ...options, ...more });
  const launches: number[] = [], kept: (CachedPrefix | null)[] = [];
  let state = await training.init(model.params);
  while (!state.done) {
    state = await training.next(state, windows.at(state.step + 1));
    launches.push(state.cost!.launches);
    kept.push(training.prefix());
  }
  return { launches, kept, bits: await bitsOf(gpu, state), cost: state.cost! };
}

const plain = await run({});
const samples = (kept: readonly (CachedPrefix | null)[]): number[] => kept.map((k) => k!.samples);
/** Steps that left the bottom out. */
const short = (launches: readonly number[]): number[] =>
  launches.flatMap((count, i) => count < plain.launches[i] ? [i + 1] : []);

Deno.test("cachePrefix leaves out the forward of a frozen bottom from the second epoch on, and changes no bit", async () => {
  const { launches, kept, bits, cost } = await run({ cachePrefix: true });
  assertEquals(bits, plain.bits);
  assertEquals(samples(kept), [0, 0, 0, 2, 4, 6, 6, 6, 6, 6, 6, 6]);
  assertEquals(short(launches), [7, 8, 9, 10, 11, 12]);
  // The products of the layer: q and o, k and v, three of the MLP; then its attention, half of whose scores are masked.
  const rows = 16, products = 2 * rows * 32 * (2 * 32 + 2 * 16 + 3 * 64);
  assertEquals(plain.cost.matmulFlops - cost.matmulFlops, products + 4 * 8 * (2 * 4 * 8 * 9 / 2));
  assertEquals(kept.at(-1)!.reason, null);
});

Deno.test({
  name: "cachePrefix changes no bit of a training with f16 either, and keeps half as many bytes",
  ignore: !gpu.features.has("shader-f16"),
  async fn() {
    const above = [...BOTTOM, "model.layers.1.mlp.down_proj"];
    const policy = scheduled([{ from: FREEZE, frozen: BOTTOM }, { from: 9, frozen: above }]);
    const precision = "f16", half = await run({ precision, policy });
    const { launches, kept, bits } = await run({ precision, policy, cachePrefix: { bytes: 6 * SAMPLE / 2 } });
    assertEquals(bits, half.bits);
    assertEquals(kept.at(-1), { samples: 6, room: 6, bytes: 6 * SAMPLE / 2, reason: null });
    assertEquals(launches.flatMap((count, i) => count < half.launches[i] ? [i + 1] : []), [
      7,
      8,
      9,
      10,
      11,
      12,
    ]);
  },
});

Deno.test("cachePrefix changes no bit with the kernels of a GPU, where products share launches", async () => {
  const device = { ...gpu, target: { ...gpu.target, software: false } };
  const whole = await run({}, device), { launches, bits } = await run({ cachePrefix: true }, device);
  assertEquals(bits, whole.bits);
  assertEquals(launches.flatMap((count, i) => count < whole.launches[i] ? [i + 1] : []), [
    7,
    8,
    9,
    10,
    11,
    12,
  ]);
});

Deno.test("the device begins a step behind a look before all of it is encoded, with a cached prefix, too", async () => {
  const submits = async (lookEvery: number): Promise<number> => {
    using training = defineTraining<LlamaParams, TokenBatch>({ ...gpu, software: false }, loss, {
      ...options,
      ...{ lookEvery, cachePrefix: true, policy: undefined },
      trainable: (path) => !BOTTOM.some((frozen) => path.startsWith(`${frozen}.`)),
    });
    let state = await training.init(model.params), before = 0;
    while (!state.done) {
      before = gpu.counts.submits;
      state = await training.next(state, windows.at(state.step + 1));
      if (state.step === 11) break;
    }
    assertEquals(training.prefix()!.samples, 6);
    return gpu.counts.submits - before;
  };
  assert(await submits(10) > await submits(12), "step 11 is behind a look, or between two");
});

Deno.test("cachePrefix changes no bit where values are larger than a binding: commands copy their rows", async () => {
  const limits = { maxStorageBufferBindingSize: SAMPLE }, made: string[] = [];
  const watched = new Proxy(gpu.device, {
    get: (device, key) => {
      if (key === "limits") return { ...limits, maxBufferSize: device.limits.maxBufferSize };
      const value = Reflect.get(device, key, device);
      if (key === "createBindGroup") {
        return (descriptor: GPUBindGroupDescriptor) => {
          made.push(descriptor.label ?? "");
          return device.createBindGroup(descriptor);
        };
      }
      return typeof value === "function" ? value.bind(device) : value;
    },
  });
  const { launches, bits } = await run({ cachePrefix: true }, { ...gpu, device: watched });
  assertEquals([bits, short(launches).length], [plain.bits, 6]);
  assertEquals(made.filter((label) => label === "copy rows"), []);
});

Deno.test("cachePrefix keeps at most the given bytes: the samples that came first, without a change of bits", async () => {
  const { launches, kept, bits } = await run({ cachePrefix: { bytes: 5 * SAMPLE + SAMPLE / 2 } });
  assertEquals(bits, plain.bits);
  assertEquals(samples(kept), [0, 0, 0, 2, 4, 5, 5, 5, 5, 5, 5, 5]);
  assert(kept.every((k) => k!.bytes <= 5 * SAMPLE), "room is taken by whole samples");
  assertEquals([kept.at(-1)!.room, kept.at(-1)!.bytes], [5, 5 * SAMPLE]);
  // Once an epoch a step meets the sample that has no room.
  assertEquals(short(launches).length, 4);
});

Deno.test("cachePrefix keeps nothing where not one sample fits, and says so", async () => {
  const { launches, kept, bits } = await run({ cachePrefix: { bytes: SAMPLE - 1 } });
  assertEquals([short(launches), bits], [[], plain.bits]);
  assertEquals(kept.at(-1), {
    samples: 0,
    room: 0,
    bytes: 0,
    reason: `"cachePrefix" has ${SAMPLE - 1} bytes: a sample takes ${SAMPLE}`,
  });
});

for (const [what, thawed] of [["a part", BOTTOM.slice(-1)], ["all", BOTTOM]] as const) {
  Deno.test(`cachePrefix forgets all when ${what} of the bottom thaws, and fills anew when it freezes again`, async () => {
    const policy = scheduled([
      { from: FREEZE, frozen: BOTTOM },
      { from: 7, frozen: BOTTOM.filter((path) => !thawed.includes(path)) },
      { from: 8, frozen: BOTTOM },
    ]);
    const thawing = await run({ policy }),
      { launches, kept, bits } = await run({ policy, cachePrefix: true });
    assertEquals(bits, thawing.bits);
    const fewer = launches.flatMap((count, i) => count < thawing.launches[i] ? [i + 1] : []);
    // Epochs begin with steps 1, 4, 7 and 10; step 8 trains what thawed.
    assertEquals([7, 8, 9].map((step) => fewer.includes(step)), [true, false, false]);
    assertEquals(samples(kept).slice(5, 9), [6, 0, 0, 2]);
  });
}

Deno.test("cachePrefix forgets all when the bottom grows", async () => {
  const attention = ["q_proj", "k_proj", "v_proj", "o_proj"].map((name) =>
    `model.layers.1.self_attn.${name}`
  );
  const grown = [...BOTTOM, "model.layers.1.input_layernorm", ...attention];
  const policy = scheduled([{ from: FREEZE, frozen: BOTTOM }, { from: 7, frozen: grown }]);
  const growing = await run({ policy }), { kept, bits } = await run({ policy, cachePrefix: true });
  assertEquals(bits, growing.bits);
  // Two steps are left of the third epoch; the fourth begins with samples of those.
  assertEquals(samples(kept).slice(5), [6, 0, 2, 4, 4, 5, 6]);
});

Deno.test("cachePrefix keeps what it has when more freezes above the bottom, and while frozen components are probed", async () => {
  const above = [...BOTTOM, "model.layers.1.mlp.down_proj"];
  const policy: FreezePolicy = {
    ...scheduled([{ from: FREEZE, frozen: BOTTOM }, { from: 7, frozen: above }], ["gradNorm"]),
    probed: (step) => step === 8 ? [BOTTOM.at(-1)!] : [],
  };
  const probing = await run({ policy }), { launches, kept, bits } = await run({ policy, cachePrefix: true });
  assertEquals(bits, probing.bits);
  assertEquals(samples(kept).slice(5), [6, 6, 6, 6, 6, 6, 6]);
  const fewer = launches.flatMap((count, i) => count < probing.launches[i] ? [i + 1] : []);
  assertEquals(fewer, [7, 8, 10, 11, 12]);
});

Deno.test("resume goes on with an empty cache, and ends with the same bits", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  try {
    using first = defineTraining<LlamaParams, TokenBatch>(gpu, loss, { ...options, cachePrefix: true });
    let state = await first.init(model.params);
    while (state.step < 7) state = await first.next(state, windows.at(state.step + 1));
    await saveCheckpoint(gpu, state, { path });
    // One more step: what follows finds values of another run.
    await first.next(state, windows.at(8));
    assertEquals(first.prefix()!.samples, 6);

    const launches: number[] = [];
    state = await first.resume(await loadCheckpoint(path));
    while (!state.done) {
      state = await first.next(state, windows.at(state.step + 1));
      launches.push(state.cost!.launches);
      if (state.step === 8) assertEquals(first.prefix()!.samples, 2);
    }
    assertEquals(await bitsOf(gpu, state), plain.bits);
    // The samples of step 10 are those of steps 8 and 9.
    assert(launches[2] < launches[0], `${launches}`);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("cachePrefix keeps the values of one run: another one of the same training has its own", async () => {
  const other = await newModel<LlamaParams>(gpu, {
    source: llamaSource({ layers: 2, tied: false }),
    seed: 2,
  });
  const short = { ...options, steps: 7 };
  const results = [];
  for (const cachePrefix of [false, true]) {
    using training = defineTraining<LlamaParams, TokenBatch>(gpu, loss, { ...short, cachePrefix });
    let first = await training.init(model.params), second = await training.init(other.params);
    while (!second.done) {
      second = await training.next(second, windows.at(second.step + 1));
      first = await training.next(first, windows.at(first.step + 1));
    }
    results.push([await bitsOf(gpu, first), await bitsOf(gpu, second)]);
  }
  assertEquals(results[1], results[0]);
});

Deno.test({
  name: "profile tells of all launches after a step that left some out, and changes no bit",
  ignore: !gpu.features.has("timestamp-query"),
  async fn() {
    using training = defineTraining<LlamaParams, TokenBatch>(gpu, loss, { ...options, cachePrefix: true });
    let state = await training.init(model.params);
    while (!state.done) {
      state = await training.next(state, windows.at(state.step + 1));
      if (state.step === 8) {
        assertEquals((await training.profile(state)).length, training.costOf(BOTTOM).launches);
      }
    }
    assertEquals(await bitsOf(gpu, state), plain.bits);
  },
});

Deno.test("cachePrefix takes memory as samples come, and gives it back when disposed of", async () => {
  const training = defineTraining<LlamaParams, TokenBatch>(gpu, loss, {
    ...options,
    cachePrefix: { bytes: 6 * SAMPLE },
  });
  let state = await training.init(model.params);
  while (state.step < FREEZE) state = await training.next(state, windows.at(state.step + 1));
  assertEquals(training.prefix()!.bytes, 0);
  state = await training.next(state, windows.at(4));
  assertEquals(training.prefix()!.bytes, 6 * SAMPLE);
  const before = gpu.counts.bytes, { memory } = state.cost!;
  training[Symbol.dispose]();
  assert(before - gpu.counts.bytes >= 6 * SAMPLE + memory, `${before - gpu.counts.bytes} bytes freed`);
  const reason = "no step was taken that could fill it";
  assertEquals(training.prefix(), { samples: 0, room: 0, bytes: 0, reason });
});

/** Trains the top of an MLP on batches of four rows by turns, with and without a cache. */
async function trainTop(loss: (params: Mlp, batch: Pairs) => Tensor) {
  const batches = pairs(2), results = [];
  for (const cachePrefix of [false, true]) {
    using training = defineTraining<Mlp, Pairs>(gpu, loss, {
      optimizer: adamW({ learningRate: 0.01 }),
      steps: 4,
      lookEvery: 1,
      trainable: (path) => path.startsWith("top"),
      cachePrefix,
    });
    let state = await training.init(newMlp());
    const launches: number[] = [];
    while (!state.done) {
      state = await training.next(state, batches[state.step % 2]);
      launches.push(state.cost!.launches);
    }
    results.push({ launches, bits: await bitsOf(gpu, state), prefix: training.prefix() });
  }
  assertEquals(results[1].bits, results[0].bits);
  return results[1];
}

const bottom = ({ bottom }: Mlp, x: Tensor): Tensor => matmul(x, bottom.weight);
const error = (h: Tensor, { top, y }: { readonly top: Tensor; readonly y: Tensor }): Tensor => {
  const e = subtract(matmul(gelu(h), top), y);
  return mean(multiply(e, e));
};

Deno.test("cachePrefix works with what is not trainable, from the first step on", async () => {
  const { launches, prefix } = await trainTop((p, { x, y }) => error(bottom(p, x), { top: p.top.weight, y }));
  assertEquals([launches[1] === launches[0], launches[2] < launches[0], prefix!.samples], [true, true, 8]);
});

Deno.test("cachePrefix keeps nothing of a bottom that mixes samples, and names the operation", async () => {
  const { launches, prefix } = await trainTop((p, { x, y }) =>
    error(bottom(p, subtract(x, reshape(mean(x, 0), [1, 4]))), { top: p.top.weight, y })
  );
  assertEquals(new Set(launches).size, 1);
  assertEquals(prefix!.samples, 0);
  assertStringIncludes(prefix!.reason!, 'must keep samples apart: "reduce" of shape [4] may not');
});

Deno.test("cachePrefix keeps nothing of a bottom with dropout, and says how it would", async () => {
  const { launches, prefix } = await trainTop((p, { x, y }) =>
    error(bottom(p, dropout(x, { rate: 0.5, seed: 1 })), { top: p.top.weight, y })
  );
  assertEquals([new Set(launches).size, prefix!.samples], [1, 0]);
  assertStringIncludes(prefix!.reason!, "it draws random numbers, as dropout does; train without");
});

Deno.test("cachePrefix keeps nothing of a bottom that treats the rows of a batch differently", async () => {
  const weights = tensor([1, 2, 3, 4], [4, 1]);
  const { prefix } = await trainTop((p, { x, y }) =>
    error(bottom(p, multiply(x, weights)), { top: p.top.weight, y })
  );
  assertEquals(prefix!.samples, 0);
  assertStringIncludes(prefix!.reason!, '"multiply" of shape [4, 4] may not');
});

Deno.test("cachePrefix finds no bottom under gradES, which leaves embedding and norms training, but under closePrefix", async () => {
  const policy = gradES({ tau: 1e9, alpha: 0.25, stop: false });
  const { kept: open } = await run({ policy, cachePrefix: true });
  assertEquals(new Set(samples(open)), new Set([0]));
  const { kept: closed } = await run({ policy: closePrefix(policy), cachePrefix: true });
  assertEquals(closed.at(-1)!.samples, 6);
});

Deno.test("cachePrefix says when nothing is frozen", async () => {
  const { kept } = await run({ steps: 1, cachePrefix: true });
  assertEquals(kept[0]!.reason, "no matrix product lies below all that is trained");
});

Deno.test("prefix is null without cachePrefix", () => {
  using training = defineTraining<LlamaParams, TokenBatch>(gpu, loss, options);
  assertEquals(training.prefix(), null);
});

Deno.test("defineTraining refuses a cache of no whole number of bytes", () => {
  assertThrows(
    () => defineTraining<LlamaParams, TokenBatch>(gpu, loss, { ...options, cachePrefix: { bytes: 0.5 } }),
    InputError,
    'Cannot cache 0.5 bytes as "cachePrefix.bytes" must be a whole number above 0',
  );
});
