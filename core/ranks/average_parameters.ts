/**
 * Parameters averaged over ranks that take steps alone.
 *
 * @module
 */

import { checkOptions, refuse } from "../arguments.ts";
import { InputError } from "../errors.ts";
import { rebuild } from "../graph.ts";
import { drawNumber, isDrawNumber } from "../ops/random.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import type { Gpu } from "../runtime/device.ts";
import { storageOf } from "../runtime/residents.ts";
import { turning } from "../runtime/turns.ts";
import { stepScalar } from "../sources.ts";
import { sizeOf, type Spec } from "../spec.ts";
import { RESIDUAL, SENT, START } from "../train/state/specs.ts";
import { exchangeBytes } from "../train/step/buckets.ts";
import { gradientExchange } from "../train/step/exchange.ts";
import type {
  Exchange,
  ExchangedSpec,
  ExchangeTime,
  OpenExchange,
  ParameterExchange,
  SteppedAlone,
  Summed,
  Wire,
} from "../train/parameter_exchange.ts";
import type { Leaves, Path } from "../tree.ts";
import { averageLook } from "./average_look.ts";
import { delayedAverage } from "./delayed_average.ts";
import { delayedSums } from "./delayed_sums.ts";
import { outerSpecs, type OuterState, outerStep } from "./outer_step.ts";
import type { Ranks } from "../train/ranks.ts";
import { wireCost, type WireMean, wireMean } from "./wire.ts";

/** Options of {@link averageParameters}. */
export interface AverageOptions {
  /** Steps that each rank takes alone between exchanges. */
  readonly every: number;
  /**
   * Makes a step of the outer gradient, which is the parameters after the last exchange minus the mean of what the ranks have made of
   * them: in DiLoCo `sgd({ learningRate: 0.7, momentum: 0.9, nesterov: true })`. Its steps are the exchanges. The mean is taken as it
   * is when absent, which is `sgd({ learningRate: 1 })`.
   */
  readonly outer?: Optimizer;
  /**
   * How values are sent; `"f32"` when absent. With `"bf16"` and `"int8"` ranks send how far parameters have come since the last exchange
   * in half and about a third of the bytes, and what their codes leave of it with the next one; that takes two copies of
   * the parameters more on the device.
   */
  readonly wire?: Wire;
  /**
   * Steps that ranks take while parameters are on their way, fewer than `every`; 0 when absent. They then wait for nobody: parameters
   * are copied after a step, and so many steps later each rank adds to its own what the mean of all copies is more than its own copy,
   * or with `outer` what the outer step makes of it. Ranks then never have the same parameters, but where they wait: before a policy
   * decides, before a validation, after each `meetEvery` steps, and at the end. It takes one copy of the parameters more on the
   * device and in each checkpoint, and memory of the host for all of them, there and back.
   *
   * With `wire` `"f32"` only. Codes go two ways, changes to the rank that makes their mean and the mean to all, and the device decodes
   * and codes between both: a rank would have to wait for the device in the midst of the steps that the delay is to fill, or all would
   * have to exchange at the step in which the average counts, which hides nothing.
   *
   * Source: Douillard et al., "Streaming DiLoCo with overlapping communication", arXiv 2501.18512, section 2.3, where a mean of both,
   * not the difference, is taken.
   */
  readonly delay?: number;
  /**
   * Steps after which ranks wait and have the same parameters, whatever `every` and `delay` are; never when absent. A program that
   * decides by what it measures of the parameters itself, as by an `evaluator`, must do so after such a step: ranks then decide alike.
   */
  readonly meetEvery?: number;
}

/** How values may be sent. */
const WIRES: readonly Wire[] = ["f32", "bf16", "int8"];

/**
 * Exchanges parameters instead of gradients: each rank takes steps of its own batches alone, and every so many steps the parameters
 * are averaged. So ranks need far less of the network than with gradients, and a run is another one than with the large batch: its
 * loss is higher or lower. With `every: 1` and `sgd` without momentum it is the same to rounding.
 *
 * Moments of the optimizer stay on each rank. A component that freezes was averaged right before, and takes part no more.
 *
 * Source: Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", arXiv 2311.08105.
 *
 * @param options How often, what is made of the mean, and how values are sent
 * @returns The option `exchange` of a training
 * @throws {InputError} When an option is none
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sgd } from "@firn/train";
 * import { averageParameters } from "@firn/train/ranks";
 *
 * const outer = sgd({ learningRate: 0.7, momentum: 0.9, nesterov: true });
 * const exchange = averageParameters({ every: 50, outer });
 * assertEquals([exchange.of, exchange.every, exchange.wire], ["parameters", 50, "f32"]);
 * ```
 */
export function averageParameters(options: AverageOptions): ParameterExchange {
  checkOptions(
    "averageParameters",
    options,
    "its argument must be a record of every, outer, wire, delay and meetEvery",
  );
  const { every, outer = null, wire = "f32", delay = 0, meetEvery = null } = options;
  if (!(Number.isSafeInteger(every) && every >= 1)) {
    refuse("averageParameters", '"every" must be a whole number of steps above 0', every);
  }
  if (!WIRES.includes(wire)) refuse("averageParameters", `"wire" must be one of ${WIRES.join(", ")}`, wire);
  if (outer !== null && typeof outer.next !== "function") {
    refuse("averageParameters", '"outer" must be an optimizer', outer);
  }
  if (!(Number.isSafeInteger(delay) && delay >= 0 && delay < every)) {
    refuse("averageParameters", '"delay" must be a whole number of steps from 0, fewer than "every"', delay);
  }
  if (meetEvery !== null && !(Number.isSafeInteger(meetEvery) && meetEvery >= 1)) {
    refuse("averageParameters", '"meetEvery" must be a whole number of steps above 0', meetEvery);
  }
  if (delay > 0 && wire !== "f32") {
    throw new InputError(
      `Cannot average parameters with a "delay" of ${delay} and the "wire" "${wire}" as the device must take the mean of codes before it goes back to all ranks: leave out "delay", or "wire", which is then "f32"`,
    );
  }
  return {
    of: "parameters",
    every,
    outer,
    wire,
    delay,
    meetEvery,
    open(gpu, { ranks, optimizer: { name, evaluated } }) {
      if (ranks === null) {
        throw new InputError(
          'Cannot exchange parameters as "ranks" must say with whom: give what openRanks() gives',
        );
      }
      if (ranks.survival !== undefined) {
        throw new InputError(
          'Cannot exchange parameters as ranks that go on where one dies exchange gradients, which they can sum anew: drop "survive", or exchange gradients',
        );
      }
      if (evaluated !== undefined) {
        throw new InputError(
          `Cannot exchange parameters as "${name}" averages the weights of one rank: exchange gradients, or take another optimizer`,
        );
      }
      return openExchange(gpu, { ranks, every, outer, wire, delay, meetEvery });
    },
  };
}

/** What {@link openExchange} needs. */
type Opening = Pick<ParameterExchange, "every" | "outer" | "wire" | "delay" | "meetEvery"> & {
  readonly ranks: Ranks;
};

/** A step without an exchange. */
const NO_TIME: ExchangeTime = { ms: 0, waitedMs: 0 };

function openExchange(gpu: Gpu, opening: Opening): OpenExchange {
  const { ranks, every, outer, wire, delay, meetEvery } = opening, { size } = ranks;
  const codes = wire === "f32" ? null : wire,
    sums = gradientExchange(gpu, ranks),
    step = outerStep(gpu, { outer, summed: codes === null ? size : 1 });
  const coded = codes && wireMean(gpu, { ranks, code: codes, advances: outer === null });
  const later = delayedSums(gpu, ranks), delayed = delayedAverage(gpu, { sums: later, step });
  const free = (): void => [sums, coded, later].forEach((one) => one?.destroy());
  let active: readonly Path[] = [];
  const averageNow = async (taken: SteppedAlone, state: OuterState): Promise<ExchangeTime> => {
    const agreed = agreedOn(sums, taken);
    const time = coded === null
      ? await sums.sum(summedOf(state.params), { after: agreed })
      : await averageCodes(gpu, { coded, agreed, state });
    await step.take(state);
    // Nothing else is computed meanwhile.
    return { ...time, waitedMs: time.ms };
  };
  return {
    name: nameOf(opening),
    specs: (active, trainable) => specsOf(opening, active, trainable),
    costOf(active) {
      const specs = [...active], items = specs.reduce((n, { shape }) => n + sizeOf(shape), 0);
      const buffers = specs.map(({ shape }) => ({ bytes: 4 * sizeOf(shape) }));
      const late = delay > 0 ? exchangeBytes(gpu, buffers, { whole: true }) : 0;
      const { sent, memory } = codes === null
        ? { sent: 4 * items, memory: exchangeBytes(gpu, buffers) + late }
        : wireCost(gpu, items, { code: codes, size });
      return { exchanged: Math.ceil(sent / every), memory };
    },
    drawnApart(roots) {
      const { rank, size } = ranks, own = stepScalar((step) => drawNumber((step - 1) * size + rank + 1));
      return rebuild(roots, (node) => isDrawNumber(node) ? own : node);
    },
    async after(taken) {
      const { step: at, leaves } = taken,
        isMet = taken.judged || taken.last || (meetEvery !== null && at % meetEvery === 0);
      const params = new Map(taken.active.map((path) => [path, taken.params.get(path)!]));
      let exchanges = taken.exchanges ?? { count: 0, step: 0, ranks: size }, exchange = NO_TIME;
      const next = (): OuterState => ({ count: exchanges.count + 1, params, leaves });
      if (exchanges.sent === undefined && !isSame(active, taken.active)) {
        // What a freeze leaves takes less; buffers are made when they are needed.
        free();
        active = taken.active;
      }
      const { sent } = exchanges, isDue = sent !== undefined && (at - sent >= delay || isMet);
      if (sent !== undefined && (isDue || at - sent >= Math.ceil(delay / 2))) {
        await delayed.begin({ params, leaves, sent }, () => agreedOn(sums, taken));
      }
      if (isDue) {
        exchange = await delayed.end(next());
        exchanges = { count: exchanges.count + 1, step: sent, ranks: size };
      }
      if (isMet || (at % every === 0 && delay === 0)) {
        exchange = bothOf(exchange, await averageNow(taken, next()));
        exchanges = { count: exchanges.count + 1, step: at, ranks: size };
      } else if (at % every === 0) {
        await delayed.send({ params, leaves, sent: at });
        exchanges = { ...exchanges, sent: at };
      }
      return { exchanges, exchange };
    },
    look: (own) => turning(gpu, averageLook(ranks, own)),
    destroy() {
      free();
      step.destroy();
    },
  };
}

/** All settings. */
function nameOf({ ranks, every, outer, wire, delay, meetEvery }: Opening): string {
  const late = delay > 0 ? `, ${delay} late` : "",
    meets = meetEvery === null ? "" : `, all equal every ${meetEvery}`;
  return `parameters every ${every} steps${late}${meets}, ${wire}, outer ${
    outer?.name ?? "mean"
  }, ${ranks.size} ranks`;
}

function specsOf(
  { outer, wire, delay }: Opening,
  active: ReadonlyMap<Path, Spec>,
  trainable: readonly Path[],
): Map<Path, ExchangedSpec> {
  const specs = new Map<Path, ExchangedSpec>(), isCoded = wire !== "f32";
  for (const [path, { shape, dtype }] of active) {
    if (outer !== null || isCoded) specs.set(START + path, { shape, dtype, copyOf: path });
    if (isCoded) specs.set(RESIDUAL + path, { shape, dtype });
    if (delay > 0) specs.set(SENT + path, { shape, dtype });
  }
  if (outer !== null) {
    for (const [path, spec] of outerSpecs(outer, active, trainable)) specs.set(path, spec);
  }
  return specs;
}

/** Whether all ranks exchange the same after the same step. Awaited later: meanwhile the first values are read. */
function agreedOn(
  sums: Exchange,
  { step, active }: Pick<SteppedAlone, "step" | "active">,
): Promise<number> {
  const agreed = sums.agree(0, { step, key: active.join(" ") });
  agreed.catch(() => {});
  return agreed;
}

function summedOf(params: Leaves): Summed[] {
  return [...params.values()].map((t) => ({ buffer: storageOf(t).buffer, bytes: 4 * sizeOf(t.shape) }));
}

async function averageCodes(gpu: Gpu, { coded, agreed, state: { params, leaves } }: {
  readonly coded: WireMean;
  readonly agreed: Promise<unknown>;
  readonly state: OuterState;
}): Promise<ExchangeTime> {
  const own = (path: Path): GPUBuffer => storageOf(leaves.get(path)!).buffer;
  // Steps of this rank are its own time.
  await turning(gpu, gpu.device.queue.onSubmittedWorkDone());
  const began = performance.now();
  await agreed;
  await coded.average(
    [...params].map(([path, t]) => ({
      items: sizeOf(t.shape),
      now: storageOf(t).buffer,
      start: own(START + path),
      residual: own(RESIDUAL + path),
    })),
  );
  const ms = performance.now() - began;
  return { ms, waitedMs: ms };
}

/** Whether lists have the same paths in the same order. */
function isSame(a: readonly Path[], b: readonly Path[]): boolean {
  return a.length === b.length && a.every((path, i) => path === b[i]);
}

/** Two exchanges after one step. */
function bothOf(a: ExchangeTime, b: ExchangeTime): ExchangeTime {
  return a === NO_TIME ? b : { ms: a.ms + b.ms, waitedMs: a.waitedMs + b.waitedMs };
}
