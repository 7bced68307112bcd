/**
 * Two runs that chose the same kernels give the same bits; others need not.
 *
 * @module
 */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  adamW,
  defineTraining,
  type Gpu,
  matmul,
  mean,
  multiply,
  openGpu,
  type Tensor,
  tensor,
} from "@firn/train";
import { normalValues } from "@firn/train/kernels";
import { bitsOf } from "../train/tiny.ts";
import { tiles } from "../kernels/matmul_reference.ts";

type Params = { readonly w: Tensor };
type Batch = { readonly x: Tensor };

const STEPS = 3;
// Sums of both are long enough for three workgroups to share.
const [ROWS, WIDTH, COLUMNS] = [256, 200, 20];
const KEYS = [`${ROWS}x${COLUMNS}x${WIDTH} NN`, `${WIDTH}x${COLUMNS}x${ROWS} TN`];

const values = (size: number, key: number): Float32Array<ArrayBuffer> =>
  normalValues({ size, key: [key, 0] });

function loss({ w }: Params, { x }: Batch): Tensor {
  const y = matmul(x, w);
  return mean(multiply(y, y));
}

/** Bits of all that a training on a device with a file of choices ends with. */
async function train(tuneCache: string): Promise<Record<string, readonly number[]>> {
  const onTune = (): void => assert(false, "it measured");
  await using opened = await openGpu({ tune: true, tuneCache, onTune });
  // Software adapters are given no tiles.
  const gpu: Gpu = { ...opened, target: { ...opened.target, software: false } };
  const training = defineTraining<Params, Batch>(gpu, loss, {
    optimizer: adamW({ learningRate: 0.1 }),
    steps: STEPS,
  });
  let state = await training.init({ w: tensor(values(WIDTH * COLUMNS, 1), [WIDTH, COLUMNS]) });
  for (let i = 0; i < STEPS; i++) {
    state = await training.next(state, { x: tensor(values(ROWS * WIDTH, 2 + i), [ROWS, WIDTH]) });
  }
  const cached = JSON.parse(await Deno.readTextFile(tuneCache))[gpu.name];
  assertEquals(state.chosen.variants, cached);
  const names = (await training.profile(state)).map(({ name }) => name).join("\n");
  assertEquals(names.includes(" split 3"), cached[KEYS[0]].split === 3, names);
  return await bitsOf(gpu, state);
}

Deno.test("training gives the same bits for the same file of choices, sums shared or whole, and others for another", async () => {
  const { name } = await nameOfGpu(), folder = await Deno.makeTempDir();
  const bits: Record<string, readonly number[]>[] = [];
  for (const split of [3, 1]) {
    const path = `${folder}/${split}.json`;
    const choices = Object.fromEntries(KEYS.map((key) => [key, tiles(split)[2]]));
    await Deno.writeTextFile(path, JSON.stringify({ [name]: choices }));
    const once = await train(path);
    assertEquals(await train(path), once, `split ${split}`);
    bits.push(once);
  }
  assertNotEquals(bits[0].w, bits[1].w);
  await Deno.remove(folder, { recursive: true });
});

async function nameOfGpu(): Promise<{ readonly name: string }> {
  await using gpu = await openGpu();
  return { name: gpu.name };
}
