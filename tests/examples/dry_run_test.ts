/**
 * What a run would take, beside what it takes.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  defineTraining,
  matmul,
  type Model,
  openGpu,
  read,
  scan,
  sgd,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import { estimateRun } from "../../examples/dry_run.ts";
import { unwritten } from "../../examples/unwritten.ts";

type Params = { readonly w: Tensor };
type Batch = { readonly inputIds: Tensor; readonly labels: Tensor };

const STEPS = 24;
/** Milliseconds that a batch is waited for: with them, the time of a step does not hang on how busy the machine is. */
const WAIT = 30;

const loss = (params: object): Tensor => {
  const { w } = params as Params;
  return sum(matmul(w, w));
};

Deno.test("estimateRun tells how long steps take within a quarter, counts what is on the device, and frees it", async () => {
  await using gpu = await openGpu();
  const ids = tensor(new Int32Array([1, 2]), [1, 2]), batch: Batch = { inputIds: ids, labels: ids };
  const batches = {
    async *from(): AsyncGenerator<Batch, void, undefined> {
      while (true) {
        await new Promise((done) => setTimeout(done, WAIT));
        yield batch;
      }
    },
  };
  const base = { params: { w: tensor([1, 2, 3, 4], [2, 2]) } } as unknown as Model;
  const define = () =>
    defineTraining<object, Batch>(gpu, loss, { optimizer: sgd({ learningRate: 0.1 }), steps: STEPS });
  const training = define();
  let saved = 0;
  const estimate = await estimateRun(gpu, {
    ...{ training, base, batches, loss, steps: STEPS, most: STEPS, held: [batch], judged: 1, samples: 0 },
    ...{ sample: null, checkpoint: 10, setupMs: 1000, loadMs: 500 },
    save: async (state) => {
      assert(state.step > 2);
      assertEquals((await read(gpu, (state.params as Params).w)).length, 4);
      saved++;
    },
  });
  assertEquals(saved, 1);
  assert(estimate.bytes.state > 0 && estimate.bytes.step > 0);
  training[Symbol.dispose]();

  const again = define(), began = performance.now();
  let state = await again.init(base.params);
  for await (state of scan(again, state, batches.from())) { /* Takes all steps. */ }
  await read(gpu, state.loss!);
  const took = performance.now() - began, { totalMs, compileMs, evaluationMs, savingMs, stepMs } = estimate;
  assertAlmostEquals(STEPS * stepMs, took, took / 4);
  assertAlmostEquals(totalMs, 1000 + compileMs + evaluationMs + savingMs + STEPS * stepMs, 1e-6);
  assert(savingMs >= 500);
});

Deno.test("unwritten makes what is written, and writes nothing", async () => {
  const files = memoryFileSystem({ "a.txt": "a" }), none = unwritten(files);
  let made = 0;
  await none.write(
    "b.txt",
    (function* () {
      made++;
      yield new Uint8Array(1);
    })(),
  );
  for (const act of ["makeFolder", "remove"] as const) await none[act]("a.txt");
  await none.append("a.txt", "b");
  await none.rename("a.txt", "b.txt");
  assertEquals([made, (await files.list(".")).map(({ name }) => name)], [1, ["a.txt"]]);
  assertEquals(new TextDecoder().decode(await none.read("a.txt")), "a");
});
