/**
 * Compares the time that frozen sets save with the FLOPs that they remove.
 *
 * One training goes through all sets, round after round, timed by the device. The sets: nothing, growing random shares of the
 * layers' matrices, then growing numbers of layers from the bottom with everything below them.
 *
 * @module
 */

import { type Component, free, type Gpu, type Precision, type Tensor } from "@firn/train";
import { blocksOf, definePolicy, type FreezePolicy, layerLinears } from "@firn/train/policies";
import { plan } from "../../core/plan/plan.ts";
import { record, type Recording } from "../../core/runtime/record.ts";
import { upload } from "../../core/runtime/upload.ts";
import { randomOrder } from "../../policies/random.ts";
import { openClock } from "./timestamps.ts";
import { type Spread, spreadOf } from "./measure.ts";
import { closeWork, type Shape, SHAPES, type Work, workOf } from "./shapes.ts";

/** A set of frozen components. */
export interface FrozenSet {
  readonly kind: "nothing" | "scattered" | "bottom" | "all";
  /** Share of what the kind counts: matrices of layers, or layers. */
  readonly share: number;
  readonly paths: readonly string[];
}

/** What a frozen set saved. */
export interface FreezingRow extends Omit<FrozenSet, "paths"> {
  /** Components that were frozen. */
  readonly frozen: number;
  /** Milliseconds of a step in each round, and their spread. */
  readonly times: readonly number[];
  readonly ms: Spread;
  /** FLOPs of matrix products in a step. */
  readonly matmulFlops: number;
  /** Milliseconds less than with nothing frozen, of medians. */
  readonly saved: number;
  /** What would be saved if all time went with the FLOPs of matrix products. */
  readonly predicted: number;
}

/** What all sets saved. */
export interface FreezingTable {
  readonly work: string;
  readonly components: number;
  /** Nothing frozen first. */
  readonly rows: readonly FreezingRow[];
}

/** What to train, and how long. */
export interface FreezingOptions {
  readonly name: string;
  readonly shape: Shape;
  readonly batch: number;
  readonly length: number;
  /** Rounds that count; one more goes before them, in which kernels are compiled and the clocks rise. */
  readonly rounds: number;
  /** Steps of a turn, 8 when absent; a quarter of them, in which clocks rise again, and the last are not timed. */
  readonly turn?: number;
  /** Shares of the layers' matrices, and of the layers, that are frozen; quarters when absent. */
  readonly shares?: readonly number[];
  /** Of the training; f32 when absent. */
  readonly precision?: Precision;
}

const SHARES = [0.25, 0.5, 0.75, 1];
/** Steps in which a new set is recorded, and the queue fills, at least. */
const SETTLE = 2;

/** What is measured on an adapter. */
export function sizeOfFreezing(
  { software }: Pick<Gpu, "software">,
): Omit<FreezingOptions, "rounds"> {
  return software
    ? { name: "sotu", shape: SHAPES.sotu, batch: 4, length: 64 }
    : { name: "gpt2-124m", shape: SHAPES["gpt2-124m"], batch: 8, length: 1024 };
}

/**
 * The sets of a model that still train something.
 *
 * @param components Components of the model
 * @param shares What to freeze of its matrices, and of its layers
 * @returns Nothing frozen, then scattered sets that grow, then bottoms that grow
 */
export function setsOf(components: readonly Component[], shares: readonly number[] = SHARES): FrozenSet[] {
  const linears = components.filter(layerLinears), { below, layers } = blocksOf(components);
  const order = randomOrder(linears.length, { seed: 1, draw: 0 });
  const scattered = shares.map((share): FrozenSet => {
    const chosen = order.slice(0, Math.round(share * linears.length));
    return { kind: "scattered", share, paths: chosen.map((i) => linears[i].path) };
  });
  const bottoms = shares.filter((share) => share < 1).map((share): FrozenSet => ({
    kind: "bottom",
    share,
    paths: [...below, ...layers.slice(0, Math.round(share * layers.length)).flat()],
  }));
  return [{ kind: "nothing", share: 0, paths: [] }, ...scattered, ...bottoms];
}

/** Freezes each of {@link setsOf} in turn, for so many steps. */
export function takingTurns(turn: number, shares: readonly number[] = SHARES): FreezePolicy {
  return definePolicy({
    name: `takingTurns(${turn})`,
    init: (components) => ({ step: 0, sets: setsOf(components, shares).map(({ paths }) => paths) }),
    next: (state, { step }) => ({ ...state, step }),
    frozen: ({ step, sets }) => sets[Math.floor(step / turn) % sets.length],
  });
}

/**
 * Measures what frozen sets save.
 *
 * @param gpu The device, with timestamps
 * @param options Model, batch and length of the measurement
 * @returns A row for each set, and one for evaluation, where everything is frozen
 * @throws {InputError} When the device has no timestamps
 */
export async function measureFreezing(gpu: Gpu, options: FreezingOptions): Promise<FreezingTable> {
  const { name, batch, length, rounds, turn = 8, shares, precision } = options;
  using clock = openClock(gpu);
  const policy = takingTurns(turn, shares);
  const work = await workOf(gpu, { ...options, policy, lookEvery: turn });
  const { training } = work;
  const { shape } = work.batch.inputIds;
  const inputIds = upload(gpu, new Int32Array(batch * length), { shape, label: "ids" });
  let { state } = work, forward: Recording | null = null;
  try {
    const settled = Math.max(SETTLE, Math.floor(turn / 4)), timed = turn - settled - 1;
    const step = async (): Promise<void> => {
      state = await training.next(state, work.batch);
    };
    const takeTurn = async (): Promise<number> => {
      for (let i = 0; i < settled; i++) await step();
      clock.mark(0);
      for (let i = 0; i < timed; i++) await step();
      clock.mark(1);
      await step();
      return await clock.read() / timed;
    };
    const first = await takeTurn();
    const sets = setsOf(training.components(), shares);
    const times = sets.map((): number[] => []), forwardTimes: number[] = [];
    for (let round = 0; round <= rounds; round++) {
      for (const own of times) {
        const ms = round === 0 && own === times[0] ? first : await takeTurn();
        if (round > 0) own.push(ms);
      }
      forward ??= await forwardOf(gpu, { work, state, inputIds, precision });
      for (let i = 0; i < settled; i++) forward.replay(1);
      clock.mark(0);
      for (let i = 0; i < timed; i++) forward.replay(1);
      clock.mark(1);
      const ms = await clock.read() / timed;
      if (round > 0) forwardTimes.push(ms);
    }
    gpu.check();
    const components = training.components().length;
    const measured = sets.map(({ paths, ...set }, i) => ({
      ...set,
      frozen: paths.length,
      times: times[i],
      matmulFlops: training.costOf(paths).matmulFlops,
    }));
    const { matmulFlops } = forward!.plan.cost;
    const all = { kind: "all", share: 1, frozen: components, times: forwardTimes, matmulFlops } as const;
    return { work: `${name} B ${batch} T ${length}`, components, rows: rowsOf([...measured, all]) };
  } finally {
    forward?.destroy();
    free({ inputIds });
    closeWork({ training, state });
  }
}

/** Rows from what was measured, nothing frozen first. */
export function rowsOf(
  measured: readonly Omit<FreezingRow, "ms" | "saved" | "predicted">[],
): FreezingRow[] {
  const spreads = measured.map(({ times }) => spreadOf(times));
  const [{ matmulFlops: all }] = measured, [{ median: base }] = spreads;
  return measured.map((row, i) => ({
    ...row,
    ms: spreads[i],
    saved: base - spreads[i].median,
    predicted: base * (1 - row.matmulFlops / all),
  }));
}

/** The loss alone, over the parameters of a state. */
async function forwardOf(
  gpu: Gpu,
  { work: { loss }, state, inputIds, precision }: {
    readonly work: Work;
    readonly state: Work["state"];
    readonly inputIds: Tensor;
    readonly precision?: Precision;
  },
): Promise<Recording> {
  const target = { ...gpu.target, variants: gpu.tuning.variants };
  return await record(gpu, {
    plan: plan([loss(state.params, { inputIds, labels: inputIds })], { target, precision }),
    label: "forward",
  });
}

const NAMES = {
  nothing: () => "nothing",
  scattered: (share: string) => `${share} of the layers' matrices, scattered`,
  bottom: (share: string) => `lower ${share} of the layers, embedding and norms with them`,
  all: () => "everything: only forward, as in evaluation",
} as const;

/** A frozen set in words. */
export function nameOfSet({ kind, share }: Pick<FrozenSet, "kind" | "share">): string {
  return NAMES[kind](`${100 * share} %`);
}

/** The table in lines. */
export function freezingLines({ work, components, rows }: FreezingTable): string[] {
  const head = ["frozen", "of " + components, "ms", "GFLOP", "saved ms", "FLOPs promise", "share"];
  const cells = rows.map(({ kind, share, frozen, ms, matmulFlops, saved, predicted }) => [
    nameOfSet({ kind, share }),
    `${frozen}`,
    `${ms.median.toFixed(2)} (${ms.min.toFixed(2)}..${ms.max.toFixed(2)})`,
    (matmulFlops / 1e9).toFixed(1),
    kind === "nothing" ? "" : saved.toFixed(2),
    kind === "nothing" ? "" : predicted.toFixed(2),
    predicted > 0 ? `${(100 * saved / predicted).toFixed(0)} %` : "",
  ]);
  const lines = [head, ...cells];
  const widths = head.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return [
    `what frozen sets save, ${work}:`,
    ...lines.map((line) =>
      line.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ").trimEnd()
    ),
  ];
}
