/** Parameters larger than one binding train as others do: the same losses, readings and weights. */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  embedding,
  flatten,
  type Gpu,
  type HostData,
  matmul,
  multiply,
  type Path,
  readAll,
  tanh,
  type Tensor,
  tensor,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { linearCrossEntropy } from "@firn/train/ops";
import { inFolder } from "../data/files.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { ALL_SIGNALS, scheduled, tokenBatch } from "./tiny.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** A table of 93 rows, which is also the head, has three parts; the matrix has two, and the gain is whole. */
const small: Gpu = { ...gpu, target: { ...gpu.target, maxBindingBytes: 4096 } };
const STEPS = 5;

interface Params {
  readonly [name: string]: { readonly weight: Tensor };
  readonly table: { readonly weight: Tensor };
  readonly up: { readonly weight: Tensor };
  readonly gain: { readonly weight: Tensor };
}

function waves(shape: readonly [number, number], seed: number): { readonly weight: Tensor } {
  const values = Float32Array.from(
    { length: shape[0] * shape[1] },
    (_, i) => Math.sin(seed * 17 + i * 1.7) / 4,
  );
  return { weight: tensor(values, shape) };
}

function newParams(): Params {
  return { table: waves([93, 32], 1), up: waves([36, 32], 2), gain: waves([1, 36], 3) };
}

function loss({ table, up, gain }: Params, { inputIds, labels }: TokenBatch): Tensor {
  const inner = matmul(embedding(table.weight, inputIds), up.weight, { transposeB: true });
  const hidden = matmul(multiply(tanh(inner), gain.weight), up.weight);
  return linearCrossEntropy(hidden, { weight: table.weight, labels });
}

function define(on: Gpu): Training<Params, TokenBatch> {
  return defineTraining<Params, TokenBatch>(on, loss, {
    optimizer: chain(clipByGlobalNorm(0.1), adamW({ learningRate: 0.01 })),
    steps: STEPS,
    lookEvery: 3,
    // Freezes the matrix before the fourth step.
    policy: scheduled([{ from: 3, frozen: ["up"] }], ALL_SIGNALS),
  });
}

const step = (
  training: Training<Params, TokenBatch>,
  state: TrainingState<Params>,
): Promise<TrainingState<Params>> => training.next(state, tokenBatch([1, 8], state.step + 1));

/** Values of a state by path. */
async function valuesOf(state: TrainingState<Params>): Promise<Map<Path, HostData>> {
  const named = [...flatten(state.params), ...state.leaves];
  const values = await readAll(gpu, named.map(([, t]) => t));
  return new Map(named.map(([path], i) => [path, values[i]]));
}

/** The values after each step. */
async function train(on: Gpu): Promise<Map<Path, HostData>[]> {
  const training = define(on), values: Map<Path, HostData>[] = [];
  let state = await training.init(newParams());
  while (!state.done) values.push(await valuesOf(state = await step(training, state)));
  return values;
}

Deno.test("parameters larger than one binding train as those of one binding do", async () => {
  const [seen, expected] = [await train(small), await train(gpu)];
  for (const [i, values] of seen.entries()) {
    assertEquals([...values.keys()], [...expected[i].keys()]);
    for (const [path, right] of expected[i]) {
      const error = distance(values.get(path)!, right);
      assert(error <= 1e-5, `${path} after step ${i + 1}: ${error}`);
    }
  }
});

/** The distance of two vectors over the length of the second; infinite where only one has a NaN. */
function distance(values: HostData, right: HostData): number {
  let error = 0, size = 1e-12;
  right.forEach((x, i) => {
    if (Number.isNaN(x) && Number.isNaN(values[i])) return;
    error += Number.isFinite(x) ? (values[i] - x) ** 2 : Infinity;
    size += x ** 2;
  });
  return Math.sqrt(error / size);
}

Deno.test("a run of parameters larger than one binding resumes to the same bits, also where bindings are larger", async () => {
  const training = define(small);
  let state = await training.init(newParams());
  while (state.step < 3) state = await step(training, state);
  await inFolder(async (folder) => {
    const path = `${folder}/state.safetensors`;
    await saveCheckpoint(gpu, state, { path });
    const again = define(small), larger = define(gpu);
    let resumed = await again.resume(await loadCheckpoint(path));
    let whole = await larger.resume(await loadCheckpoint(path));
    while (!state.done) {
      [state, resumed, whole] = [
        await step(training, state),
        await step(again, resumed),
        await step(larger, whole),
      ];
    }
    const expected = await valuesOf(state);
    assertEquals(await valuesOf(resumed), expected);
    for (const [name, values] of await valuesOf(whole)) {
      assert(distance(values, expected.get(name)!) <= 1e-5, name);
    }
  });
});
