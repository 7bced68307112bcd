/**
 * Parameters averaged over ranks that take steps alone.
 *
 * @module
 */

import { checkOptions, refuse } from "../arguments.ts";
import { InputError } from "../errors.ts";
import { rebuild } from "../graph.ts";
import { isDrawNumber } from "../ops/random.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import type { Gpu } from "../runtime/device.ts";
import { storageOf } from "../runtime/residents.ts";
import { turning } from "../runtime/turns.ts";
import { stepScalar } from "../sources.ts";
import { sizeOf, type Spec } from "../spec.ts";
import { RESIDUAL, START } from "../train/state/specs.ts";
import { exchangeBytes } from "../train/step/buckets.ts";
import { gradientExchange } from "../train/step/exchange.ts";
import type { ExchangedSpec, OpenExchange, ParameterExchange, Wire } from "../train/parameter_exchange.ts";
import type { Path } from "../tree.ts";
import { averageLook } from "./average_look.ts";
import { outerSpecs, outerStep } from "./outer_step.ts";
import type { Ranks } from "../train/ranks.ts";
import { wireCost, wireMean } from "./wire.ts";

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
  checkOptions("averageParameters", options, "its argument must be a record of every, outer and wire");
  const { every, outer = null, wire = "f32" } = options;
  if (!(Number.isSafeInteger(every) && every >= 1)) {
    refuse("averageParameters", '"every" must be a whole number of steps above 0', every);
  }
  if (!WIRES.includes(wire)) refuse("averageParameters", `"wire" must be one of ${WIRES.join(", ")}`, wire);
  if (outer !== null && typeof outer.next !== "function") {
    refuse("averageParameters", '"outer" must be an optimizer', outer);
  }
  return {
    of: "parameters",
    every,
    outer,
    wire,
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
      return openExchange(gpu, { ranks, every, outer, wire });
    },
  };
}

/** What {@link openExchange} needs. */
type Opening = Pick<ParameterExchange, "every" | "outer" | "wire"> & { readonly ranks: Ranks };

function openExchange(gpu: Gpu, { ranks, every, outer, wire }: Opening): OpenExchange {
  const { size } = ranks, codes = wire === "f32" ? null : wire;
  const sums = gradientExchange(gpu, ranks),
    step = outerStep(gpu, { outer, summed: codes === null ? size : 1 });
  const coded = codes && wireMean(gpu, { ranks, code: codes, advances: outer === null });
  const keepsStart = outer !== null || coded !== null;
  return {
    name: `parameters every ${every} steps, ${wire}, outer ${outer?.name ?? "mean"}, ${size} ranks`,
    specs(active, trainable) {
      const specs = new Map<Path, ExchangedSpec>();
      for (const [path, { shape, dtype }] of active) {
        if (keepsStart) specs.set(START + path, { shape, dtype, copyOf: path });
        if (coded !== null) specs.set(RESIDUAL + path, { shape, dtype });
      }
      if (outer !== null) {
        for (const [path, spec] of outerSpecs(outer, active, trainable)) specs.set(path, spec);
      }
      return specs;
    },
    costOf(active) {
      const specs = [...active], items = elementsOf(specs);
      const { sent, memory } = codes === null
        ? {
          sent: 4 * items,
          memory: exchangeBytes(gpu, specs.map(({ shape }) => ({ bytes: 4 * sizeOf(shape) }))),
        }
        : wireCost(items, { code: codes, size });
      return { exchanged: Math.ceil(sent / every), memory };
    },
    drawnApart(roots) {
      const { rank, size } = ranks, own = stepScalar((step) => (step - 1) * size + rank + 1);
      return rebuild(roots, (node) => isDrawNumber(node) ? own : node);
    },
    async after({ step: taken, params: all, leaves, active, exchanges, judged, last }) {
      const before = exchanges ?? { count: 0, step: 0, ranks: size };
      if (taken % every !== 0 && !judged && !last) {
        return { exchanges: before, exchange: { ms: 0, waitedMs: 0 } };
      }
      // Steps of this rank are its own time.
      await turning(gpu, gpu.device.queue.onSubmittedWorkDone());
      const began = performance.now();
      const params = new Map(active.map((path) => [path, all.get(path)!]));
      await sums.agree(0, { step: taken, key: active.join(" ") });
      const exchanged = [...params].map(([path, t]) => ({
        path,
        items: sizeOf(t.shape),
        now: storageOf(t).buffer,
      }));
      if (coded === null) {
        await sums.sum(exchanged.map(({ now, items }) => ({ buffer: now, bytes: 4 * items })));
      } else {
        const own = (path: Path): GPUBuffer => storageOf(leaves.get(path)!).buffer;
        await coded.average(
          exchanged.map((one) => ({
            ...one,
            start: own(START + one.path),
            residual: own(RESIDUAL + one.path),
          })),
        );
      }
      const count = before.count + 1;
      await step.take({ count, params, leaves });
      // Nothing else is computed meanwhile.
      const ms = performance.now() - began;
      return { exchanges: { ...before, count, step: taken }, exchange: { ms, waitedMs: ms } };
    },
    look: (own) => averageLook(ranks, own),
    destroy() {
      sums.destroy();
      coded?.destroy();
      step.destroy();
    },
  };
}

function elementsOf(specs: Iterable<Spec>): number {
  return [...specs].reduce((n, { shape }) => n + sizeOf(shape), 0);
}
