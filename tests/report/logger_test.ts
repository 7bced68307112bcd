/**
 * What loggers are told of a run, and logs of runs that go on.
 *
 * @module
 */

import { assertEquals, assertLess, assertRejects } from "@std/assert";
import { defineTraining, multiply, openGpu, scan, sgd, sum, type Tensor, tensor } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import {
  type Line,
  logged,
  type LogRecord,
  openLog,
  readLog,
  recorder,
  type StepLine,
} from "@firn/train/report";
import { stopAt } from "@firn/train/policies";
import { freezeLine, PARTS, startLine, stepLine } from "./run_lines.ts";

const START = startLine({ perplexity: 9, sample: "a" }), FREEZE = freezeLine(2);
const step = (number: number, more: Partial<StepLine> = {}): StepLine =>
  stepLine(number, { readings: {}, ...more });

Deno.test("recorder names numbers and texts as transformers does, and has the share of elements that are frozen", () => {
  const lines: Line[] = [
    START,
    PARTS,
    step(1, {
      metrics: { "rewards/margins": 0.5 },
      validation: 3,
      tokensPerSecond: 100,
      memoryBytes: 2 ** 32,
    }),
    step(2, { loss: null, learningRate: null, exchanged: 100, exchangeMs: 8, exchangeWaitedMs: 2 }),
    FREEZE,
    { kind: "evaluation", step: 2, metrics: { loss: 1, bad: null } },
    { kind: "sample", step: 2, text: "b" },
    step(3, { frozen: 1 }),
    { kind: "end", perplexity: 8, sample: "c" },
  ];
  const records = lines.map(recorder());
  const pace = { "train/step_ms": 20, "train/flops": 1e6, "train/launches": 5 };
  assertEquals(records.map((record) => [record?.step, record?.numbers]), [
    [0, { "eval/perplexity": 9 }],
    [undefined, undefined],
    [1, {
      "train/loss": 1,
      "train/learning_rate": 0.5,
      "train/rewards/margins": 0.5,
      "eval/loss": 3,
      "train/tokens_per_second": 100,
      ...pace,
      "train/memory_bytes": 2 ** 32,
      "train/frozen": 0,
      "train/frozen_share": 0,
    }],
    [2, {
      ...pace,
      "train/frozen": 0,
      "train/frozen_share": 0,
      "train/exchanged_bytes": 100,
      "train/exchange_ms": 8,
      "train/exchange_waited_ms": 2,
    }],
    [2, { "train/frozen_share": 0.75 }],
    [2, { "eval/loss": 1 }],
    [2, {}],
    [3, {
      "train/loss": 1 / 3,
      "train/learning_rate": 0.5,
      ...pace,
      "train/frozen": 1,
      "train/frozen_share": 0.75,
    }],
    [3, { "eval/perplexity": 8 }],
  ]);
  assertEquals(records.map((record) => Object.keys(record?.texts ?? {})), [
    ["configuration", "sample"],
    [],
    [],
    [],
    ["freeze"],
    [],
    ["sample"],
    [],
    ["sample"],
  ]);
});

Deno.test("openLog mends a torn line, has no step twice in a run that goes on, and tells its logger what is new", async () => {
  const fileSystem = memoryFileSystem(), path = "metrics.jsonl";
  const sample = (at: number): Line => ({ kind: "sample", step: at, text: `${at}` });
  {
    const log = await openLog(path, { fileSystem });
    await log.add([START, PARTS, step(1), step(2), FREEZE, sample(3), step(3), step(4), sample(5)]);
    await fileSystem.append(path, '{"kind":"step","st');
  }
  // The checkpoint is of step 3, the look before it of step 2.
  const seen: LogRecord[] = [];
  const log = await openLog(path, {
    upTo: 2,
    at: 3,
    fileSystem,
    logger: (records) => void seen.push(...records),
  });
  await log.add([step(3), step(4)]);
  const lines = await readLog(path, { fileSystem });
  assertEquals(lines, [START, PARTS, step(1), step(2), FREEZE, sample(3), step(3), step(4)]);
  assertEquals(seen.map(({ step }) => step), [3, 3, 4]);
  assertEquals(seen[0].texts, { sample: "3" });
  assertEquals(seen[2].numbers["train/frozen_share"], 0.75);
});

Deno.test("logged changes no bit of a run, logs each step once and ends the run when a logger throws", async () => {
  await using gpu = await openGpu();
  const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(w, x));
  const training = defineTraining(gpu, loss, {
    optimizer: sgd({ learningRate: 1 }),
    policy: stopAt(4),
    steps: 9,
    lookEvery: 2,
  });
  const batches = Array.from({ length: 9 }, (_, i) => ({ x: tensor([i / 7]) }));
  const states = async () => scan(training, await training.init({ w: tensor([1]) }), batches);
  const plain = await Array.fromAsync(await states(), ({ look }) => [...look?.loss ?? []]);
  const submits = gpu.counts.submits;
  await Array.fromAsync(await states(), () => {});
  const alone = gpu.counts.submits - submits;

  const fileSystem = memoryFileSystem(), log = await openLog("log", { fileSystem });
  const timed = await openLog("timed", { fileSystem });
  const seen: LogRecord[] = [];
  const before = gpu.counts.submits;
  const options = { log, training, tokens: 5, memory: () => gpu.counts.bytes };
  await log.add([{ kind: "start", config: {}, adapter: gpu.name }]);
  const losses = await Array.fromAsync(
    logged(await states(), { ...options, logger: (records) => void seen.push(...records) }),
    ({ look }) => [...look?.loss ?? []],
  );
  assertEquals(losses, plain);
  assertEquals(gpu.counts.submits - before, alone);
  assertEquals(log.lines.map((line) => "step" in line ? `${line.kind} ${line.step}` : line.kind), [
    "start",
    "components",
    "step 1",
    "step 2",
    "step 3",
    "step 4",
    "freeze 4",
  ]);
  assertEquals(await readLog("log", { fileSystem }), log.lines);
  assertEquals(seen.map(({ step }) => step), [1, 2, 3, 4, 4]);
  assertEquals(
    seen[0].numbers["train/memory_bytes"] > 0 && seen[0].numbers["train/tokens_per_second"] > 0,
    true,
  );
  assertEquals(seen.at(-1)!.numbers["train/frozen_share"], 1);
  let apart = 0;
  for await (
    const { step } of logged(await states(), {
      log: timed,
      training,
      tokens: 5,
      apart: () => apart,
    })
  ) {
    if (step !== 1) continue;
    const from = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    apart += performance.now() - from;
  }
  const [first] = timed.lines.filter((line) => line.kind === "step");
  assertLess(first.stepMs, 500);
  const broken = logged(await states(), { logger: () => Promise.reject(new TypeError("no network")) });
  await assertRejects(() => Array.fromAsync(broken, () => {}), TypeError, "no network");
  training[Symbol.dispose]();
});
