/**
 * Ranks that go on where one of them dies.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  defineTraining,
  flatten,
  type Gpu,
  InputError,
  nextTokenLoss,
  openGpu,
  read,
  tensor,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import { averageParameters, type Ranks, RanksError, rankShares, RanksLostError } from "@firn/train/ranks";
import type { Mpi } from "../../core/host/load_mpi.ts";
import { mpiRanks } from "../../core/ranks/mpi_ranks.ts";
import { survivingSteps } from "../../examples/surviving_steps.ts";
import { joinedBy } from "../../examples/ranks.ts";
import { mortalMpi } from "./mortal_mpi.ts";

const SOURCE = {
  model_type: "llama",
  hidden_size: 8,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 16,
  max_position_embeddings: 8,
  tie_word_embeddings: true,
};
const STEPS = 5, SAMPLES = 8, LENGTH = 4;

const open = (mpi: Mpi): Ranks => mpiRanks(mpi, { seconds: 20, survive: true });

function batchOf(step: number) {
  const ids = Int32Array.from({ length: SAMPLES * LENGTH }, (_, i) => (i * 7 + step * 5) % SOURCE.vocab_size);
  const labels = ids.map((id, i) => i % LENGTH < 1 + i % 3 ? -100 : id), shape = [SAMPLES, LENGTH];
  return { inputIds: tensor(ids, shape), labels: tensor(labels, shape) };
}

/** Losses by step of one rank, and its weights. */
async function train(
  gpu: Gpu,
  ranks: Ranks | null,
): Promise<{ readonly losses: number[]; readonly weights: unknown }> {
  const model = await newModel(gpu, { source: SOURCE, seed: 1 });
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.02 }),
    steps: STEPS,
    ...ranks !== null && { ranks },
  });
  let state = await training.init(model.params);
  const losses: number[] = [], joined = ranks && joinedBy(ranks);
  const batchesAfter = (step: number) => {
    const all = Array.from({ length: STEPS - step }, (_, i) => batchOf(step + 1 + i));
    return ranks === null ? all : rankShares(all, ranks);
  };
  for await (state of survivingSteps(training, state, { batchesAfter, joined, say: () => {} })) {
    losses.push((await read(gpu, state.loss!))[0]);
  }
  const weights = await Promise.all([...flatten(state.params).values()].map((weight) => read(gpu, weight)));
  return { losses, weights };
}

Deno.test("those that are left take the step of a rank that died once more, and go on with all samples, as one process does", async () => {
  await using gpu = await openGpu({ tune: false });
  const one = await train(gpu, null);
  // A step has a call that agrees on it and one that sums: the third rank dies in the sum of the third step.
  const all = mortalMpi({ size: 4, dies: { rank: 2, call: 6 } }).map(open);
  const runs = all.map((ranks) => train(gpu, ranks).catch((error) => error));
  const [first, second, dead, fourth] = await Promise.all(runs);
  assertEquals(dead.constructor, RanksError, String(dead.stack));
  for (const other of [second, fourth]) assertEquals(other, first);
  assertEquals(all.map(({ size }) => size), [3, 3, 4, 3]);
  assertEquals([all[3].rank, all[3].survival!.lost], [2, [2]]);
  one.losses.forEach((loss, i) => assertAlmostEquals(first.losses[i], loss, 2e-6 * loss));
});

Deno.test("where rank 0 dies, which writes, the others end; parameters are not exchanged by ranks that go on", async () => {
  await using gpu = await openGpu({ tune: false });
  const all = mortalMpi({ size: 2, dies: { rank: 0, call: 3 } }).map(open);
  const [, left] = all.map((ranks) => train(gpu, ranks).catch((error) => error));
  assertEquals(/rank 0, which writes the run, died: go on with --resume/.test((await left).message), true);
  const optimizer = adamW({ learningRate: 1 });
  assertThrows(
    () => averageParameters({ every: 2 }).open(gpu, { ranks: all[1], optimizer } as never),
    InputError,
    'drop "survive"',
  );
});

Deno.test("after a death all calls fail until ranks go on, those that were asked for before even then", async () => {
  const all = mortalMpi({ size: 3, dies: { rank: 1, call: 1 } }).map(open);
  const dead = all[1].sum(new Float32Array(1)).catch((error) => error);
  await Promise.all([all[0], all[2]].map(async (ranks) => {
    const [first, second] = [1, 2].map(() => ranks.sum(Float32Array.of(1)));
    second.catch(() => {});
    await assertRejects(() => first, RanksLostError, "as rank 1 died: 2 are left");
    await assertRejects(() => ranks.gather(new Uint8Array(1)), RanksLostError);
    await assertRejects(() => second, RanksLostError);
    const late = assertRejects(() => ranks.gather(new Uint8Array(1)), RanksLostError);
    ranks.survival!.goOn();
    await late;
  }));
  await dead;
  const sums = await Promise.all([all[0], all[2]].map(async (ranks) => {
    const values = Float32Array.of(ranks.rank + 1);
    await ranks.sum(values);
    return values[0];
  }));
  assertEquals(sums, [3, 3]);
});

Deno.test("a library without ULFM is refused, and so is a failure of which no rank died", async () => {
  const [bare] = mortalMpi({ size: 1 });
  assertThrows(
    () => open({ ...bare, survival: null }),
    InputError,
    "must have MPIX_Comm_shrink: fake MPI has not",
  );
  const all = mortalMpi({ size: 2, fails: { rank: 1, call: 1 } }).map(open);
  const [other, own] = all.map((ranks) => ranks.sum(new Float32Array(1)).catch((error) => error.message));
  assertEquals(await own, await other.then(() => own));
  assertEquals(/MPI failed: code 13/.test(await own), true);
  assertEquals(/it failed on another|MPI failed/.test(await other), true);
});

Deno.test("ranks that wait too long name those that did not come", async () => {
  const all = mortalMpi({ size: 4, threads: true }).map((mpi) => mpiRanks(mpi, { seconds: 0.3 }));
  const waits = [0, 2].map((rank) => assertRejects(() => all[rank].sum(new Float32Array(1)), RanksError));
  for (const [i, wait] of waits.entries()) {
    assertEquals(
      (await wait).message.includes(`within 0.3 s: rank ${2 * i} waited for rank 1, rank 3; see why`),
      true,
      (await wait).message,
    );
  }
});
