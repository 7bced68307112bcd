/** Checksums of tensors on the device, and what stands in a checkpoint because of them. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { ConsumedError, DataError, defineTraining, type Gpu, sgd } from "@firn/train";
import { checkpointKeeper, loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { checksums, sumOf } from "../../core/checkpoint/checksums.ts";
import { toBf16, toF16 } from "../../core/data/floats.ts";
import { writeValues } from "../../core/runtime/buffers.ts";
import { storageOf } from "../../core/runtime/residents.ts";
import { reserve } from "../../core/runtime/upload.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { refusing } from "./device_hooks.ts";
import { bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const values = (count: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i) * 10 ** (i % 7 - 3));
const bytesOf = ({ buffer }: { readonly buffer: ArrayBuffer }): Uint8Array => new Uint8Array(buffer);

Deno.test("the device sums the bytes of a tensor as the host does, and sees numbers that are not finite", async () => {
  const wide = values(40_001),
    odd = values(77),
    put = (data: Float32Array<ArrayBuffer>, at: number, x: number) =>
      data.map((value, i) => i === at ? x : value);
  const cases = [
    ["f32", wide, bytesOf(wide), true],
    ["f32", put(wide, 40_000, NaN), bytesOf(put(wide, 40_000, NaN)), false],
    ["f32", put(wide, 3, -Infinity), bytesOf(put(wide, 3, -Infinity)), false],
    ["f32", put(odd, 0, 3.4e38), bytesOf(put(odd, 0, 3.4e38)), true],
    ["f16", odd, bytesOf(toF16(odd)), true],
    ["f16", put(odd, 76, Infinity), bytesOf(toF16(put(odd, 76, Infinity))), false],
    ["bf16", odd, bytesOf(toBf16(odd)), true],
    ["bf16", put(odd, 1, NaN), bytesOf(toBf16(put(odd, 1, NaN))), false],
  ] as const;
  const tensors = cases.map(([dtype, data, bytes]) => {
    const made = reserve(gpu, { shape: [data.length], dtype }, "x");
    writeValues(gpu, storageOf(made).buffer, dtype === "f32" ? data : new Uint16Array(bytes.slice().buffer));
    return made;
  });
  assertEquals(
    await checksums(gpu, tensors),
    cases.map(([, , bytes, finite]) => ({ sum: sumOf(bytes), finite })),
  );
});

Deno.test("a sum tells words that changed, changed places or are missing", () => {
  const bytes = bytesOf(values(64)), sums = new Set<number>([sumOf(bytes)]);
  for (let i = 0; i < bytes.length; i++) sums.add(sumOf(bytes.map((byte, at) => at === i ? byte ^ 1 : byte)));
  const [first, ...rest] = new Uint32Array(bytes.buffer);
  sums.add(sumOf(bytesOf(Uint32Array.from([...rest, first]))));
  sums.add(sumOf(bytes.slice(0, -4)));
  assertEquals(sums.size, bytes.length + 3);
});

const STEPS = 3, batches = pairs(STEPS);
const define = () =>
  defineTraining<Mlp, Pairs>(gpu, mlpLoss, { optimizer: sgd({ learningRate: 0.1 }), steps: STEPS });

Deno.test("a checkpoint with one bit changed is refused by the name of the tensor", async () => {
  const fileSystem = memoryFileSystem(), path = "run.safetensors";
  using training = define();
  await saveCheckpoint(gpu, await training.init(newMlp()), { path, fileSystem });
  const bytes = await fileSystem.read(path);
  bytes[bytes.length - 2] ^= 1;
  await fileSystem.write(path, bytes);
  const error = await assertRejects(() => loadCheckpoint(path, { fileSystem }), DataError);
  assert(
    /as "params\..+" must be as it was saved: it was changed; use another checkpoint/.test(error.message),
  );
});

Deno.test("without room for a copy, a keeper waits until the file is written", async () => {
  const fileSystem = memoryFileSystem();
  using training = define();
  await using keeper = checkpointKeeper<Mlp>(gpu, { path: "run.safetensors", every: 1, fileSystem });
  let state = await training.next(await training.init(newMlp()), batches[0]);
  const bits = await bitsOf(gpu, state), bytes = gpu.counts.bytes;
  let refused = 0;
  {
    using _ = refusing(gpu, ({ label }) => label === "staging" && ++refused > 0);
    await keeper.after(state);
  }
  assert(refused > 0);
  state = await training.next(state, batches[1]);
  const again = await define().resume(await loadCheckpoint("run.safetensors", { fileSystem }));
  assertEquals(await bitsOf(gpu, again), bits);
  assertEquals(state.step, 2);
  assert(gpu.counts.bytes >= bytes, "nothing but the copies was freed");
});

Deno.test("a keeper frees the memory of its copy once the file is written, or cannot be, where the last one is long ago", async () => {
  const real = memoryFileSystem();
  for (const fails of [false, true]) {
    const fileSystem = { ...real, rename: fails ? () => Promise.reject(new DataError("no")) : real.rename };
    using training = define();
    let minutes = 0;
    const keeper = checkpointKeeper<Mlp>(gpu, {
      ...{ path: "run.safetensors", every: 1, fileSystem },
      now: () => 60_000 * minutes++,
    });
    const state = await training.next(await training.init(newMlp()), batches[0]), bytes = gpu.counts.bytes;
    await keeper.after(state);
    await keeper.flush().catch(() => {});
    assertEquals([gpu.counts.bytes, gpu.counts.hostBytes], [bytes, 0]);
  }
});

Deno.test("a keeper that saves often takes the memory of its copies once, and frees it when it is disposed", async () => {
  const fileSystem = memoryFileSystem();
  using training = define();
  const keeper = checkpointKeeper<Mlp>(gpu, { path: "run.safetensors", every: 1, fileSystem });
  let state = await training.next(await training.init(newMlp()), batches[0]);
  await keeper.after(state);
  await keeper.flush();
  const { hostBytes } = gpu.counts;
  assert(hostBytes > 0);
  state = await training.next(state, batches[1]);
  const bits = await bitsOf(gpu, state), make = gpu.device.createBuffer;
  let mappable = 0;
  gpu.device.createBuffer = function (descriptor) {
    mappable += descriptor.usage & 1;
    return make.call(this, descriptor);
  };
  await keeper.after(state);
  gpu.device.createBuffer = make;
  assertEquals([mappable, gpu.counts.hostBytes], [0, hostBytes]);
  await keeper.flush();
  const again = await define().resume(await loadCheckpoint("run.safetensors", { fileSystem }));
  assertEquals(await bitsOf(gpu, again), bits);
  await keeper[Symbol.asyncDispose]();
  assertEquals(gpu.counts.hostBytes, 0);
});

Deno.test("a copy on the host is no memory of the device, which figures of a run tell", async () => {
  const real = memoryFileSystem(), gate = Promise.withResolvers<void>();
  const fileSystem: typeof real = {
    ...real,
    async write(...[to, content, options]) {
      await gate.promise;
      await real.write(to, content, options);
    },
  };
  using training = define();
  await using keeper = checkpointKeeper<Mlp>(gpu, { path: "run.safetensors", every: 1, fileSystem });
  const state = await training.next(await training.init(newMlp()), batches[0]);
  await checksums(gpu, [...state.leaves.values()]); // What reads it back stays.
  const { bytes } = gpu.counts;
  await keeper.after(state);
  assertEquals(gpu.counts.bytes, bytes);
  assert(gpu.counts.hostBytes > 0);
  gate.resolve();
});

Deno.test("saving a state that a step consumes meanwhile is refused, and the file stays", async () => {
  const real = memoryFileSystem(), path = "run.safetensors", gate = Promise.withResolvers<void>();
  using training = define();
  const state = await training.init(newMlp());
  await saveCheckpoint(gpu, state, { path, fileSystem: real });
  const before = await real.read(path);
  const fileSystem = {
    ...real,
    async write(...[to, content, options]: Parameters<typeof real.write>) {
      await gate.promise;
      await real.write(to, content, options);
    },
  };
  const saving = assertRejects(() => saveCheckpoint(gpu, state, { path, fileSystem }), ConsumedError);
  while (gpu.counts.submits === 0) await new Promise((resolve) => setTimeout(resolve));
  await new Promise((resolve) => setTimeout(resolve, 50));
  await training.next(state, batches[0]);
  gate.resolve();
  await saving;
  assertEquals(await real.read(path), before);
});
