/**
 * Writes the event files of a run that is interrupted and goes on, for `read.py`.
 *
 * ```sh
 * deno run --allow-read --allow-write tests/tensorboard/write.ts FOLDER
 * ```
 *
 * @module
 */

import { openLog, type StepLine, tensorBoardLogger } from "@firn/train/report";

const [folder] = Deno.args, path = `${folder}/metrics.jsonl`;

/** A step of the part of the run that a digit names. */
function step(number: number, part: number): StepLine {
  return {
    kind: "step",
    step: number,
    loss: 10 * part + number,
    learningRate: 1e-3 / number,
    tokensPerSecond: 1000,
    memoryBytes: 2 ** 33,
    stepMs: 20,
    launches: 5,
    flops: 1e6,
    frozen: 0,
    readings: {},
  };
}

const of = (part: number, numbers: readonly number[]): StepLine[] =>
  numbers.map((number) => step(number, part));

{
  const logger = tensorBoardLogger(`${folder}/tensorboard`, { now: () => 1764430000000 });
  const log = await openLog(path, { logger });
  const model = { config: { model: "näve <b>", steps: 6 }, adapter: "a GPU" };
  await log.add([{ kind: "start", ...model, perplexity: 9.5, sample: "The whale 🐋" }]);
  await log.add(of(1, [1, 2, 3, 4]));
}
const logger = tensorBoardLogger(`${folder}/tensorboard`, { from: 2, now: () => 1764430060000 });
const log = await openLog(path, { upTo: 2, logger });
await log.add(of(2, [3, 4, 5, 6]));
await log.add([{ kind: "end", perplexity: 8.5, sample: "The ship" }]);
