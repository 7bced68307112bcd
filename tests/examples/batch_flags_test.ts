/** How many samples a step has, as flags ask for it. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { adamW, defineTraining, type Gpu, nextTokenLoss, type Training } from "@firn/train";
import { newModel } from "@firn/train/hub";
import type { LlamaParams, TokenBatch } from "@firn/train/models";
import {
  type BatchChoiceFlags,
  batchFlags,
  checkBatch,
  chooseBatch,
  type ChosenBatch,
  tokensOf,
} from "../../examples/batch_flags.ts";
import { FLAGS as CLASSIFY } from "../../examples/classify.ts";
import { FLAGS as DIGITS } from "../../examples/digits.ts";
import { FLAGS as FINETUNE } from "../../examples/finetune_flags.ts";
import { readFlags, type Table, UsageError } from "../../examples/flags.ts";
import { FLAGS as LORA } from "../../examples/lora.ts";
import { OPTIMIZER_FLAGS } from "../../examples/optimizer_flags.ts";
import { FLAGS as PRETRAIN } from "../../examples/pretrain.ts";
import { FLAGS as VISION } from "../../examples/vision.ts";
import { FLAGS as VLM } from "../../examples/vlm.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { llamaSource } from "../train/tiny.ts";

const flagsOf = (args: readonly string[]): BatchChoiceFlags =>
  readFlags(args, { ...batchFlags("rows", 8), ...OPTIMIZER_FLAGS }).values;

Deno.test("--batch is a number or auto, which needs --memory", () => {
  assertEquals([flagsOf([]).batch, flagsOf(["--batch", "auto"]).batch], [8, "auto"]);
  for (const value of ["0", "1.5", "Auto", "all"]) {
    assertThrows(
      () => flagsOf(["--batch", value]),
      UsageError,
      "--batch must be a whole number from 1, or auto",
    );
  }
  for (const value of ["0", "-1GiB", "8 XB", "all"]) {
    assertThrows(() => flagsOf([`--memory=${value}`]), UsageError, "--memory must be a number of bytes");
  }
  assertThrows(() => checkBatch(flagsOf(["--batch", "auto"])), UsageError, "--batch auto needs --memory");
  checkBatch(flagsOf(["--batch", "auto", "--memory", "1 GiB"]));
});

Deno.test("--total-batch is a multiple of --batch and stands for --accumulate", () => {
  const check = (line: string) => () => checkBatch(flagsOf(line.split(" ")));
  assertThrows(check("--batch 8 --total-batch 12"), UsageError, "a multiple of --batch 8: got 12");
  assertThrows(
    check("--total-batch 16 --accumulate 4"),
    UsageError,
    "--accumulate follows from --total-batch",
  );
  // As a checkpoint keeps it.
  check("--batch 4 --total-batch 16 --accumulate 4")();
});

Deno.test("every command that trains by the trainer takes --batch auto", () => {
  const tables: readonly Table[] = [CLASSIFY, DIGITS, FINETUNE, LORA, PRETRAIN, VISION, VLM];
  for (const table of tables) {
    assertEquals(table.batch.read("auto"), "auto");
    assert("total-batch" in table && "memory" in table);
  }
});

Deno.test("--batch auto takes the largest that fits, and as many as make up --total-batch", async () => {
  await using gpu: Gpu = await openTestGpu();
  const model = await newModel<LlamaParams>(gpu, { source: llamaSource({ layers: 1, tied: true }), seed: 1 });
  const { log } = console, said: string[] = [];
  using _ = { [Symbol.dispose]: () => void (console.log = log) };
  console.log = (line: string) => void said.push(line);
  const choose = (line: string, available?: number): ChosenBatch =>
    chooseBatch<LlamaParams, TokenBatch>(flagsOf(`${line} --memory 512KiB`.split(" ")), {
      params: model.params,
      available,
      batchOf: (size) => tokensOf(size, { length: 16 }),
      trainingOf: (accumulate): Training<LlamaParams, TokenBatch> =>
        defineTraining(gpu, nextTokenLoss(model), {
          optimizer: adamW({ learningRate: 1e-3 }),
          steps: 1,
          accumulate,
          memory: "512 KiB",
        }),
    });
  const { batch, accumulate } = choose("--batch auto");
  assert(batch > 4 && batch < 64 && accumulate === 1, `${batch}`);
  const parts = choose("--batch auto --accumulate 3");
  assert(parts.batch < batch && parts.accumulate === 3);
  assertEquals(choose("--batch auto --total-batch 4"), { batch: 4, accumulate: 1 });
  const whole = choose("--batch auto --total-batch 96");
  assert(
    whole.batch * whole.accumulate === 96 && whole.batch > parts.batch / 2 && whole.batch <= parts.batch,
  );
  assertEquals(said.map((line) => /, (.*) 512KiB/.exec(line)![1]), [
    "the largest that fits in",
    "the largest that fits in",
    "all of a step, fits in",
    "the largest that fits in",
  ]);
  assertEquals(choose("--batch 8 --total-batch 24"), { batch: 8, accumulate: 3 });
  said.length = 0;
  assertEquals(choose("--batch auto", 3), { batch: 3, accumulate: 1 });
  assertEquals(choose("--batch auto --total-batch 96", 5), { batch: 4, accumulate: 24 });
  assertStringIncludes(said[0], "batch       3, all that there are, fits in 512KiB");
});

Deno.test("of several ranks it is said how many samples a step has in all, of one process nothing", () => {
  const said: string[] = [], { log } = console;
  const choose = (line: string, ranks?: number): void =>
    void chooseBatch(flagsOf(line.split(" ")), {
      params: {},
      batchOf: () => ({}),
      trainingOf: () => assert(false) as never,
      ranks,
    });
  try {
    console.log = (line: string) => void said.push(line);
    choose("--batch 8");
    choose("--batch 8", 2);
    choose("--batch 4 --total-batch 24", 3);
  } finally {
    console.log = log;
  }
  assertEquals(said, ["samples     16 a step: 2 ranks × 8", "samples     24 a step: 3 ranks × 2 × 4"]);
});
