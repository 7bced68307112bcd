/**
 * The pieces of the example of GRPO: problems, rewards, and the batch of a step. The whole run is in `bench/RESULTS.md`.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { readAll } from "@firn/train";
import { newAdapter, newModel } from "@firn/train/hub";
import { answerOf, batchOf, END, problems, promptOf, rewardOf } from "../../examples/addition.ts";
import { rollout, SOURCE } from "../../examples/grpo.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

Deno.test("problems are all sums of two digits, and none is both learned and held out", () => {
  const { train, held } = problems(100, 3), names = [...train, ...held].map(({ a, b }) => `${a}+${b}`);
  assertEquals([train.length, held.length, new Set(names).size], [8000, 100, 8100]);
  assertEquals(problems(100, 3).held, held);
});

Deno.test("an answer is right with all digits, the lowest first, and nothing else", () => {
  const problem = { a: 57, b: 68 };
  assertEquals(promptOf(problem), [5, 7, 10, 6, 8, 11]);
  assertEquals(answerOf(problem), [5, 2, 1, END]);
  const answers = [[5, 2, 1], [5, 2, 1, END], [5, 2], [5, 2, 1, 0], [5, 2, 0], []];
  assertEquals(answers.map((answer) => rewardOf(problem, answer)), [1, 1, 0, 0, 0, 0]);
});

Deno.test("a batch of the policy's answers has advantages within groups, and the reference finds what the policy does at first", async () => {
  await using gpu = await openTestGpu();
  const base = await newModel(gpu, { source: SOURCE, seed: 2 });
  const policy = await newAdapter(gpu, base, { rank: 2, targets: ["q_proj"], seed: 1 });
  const asked = [{ a: 12, b: 34 }, { a: 99, b: 99 }];
  const { batch, reward } = await rollout(gpu, policy, { problems: asked, group: 2, seed: 5 });
  assertEquals([batch.inputIds.shape, batch.advantages.shape, batch.reference!.shape], [[4, 10], [4], [
    4,
    10,
  ]]);
  assert(reward >= 0 && reward <= 1);
  const [ids, labels, advantages, reference] = await readAll(gpu, [
    batch.inputIds,
    batch.labels,
    batch.advantages,
    batch.reference!,
  ]);
  assertEquals([...ids.subarray(0, 6)], promptOf(asked[0]));
  assertEquals([...labels.subarray(0, 6)], Array(6).fill(-100));
  for (const group of [0, 2]) assert(Math.abs(advantages[group] + advantages[group + 1]) < 1e-6);
  // Tokens of answers alone have a probability, and what ends an answer has one, too.
  assert([...reference.subarray(0, 5)].every((value) => value === 0) && reference[5] < 0);
  assertEquals(
    [...(await readAll(gpu, [batchOf([{ problem: asked[0], answer: [6, 4] }]).labels]))[0]].slice(6),
    [6, 4, END, -100],
  );
});
