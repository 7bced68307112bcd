import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  add,
  defineTraining,
  DeviceLostError,
  evaluate,
  fill,
  type Gpu,
  matmul,
  multiply,
  openGpu,
  OutOfMemoryError,
  read,
  readAll,
  sgd,
  snapshot,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { softmax } from "@firn/train/ops";
import { checkAllocations, createBuffer, writeValues } from "../../core/runtime/buffers.ts";
import { readBuffers } from "../../core/runtime/readback.ts";
import { storageOf } from "../../core/runtime/residents.ts";
import { upload } from "../../core/runtime/upload.ts";
import { zeros } from "../../core/train/state/upload.ts";
import { type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "../train/tiny.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

Deno.test("openGpu says which adapter it found and what it is", () => {
  assert(gpu.name.length > 0);
  assertEquals(gpu.software, /llvmpipe|swiftshader/i.test(gpu.name));
  assert(gpu.target.maxBindings >= 8 && gpu.target.workgroupBytes >= 16384);
});

Deno.test("read gives values that were never on the device", async () => {
  assertEquals([...await read(gpu, tensor(new Int32Array([3, -1])))], [3, -1]);
  assertEquals([...await read(gpu, fill(2.5, [3]))], [2.5, 2.5, 2.5]);
});

Deno.test("readAll gives one tensor twice, and shapes that are no multiple of four", async () => {
  const x = tensor([1, 2, 3, 4, 5]);
  const [a, b, c] = await readAll(gpu, [multiply(x, 2), x, multiply(x, 2)]);
  assertEquals([[...a], [...b], [...c]], [[2, 4, 6, 8, 10], [1, 2, 3, 4, 5], [2, 4, 6, 8, 10]]);
});

Deno.test("readAll of nothing is nothing", async () => {
  assertEquals(await readAll(gpu, []), []);
});

Deno.test("read can be called again while others wait, small and large", async () => {
  const sizes = [1, 7, 65_536, 3, 100_000];
  const results = await Promise.all(sizes.map((size, i) => read(gpu, add(fill(i, [size]), 0.5))));
  results.forEach((values, i) => {
    assertEquals(values.length, sizes[i]);
    assert(values.every((x) => x === i + 0.5), `read ${i} got values of another`);
  });
});

Deno.test({
  name: "read does not sleep for 10 ms once its buffer was awaited",
  // Known of this version only; in others reading waits as WebGPU asks for.
  ignore: !Deno.version.deno.startsWith("2.9."),
  async fn() {
    const times: number[] = [];
    for (let i = 0; i < 9; i++) {
      const began = performance.now();
      assertEquals([...await read(gpu, add(tensor([i, 2]), 1))], [i + 1, 3]);
      times.push(performance.now() - began);
    }
    const least = Math.min(...times);
    assert(least < 8, `the quickest of ${times.length} reads took ${least.toFixed(1)} ms`);
  },
});

Deno.test("read lets timers fire between reads", async () => {
  let fired = false;
  const timer = setTimeout(() => fired = true);
  const until = performance.now() + 5000;
  while (!fired && performance.now() < until) await read(gpu, add(tensor([1, 2]), 1));
  clearTimeout(timer);
  assert(fired, "reading kept a timer from firing");
});

Deno.test("read throws OutOfMemoryError with what was too large and how large", async () => {
  const most = gpu.target.maxBindingBytes!;
  // An outer product of this side is just above what one binding holds, and never allocated.
  const side = Math.floor(Math.sqrt(most / 4)) + 1;
  const product = matmul(fill(1, [side, 1]), fill(1, [1, side]));
  // No rule of softmax is by rows.
  const scores = () => read(gpu, sum(multiply(softmax(product), product)));
  const error = await assertRejects(scores, OutOfMemoryError);
  assertEquals(error.bytes >= most, true);
  const size = (error.bytes / 2 ** 20).toFixed(1), limit = (most / 2 ** 20).toFixed(0);
  assertEquals(
    error.message,
    `Cannot allocate "softmax [${side}, ${side}]" of ${size} MiB on the device: a launch binds ${limit} MiB of a tensor at most, and it cannot be split by rows; lower the batch or its length, or use a larger device`,
  );
  assertEquals([...await read(gpu, fill(1, [1]))], [1], "the device still works");
});

Deno.test("what is larger than one staging buffer is uploaded and read in pieces", async () => {
  const values = Float32Array.from({ length: 23 }, (_, i) => i), bytes = 4 * values.length;
  const { buffer } = storageOf(upload(gpu, values, { shape: [23], label: "values" }));
  const sources = [{ buffer, bytes }, { buffer, bytes: 12 }, { buffer, bytes: 32 }];
  for (const most of [16, 32, 92]) {
    const read = await readBuffers(gpu, sources, { most });
    assertEquals(
      read.map((b) => [...new Float32Array(b)]),
      sources.map((s) => [...values.slice(0, s.bytes / 4)]),
    );
  }
  const seen: number[][] = [];
  const writeBuffer = (_: GPUBuffer, at: number, { byteOffset, byteLength }: Uint32Array): void =>
    void seen.push([at, byteOffset, byteLength]);
  // Never touched, so it takes no memory.
  writeValues({ device: { queue: { writeBuffer } } } as unknown as Gpu, buffer, new Uint32Array(2 ** 26 + 5));
  assertEquals(seen, [[0, 0, 2 ** 28], [2 ** 28, 2 ** 28, 20]]);
});

Deno.test("init throws OutOfMemoryError with the name of the parameter", async () => {
  const side = Math.floor(Math.sqrt(gpu.device.limits.maxBufferSize / 4)) + 1;
  const training = defineTraining(gpu, ({ table }: { table: { weight: Tensor } }) => sum(table.weight), {
    optimizer: sgd({ learningRate: 0.1 }),
    steps: 1,
  });
  const error = await assertRejects(
    () => training.init({ table: { weight: fill(1, [side, side]) } }),
    OutOfMemoryError,
    'Cannot allocate "table.weight" of',
  );
  assertEquals([error.label, error.bytes], ["table.weight", Math.ceil(side * side / 4) * 16]);
  assertMatch(error.message, /a tensor has one; use a smaller model, or a device with larger buffers$/);
});

Deno.test("OutOfMemoryError names a smaller batch only for what depends on the batch", async () => {
  const { pushErrorScope, popErrorScope } = gpu.device;
  const refusal = { message: "no room" } as GPUError;
  try {
    gpu.device.pushErrorScope = () => {};
    gpu.device.popErrorScope = () => Promise.resolve(refusal);
    const refused = async (make: () => unknown): Promise<string> => {
      make();
      return (await assertRejects(() => checkAllocations(gpu), OutOfMemoryError)).message;
    };
    const spec = { shape: [2], dtype: "f32" } as const;
    const state = await refused(() => zeros(gpu, { path: "adamW.m.w", spec, step: 0 }));
    assertEquals(/batch/.test(state), false, state);
    assertMatch(state, /"adamW\.m\.w" .*: no room; use a smaller model/);
    const parameter = await refused(() => upload(gpu, new Float32Array(2), { shape: [2], label: "w" }));
    assertEquals(/batch/.test(parameter), false, parameter);
    assertMatch(await refused(() => createBuffer(gpu, { label: "values", bytes: 8 })), /lower the batch/);
  } finally {
    Object.assign(gpu.device, { pushErrorScope, popErrorScope });
  }
});

for (const lookEvery of [1, 10]) {
  Deno.test(`next rejects with DeviceLostError once the device is gone, with a look every ${lookEvery}`, async () => {
    await using lost = await openGpu();
    const training = defineTraining<Mlp, Pairs>(lost, mlpLoss, {
      optimizer: sgd({ learningRate: 0.1 }),
      steps: 30,
      lookEvery,
    });
    let state = await training.init(newMlp());
    state = await training.next(state, pairs(1)[0]);
    lost.device.destroy();
    const start = performance.now();
    await assertRejects(
      async () => {
        for (const batch of pairs(10)) state = await training.next(state, batch);
      },
      DeviceLostError,
      `The device "${lost.name}" was lost`,
    );
    assert(performance.now() - start < 1000, "it must not wait for what never comes");
  });
}

Deno.test("read rejects with DeviceLostError when the device goes while it waits", async () => {
  await using lost = await openGpu();
  await read(lost, fill(1, [4]));
  const waiting = read(lost, add(fill(1, [4]), 1));
  lost.device.destroy();
  await assertRejects(() => waiting, DeviceLostError);
});

Deno.test("everything rejects with DeviceLostError once the device is closed, and says that it was", async () => {
  const closed = await openGpu();
  const training = defineTraining<Mlp, Pairs>(closed, mlpLoss, {
    optimizer: sgd({ learningRate: 0.1 }),
    steps: 30,
  });
  const batches = pairs(1);
  const state = await training.next(await training.init(newMlp()), batches[0]);
  await closed[Symbol.asyncDispose]();
  const uses: Readonly<Record<string, () => Promise<unknown>>> = {
    next: () => training.next(state, batches[0]),
    init: () => training.init(newMlp()),
    read: () => read(closed, state.params.top.weight),
    "read of what is computed": () => read(closed, add(tensor([1]), 1)),
    evaluate: () => evaluate(closed, { loss: mlpLoss, params: state.params, batches }),
    snapshot: () => Promise.try(() => snapshot(closed, state)),
    ...(closed.features.has("timestamp-query") && { profile: () => training.profile(state) }),
  };
  // Each time, not only the first.
  for (const [name, use] of [...Object.entries(uses), ...Object.entries(uses)]) {
    await assertRejects(
      use,
      DeviceLostError,
      `Cannot go on as the device "${closed.name}" was closed`,
      name,
    );
  }
});

for (const [which, before] of [["first", 0], ["second", 1]] as const) {
  Deno.test(`read rejects with DeviceLostError when the device is closed while the ${which} one waits`, async () => {
    const closed = await openGpu();
    for (let i = 0; i < before; i++) await read(closed, fill(1, [4]));
    const waiting = read(closed, add(fill(1, [4]), 1));
    const rejected = assertRejects(() => waiting, DeviceLostError, "was closed");
    await closed[Symbol.asyncDispose]();
    await rejected;
  });
}

Deno.test("read keeps no second copy of what is larger than 64 MiB, and what it has for the rest", async () => {
  const large = 2 ** 24 + 1;
  await read(gpu, fill(1, [4]));
  const { bytes } = gpu.counts;
  assertEquals((await read(gpu, fill(1.5, [large])))[large - 1], 1.5);
  assertEquals(gpu.counts.bytes, bytes);
  const { buffers } = gpu.counts;
  await read(gpu, fill(1, [4]));
  // That of the value alone.
  assertEquals(gpu.counts.buffers - buffers, 1);
});
