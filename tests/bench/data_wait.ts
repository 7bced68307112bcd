/**
 * How long a training waits for rows that are read and tokenized while it runs.
 *
 * @module
 */

import type { Gpu, Precision } from "@firn/train";
import { openEncoder, openRows, rowBatches, sampleSource } from "@firn/train/data";
import { turn, warm } from "./measure.ts";
import { type Shape, workOf } from "./shapes.ts";
import { settle } from "./timestamps.ts";

/** Milliseconds of a step on rows. */
export interface DataWait {
  /** Wall time of a step. */
  readonly wall: number;
  /** Of it, what the step waited for its batch: the device may idle then. */
  readonly waited: number;
}

/** The folder whose tokenizer reads the rows. */
const TOKENIZER = "examples/models/sotu";

/** Bytes of rows that are tokenized at a time: so few that they are made while the steps that are timed run. */
const BUFFER = 2 ** 18;

/**
 * Times steps on rows that a worker tokenizes.
 *
 * @param gpu The device
 * @param options The model, sizes, and the file of rows
 * @returns Milliseconds of a step
 */
export async function dataWaitOf(
  gpu: Gpu,
  { file, steps, ...size }: {
    readonly file: string;
    readonly steps: number;
    readonly shape: Shape;
    readonly batch: number;
    readonly length: number;
    readonly precision?: Precision;
  },
): Promise<DataWait> {
  const { training, ...made } = await workOf(gpu, size);
  using encoder = await openEncoder(TOKENIZER, { workers: 1, loss: "all" });
  const source = sampleSource(await openRows(file), { encode: encoder.encode });
  const batches = (await rowBatches(source, { ...size, windows: true, buffer: BUFFER })).from(1);
  let { state } = made, waited = 0;
  const runner = {
    async step() {
      const asked = performance.now(), { value } = await batches.next();
      waited += performance.now() - asked;
      state = await training.next(state, value as never);
    },
    settle: () => settle(gpu),
  };
  await warm(runner, 300, 0);
  waited = 0;
  const wall = await turn(runner, steps) / steps;
  return { wall, waited: waited / steps };
}
