/**
 * Random attentions: every option beside every other, at odd sizes, in every kind of tile.
 *
 * @module
 */

import type { AttentionShape, AttentionTiling } from "../../kernels/attention/frame.ts";
import type { AttentionRangesOptions, Limit } from "../../kernels/attention/visibility.ts";
import { stages, tiles } from "./attention_cases.ts";
import type { Sees } from "./attention_reference.ts";
import { type Data, values } from "./run_kernel.ts";

/** The limits on what queries see, as the kernel of ranges takes them, and by their definition. */
export interface Limits {
  readonly options: AttentionRangesOptions;
  readonly inputs: readonly Data[];
  readonly sees: Sees;
}

/** An attention with some of the options. */
export interface RandomCase {
  readonly title: string;
  readonly shape: AttentionShape;
  readonly tiling: AttentionTiling;
  readonly limits: Limits | null;
  readonly bias: Float32Array<ArrayBuffer> | undefined;
}

// Direct kernels compile in a tenth of the time.
const KINDS = ["direct", "tiled", "direct", "staged"] as const;
const TILED = [tiles(64, 32, 8), ...Array(3).fill(tiles(32, 16, 4)), ...Array(3).fill(tiles(16, 16, 4))];
const STAGED = [stages(64, 64, 16), stages(128, 32, 8), ...Array(5).fill(stages(128, 32, 4))];
const LIMITS: readonly Limit[] = ["lengths", "starts", "segments", "positions", "offset"];

/** Draws numbers and choices from a seed. */
interface Draw {
  readonly below: (end: number) => number;
  readonly of: <T>(list: readonly T[]) => T;
  readonly chance: (part: number) => boolean;
}

function drawing(seed: number): Draw {
  const numbers = values(4000, seed + 17);
  let at = 0;
  const next = (): number => (numbers[at++] + 1) / 2;
  const below = (end: number): number => Math.min(end - 1, Math.floor(next() * end));
  return { below, of: (list) => list[below(list.length)], chance: (part) => next() < part };
}

/**
 * Makes a case.
 *
 * @param seed Its number: the kind of tile goes round
 * @returns The case
 */
export function randomCase(seed: number): RandomCase {
  const draw = drawing(seed), { below, of, chance } = draw, kind = KINDS[seed % 4];
  const tiling: AttentionTiling = kind === "direct"
    ? of([{ tile: 0, rows: 8 }, { tile: 0, rows: 16, each: 2 }])
    : { ...of(kind === "tiled" ? TILED : STAGED), parts: of([1, 1, 2, 3]) };
  const dim = kind === "direct" ? of([1, 2, 4, 5, 7, 8, 12, 20]) : 4 * (tiling.split ?? 8);
  const time = 1 + below(kind === "direct" ? 40 : 150), keys = time + of([0, 0, 1 + below(30)]);
  const batch = 1 + below(2), kvHeads = 1 + below(2), heads = kvHeads * (1 + below(3));
  const window = chance(0.3) ? 1 + below(time) : null, causal = window !== null || chance(0.6);
  const softCap = chance(0.4) ? of([0.7, 3, 50]) : undefined;
  const bias = chance(0.4) ? [of([1, batch]), of([1, heads]), of([1, time]), keys] : undefined;
  const limits = chance(0.7) ? limitsOf(draw, { batch, time, keys, causal, window }) : null;
  const shape = {
    ...{ batch, time, keys, heads, kvHeads, dim, causal, window, softCap, bias },
    ranges: limits !== null,
    scale: 1.5 / Math.sqrt(dim),
  };
  const names = limits?.options.inputs.map(({ limit }) => limit) ?? [];
  return {
    title: [
      `${seed}`,
      kind,
      `${batch}x${time}x${keys}, ${heads} of ${kvHeads} heads of ${dim}`,
      ...(causal ? ["causal"] : []),
      ...(window === null ? [] : [`window ${window}`]),
      ...(softCap === undefined ? [] : [`cap ${softCap}`]),
      ...names,
      ...(bias === undefined ? [] : [`bias [${bias}]`]),
    ].join(", "),
    shape,
    tiling,
    limits,
    bias: bias && values(bias.reduce((a, b) => a * b), seed + 5),
  };
}

type Sizes = Pick<AttentionRangesOptions, "batch" | "time" | "keys" | "causal" | "window">;

/** Draws some limits for every sequence. */
function limitsOf({ below, chance }: Draw, sizes: Sizes): Limits {
  const { batch, time, keys } = sizes;
  const chosen = LIMITS.filter(() => chance(0.4));
  const each = (make: () => number): number[] => Array.from({ length: batch }, make);
  const steps = (change: () => number): number[] =>
    each(() => 0).flatMap(() => {
      let value = 5;
      return Array.from({ length: keys }, () => value += change());
    });
  const drawn: Record<Limit, () => number[]> = {
    lengths: () => each(() => below(keys + 1)),
    starts: () => each(() => below(keys + 1)),
    segments: () => steps(() => chance(0.1) ? below(3) - 1 : 0),
    // Positions rise, stay, skip some, and fall now and then.
    positions: () => steps(() => chance(0.05) ? -below(9) : chance(0.2) ? 2 * below(2) : 1),
    offset: () => each(() => below(keys - time + 1)),
  };
  const numbers = new Map(chosen.map((limit) => [limit, drawn[limit]()]));
  const types = chosen.map(() => chance(0.5));
  return {
    options: {
      ...sizes,
      offset: keys - time,
      inputs: chosen.map((limit, i) => ({ limit, type: types[i] && limit !== "positions" ? "u32" : "i32" })),
    },
    inputs: chosen.map((limit) => Int32Array.from(numbers.get(limit)!)),
    sees: seenBy(sizes, numbers),
  };
}

/** What limits let queries see, by their definition. */
function seenBy(
  { keys, time, causal, window }: Sizes,
  limits: ReadonlyMap<Limit, readonly number[]>,
): Sees {
  const of = (limit: Limit, at: number, otherwise: number): number => limits.get(limit)?.[at] ?? otherwise;
  /** The document of a key, counted from the start of its sequence. */
  const document = (b: number, j: number): number => {
    let count = 0;
    for (let at = b * keys + 1; at <= b * keys + j; at++) {
      const changes = of("segments", at, 0) !== of("segments", at - 1, 0);
      if (changes || of("positions", at, at) < of("positions", at - 1, at - 1)) count++;
    }
    return count;
  };
  return (b, i, j) => {
    const place = i + of("offset", b, keys - time);
    const own = of("positions", b * keys + place, place), other = of("positions", b * keys + j, j);
    return j >= of("starts", b, 0) && j < of("lengths", b, keys) &&
      document(b, place) === document(b, j) &&
      (!causal || other <= own) && (window === null || other > own - window);
  };
}
