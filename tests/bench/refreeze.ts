/**
 * What a change of the frozen set costs in wall time, the first time and with everything warm.
 *
 * @module
 */

import type { Gpu, Precision } from "@firn/train";
import { definePolicy, type FreezePolicy } from "@firn/train/policies";
import { median } from "./measure.ts";
import { closeWork, type Shape, workOf } from "./shapes.ts";

/** Steps between changes. */
const STAGE = 6;
/** The changes, in order: the first two find nothing made, the last two find all of it. */
const CHANGES = ["freeze", "thaw", "freeze again", "thaw again"] as const;

/** Milliseconds of steps, and of changes beyond them. */
export interface Refreeze {
  /** Of a step with nothing frozen, its look included. */
  readonly step: number;
  /** Of a step with half frozen, its look included. */
  readonly frozenStep: number;
  /** Wall time of each change beyond that of ordinary steps. */
  readonly extra: Readonly<Record<typeof CHANGES[number], number>>;
  /** How many components were frozen. */
  readonly components: number;
}

/** Freezes the first half of the components, thaws them, and so on, every so many steps. */
export function alternating(every: number): FreezePolicy {
  return definePolicy({
    name: `alternating(${every})`,
    init: (components) => ({
      step: 0,
      half: components.slice(0, Math.floor(components.length / 2)).map((c) => c.path),
    }),
    next: (state, { step }) => ({ ...state, step }),
    frozen: ({ step, half }) => Math.floor(step / every) % 2 === 1 ? half : [],
  });
}

/**
 * From the time of each step to that of the changes. A change is planned in the last step of a stage and recorded in
 * the first of the next; both are held against the other steps of their stages.
 *
 * @param times Milliseconds of steps, `times[0]` of step 1
 * @param every Steps of a stage
 * @returns Ordinary steps and changes
 */
export function changesOf(times: readonly number[], every: number): Omit<Refreeze, "components"> {
  const stages = CHANGES.map((_, i) => i).concat(CHANGES.length).map((i) =>
    times.slice(i * every, (i + 1) * every)
  );
  const ordinary = stages.map((stage) => median(stage.slice(1, -1)));
  const extra = CHANGES.map((name, i) => [
    name,
    stages[i].at(-1)! - ordinary[i] + stages[i + 1][0] - ordinary[i + 1],
  ]);
  return { step: ordinary[0], frozenStep: ordinary[1], extra: Object.fromEntries(extra) };
}

/** Trains a shape through all changes, with a look at every step. */
export async function measureRefreeze(
  gpu: Gpu,
  size: {
    readonly shape: Shape;
    readonly batch: number;
    readonly length: number;
    readonly precision?: Precision;
  },
): Promise<Refreeze> {
  const { training, batch, ...made } = await workOf(gpu, {
    ...size,
    policy: alternating(STAGE),
    lookEvery: 1,
  });
  let { state } = made, components = 0;
  const times: number[] = [];
  while (times.length < (CHANGES.length + 1) * STAGE) {
    const began = performance.now();
    state = await training.next(state, batch);
    times.push(performance.now() - began);
    components = Math.max(components, state.frozen.length);
  }
  closeWork({ training, state });
  return { ...changesOf(times, STAGE), components };
}
