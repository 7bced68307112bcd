/**
 * Contenders that run on devices of their own: Dawn beside native Deno, and Dawn's checks beside none.
 *
 * @module
 */

import type { Gpu, Precision } from "@firn/train";
import type { Choice } from "../../examples/gpu.ts";
import { firnModel } from "./contenders.ts";
import { openBenchDevice } from "./machine.ts";
import type { Contender } from "./measure.ts";
import { firnProduct, type Product } from "./product.ts";
import type { Shape } from "./shapes.ts";

/** What a contender trains or multiplies. */
export type Task =
  | {
    readonly shape: Shape;
    readonly batch: number;
    readonly length: number;
    readonly precision: Precision;
  }
  | { readonly product: Product; readonly precision: Precision; readonly recorded?: number };

/** A device by what its contender is called. */
export type Place = readonly [name: string, choice: Choice];

/** The implementations of WebGPU. */
export const PROVIDERS: readonly Place[] = [["Deno", { gpu: "deno" }], ["Dawn", { gpu: "dawn" }]];

/** Dawn with its checks, and without them. */
export const CHECKS: readonly Place[] = [
  ["Dawn", { gpu: "dawn" }],
  ["Dawn, unsafe", { gpu: "dawn", "unsafe-gpu": true }],
];

const made = (gpu: Gpu, task: Task): Promise<Contender> =>
  "product" in task ? firnProduct(gpu, task.product, task) : firnModel(gpu, task);

/**
 * Makes a contender for each place, on a device that is closed with it.
 *
 * @param task What each of them does
 * @param places The devices
 * @returns The contenders, in the order of the places
 * @throws What opening a device throws; those that are open are closed
 */
export async function inPlaces(task: Task, places: readonly Place[]): Promise<Contender[]> {
  const contenders: Contender[] = [];
  try {
    for (const [name, choice] of places) {
      const gpu = await openBenchDevice({ ...choice, precision: task.precision });
      const contender = await made(gpu, task);
      contenders.push({
        ...contender,
        name,
        async close() {
          await contender.close();
          await gpu[Symbol.asyncDispose]();
        },
      });
    }
    return contenders;
  } catch (error) {
    for (const contender of contenders) await contender.close();
    throw error;
  }
}
