/**
 * A program of one's own, which a launcher of MPI starts with the permissions that the doc of `Ranks` names, and no more:
 *
 * ```sh
 * mpirun -n 2 deno run --no-prompt --allow-ffi=/absolute/libmpi.so.40 --allow-env=... tests/ranks/own_program.ts
 * ```
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  adamW,
  defineTraining,
  matmul,
  mean,
  multiply,
  openGpu,
  read,
  scan,
  subtract,
  type Tensor,
  tensor,
} from "@firn/train";
import { averageParameters, openRanks } from "@firn/train/ranks";

interface Batch {
  readonly x: Tensor;
  readonly y: Tensor;
}

function loss({ w }: { readonly w: Tensor }, { x, y }: Batch): Tensor {
  const error = subtract(matmul(x, w), y);
  return mean(multiply(error, error));
}

const ranks = await openRanks(), { rank, size } = ranks;
// As large as what goes through memory that ranks of a host share.
const values = new Float32Array(3_000_000).fill(rank + 1);
await ranks.sum(values);
assertEquals([values[0], values.at(-1)], Array(2).fill(size * (size + 1) / 2));
const bytes = await ranks.allToAll(new Uint8Array(1_000_000 * size).fill(rank));
assertEquals([bytes[0], bytes.at(-1)], [0, size - 1]);
assertEquals((await ranks.gather(bytes)).length, size * bytes.length);
await ranks.broadcast(bytes);

await using gpu = await openGpu({ tune: false });
for (
  const exchange of [
    { of: "gradients" } as const,
    averageParameters({ every: 2 }),
    averageParameters({ every: 2, delay: 1 }),
  ]
) {
  using training = defineTraining(gpu, loss, {
    optimizer: adamW({ learningRate: 0.1 }),
    steps: 4,
    lookEvery: 2,
    ranks,
    exchange,
  });
  const numbers = (count: number, step: number): Float32Array =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(1 + i * 1.7 + step + 5 * rank));
  const batches = [1, 2, 3, 4].map((step): Batch => ({
    x: tensor(numbers(8, step), [2, 4]),
    y: tensor(numbers(2, step), [2, 1]),
  }));
  let state = await training.init({ w: tensor([1, 2, 3, 4], [4, 1]) });
  for await (const next of scan(training, state, batches)) state = next;
  const mine = await read(gpu, state.params.w), all = await ranks.gather(new Uint8Array(mine.buffer));
  const each = new Float32Array(all.buffer);
  for (let other = 0; other < size; other++) {
    assertEquals([...each.subarray(other * mine.length, (other + 1) * mine.length)], [...mine]);
  }
}
await ranks.close();
if (rank === 0) console.log(`${size} ranks of ${ranks.engine} have equal weights`);
