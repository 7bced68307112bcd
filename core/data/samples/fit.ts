/**
 * Samples that are longer than a row of a batch.
 *
 * @module
 */

import type { Sample } from "./sample.ts";

/** What becomes of a long sample: its end or its beginning is cut off, it is left out, or split into several. */
export type Long = "cutEnd" | "cutStart" | "drop" | "split";

/**
 * Makes samples fit. A sample that is left without a token to learn is left out.
 *
 * @param samples The samples
 * @param options `length`: the most tokens of one; `long`: what becomes of longer ones
 * @returns Samples of `length` tokens at most, in order
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fitSamples } from "@firn/train/data";
 *
 * const sample = { ids: new Int32Array([1, 2, 3, 4, 5]), learned: new Uint8Array([0, 0, 1, 1, 1]) };
 * const ids = (long: "cutEnd" | "cutStart" | "drop" | "split") =>
 *   fitSamples([sample], { length: 3, long }).map((fitted) => [...fitted.ids]);
 * assertEquals(ids("cutEnd"), [[1, 2, 3]]);
 * assertEquals(ids("cutStart"), [[3, 4, 5]]);
 * assertEquals(ids("drop"), []);
 * assertEquals(ids("split"), [[1, 2, 3], [4, 5]]);
 * ```
 */
export function fitSamples(
  samples: readonly Sample[],
  { length, long }: { readonly length: number; readonly long: Long },
): readonly Sample[] {
  return samples.flatMap((sample) => {
    const time = sample.ids.length;
    const part = (begin: number, end: number): Sample => ({
      ids: sample.ids.subarray(begin, end),
      learned: sample.learned.subarray(begin, end),
    });
    if (time <= length) return learns(sample) ? [sample] : [];
    if (long === "drop") return [];
    const starts = long === "split"
      ? Array.from({ length: Math.ceil(time / length) }, (_, i) => i * length)
      : [long === "cutEnd" ? 0 : time - length];
    return starts.map((begin) => part(begin, Math.min(begin + length, time))).filter(learns);
  });
}

/** Whether a token is predicted: the first of a sample is not. */
function learns({ learned }: Sample): boolean {
  return learned.indexOf(1, 1) >= 0;
}
