/**
 * The steps of `classify`, `vision`, `vlm` and `lora`, and the log that they may have.
 *
 * @module
 */

import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import {
  AlreadyExistsError,
  chain,
  defineTraining,
  multiply,
  read,
  sgd,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { weightAverage } from "@firn/train/optim";
import { stopAt } from "@firn/train/policies";
import { readLog } from "@firn/train/report";
import { openSteps } from "../../examples/steps.ts";
import { main as vision } from "../../examples/vision.ts";
import { inFolder } from "../data/files.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { call } from "./process.ts";

Deno.test("steps with --log write what a run writes: a log, event files and a report; without, nothing", async () => {
  await using gpu = await openTestGpu();
  const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(w, x));
  using training = defineTraining(gpu, loss, {
    optimizer: sgd({ learningRate: 1 }),
    policy: stopAt(4),
    steps: 9,
    lookEvery: 2,
  });
  const batches = Array.from({ length: 9 }, (_, i) => ({ x: tensor([i / 7]) }));
  const options = { params: { w: tensor([1]) }, batches, steps: 9 };
  await inFolder(async (folder) => {
    const take = async (log: string | null) => {
      const flags = { watch: null, tensorboard: log !== null, progress: "lines", log } as const;
      await using steps = await openSteps(gpu, { flags, config: { model: "scalar" } });
      const { loss } = await steps.take(training, options);
      await steps.finish({ accuracy: 0.5 });
      return await read(gpu, loss!);
    };
    const { log } = console, shown: string[] = [], { writeSync } = Deno.stdout;
    try {
      console.log = (text) => shown.push(`${text}\n`);
      Deno.stdout.writeSync = (bytes) => shown.push(new TextDecoder().decode(bytes)) && bytes.length;
      assertEquals(await take(`${folder}/log`), await take(null));
      await assertRejects(() => take(`${folder}/log`), AlreadyExistsError, "choose another --log");
    } finally {
      console.log = log;
      Deno.stdout.writeSync = writeSync;
    }
    assertMatch(
      shown.join(""),
      /4\/9 {2}loss 0\.\d+ {2}[\d.]+ s.* {2}frozen 100 % {2}ETA[^]*step 4: froze w/,
    );
    const lines = await readLog(`${folder}/log/metrics.jsonl`);
    const kinds = ["start", "components", "step", "step", "step", "step", "freeze", "end"];
    assertEquals(lines.map(({ kind }) => kind), kinds);
    assertEquals(lines.at(-1), {
      kind: "end",
      accuracy: 0.5,
      ending: { reason: "frozen", step: 4, best: null },
    });
    const names = await Array.fromAsync(Deno.readDir(`${folder}/log`), ({ name }) => name);
    assertEquals(names.sort(), ["metrics.jsonl", "report.html", "tensorboard"]);
  });
});

Deno.test("vision --watch without a log is refused", async () => {
  for (const [flag, ...value] of [["--watch", "0"], ["--tensorboard"]]) {
    assertStringIncludes(`${await call(vision, [flag, ...value])}`, `${flag} shows a log: add --log DIR`);
  }
});

Deno.test("steps of two batches end with the average of the weights where there is one", async () => {
  await using gpu = await openTestGpu();
  const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(w, x));
  const optimizer = chain(sgd({ learningRate: 1 }), weightAverage(0.5));
  using training = defineTraining(gpu, loss, { optimizer, steps: 2, accumulate: 2 });
  const batches = [1, 3, 2, 2].map((x) => ({ x: tensor([x]) }));
  const flags = { watch: null, tensorboard: false, progress: "none", log: null } as const;
  await using steps = await openSteps(gpu, { flags, config: {} });
  const { params } = await steps.take(training, { params: { w: tensor([8]) }, batches, steps: 2 });
  // The weight goes from 8 to 6 and 4, and the average to 7 and 5.5.
  assertEquals([...await read(gpu, params.w)], [5.5]);
});
