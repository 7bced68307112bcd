/**
 * Several sources of samples as one.
 *
 * @module
 */

import { threefry2x32 } from "../../../kernels/random.ts";
import { InputError } from "../../errors.ts";
import { fingerprint, wordsOf } from "../../fingerprint.ts";
import { keyOf, permutation } from "./permutation.ts";
import type { Sample } from "./sample.ts";
import type { SampleSource } from "./sample_source.ts";

/** A source and how much of a mixture it is. */
export interface WeightedSource {
  /** The samples. */
  readonly source: SampleSource;
  /** Its share of the rows, in proportion to those of the others; above 0. */
  readonly weight: number;
}

/** Bytes of a block that each source has at least, about, and those of all together that a block has at most. */
const BLOCK = 2 ** 18, MOST_BLOCK = 2 ** 24;

/**
 * Mixes sources: each gives its share of the rows of every block. An epoch is as long as it takes for every row of every source
 * to come up; those of a source with a larger share than its rows have come up several times, shuffled anew each time.
 *
 * @param parts Sources and their weights, at least one
 * @param options `seed`: that of the order, a whole number from 0; 0 when absent
 * @returns The mixture
 * @throws {InputError} When there is no source, or a weight is not above 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mixSources, type SampleSource } from "@firn/train/data";
 *
 * const sourceOf = (id: number, count: number): SampleSource => ({
 *   blocks: [{ count, bytes: 100 * count }],
 *   fingerprint: String(id),
 *   read: () => Promise.resolve(Array.from({ length: count }, () => ({
 *     ids: new Int32Array([id]),
 *     learned: new Uint8Array([1]),
 *   }))),
 * });
 * const mixed = mixSources([{ source: sourceOf(1, 6), weight: 0.75 }, { source: sourceOf(2, 1), weight: 0.25 }]);
 * assertEquals((await mixed.read(0)).map(({ ids }) => ids[0]), [1, 1, 1, 1, 1, 1, 2, 2]);
 * ```
 */
export function mixSources(
  parts: readonly WeightedSource[],
  { seed = 0 }: { readonly seed?: number } = {},
): SampleSource {
  const bad = parts.find(({ weight }) => !(weight > 0 && weight < Infinity));
  if (parts.length === 0 || bad !== undefined) {
    const seen = bad === undefined ? "there is no source" : `one is ${bad.weight}`;
    throw new InputError(`Cannot mix sources as each must have a weight above 0: ${seen}`);
  }
  const total = parts.reduce((n, { weight }) => n + weight, 0),
    shares = parts.map(({ weight }) => weight / total);
  const sum = ({ blocks }: SampleSource, of: "count" | "bytes"): number =>
    blocks.reduce((n, one) => n + one[of], 0);
  const epoch = Math.max(...parts.map(({ source }, i) => sum(source, "count") / shares[i]));
  const rows = shares.map((share) => Math.round(share * epoch));
  const sizes = parts.map(({ source }, i) => rows[i] * sum(source, "bytes") / sum(source, "count"));
  const streams = parts.map(({ source }, i) => stream(source, { seed, number: i }));
  // A block has about one block of the source with the smallest share, as whole ones are read; less where that share is so
  // small that the others would not fit into memory.
  const bytes = sizes.reduce((a, b) => a + b, 0);
  const count = Math.max(1, Math.floor(Math.min(...sizes) / BLOCK), Math.ceil(bytes / MOST_BLOCK));
  const edge = (part: number, block: number): number => Math.floor(block * rows[part] / count);
  return {
    blocks: Array.from({ length: count }, (_, block) => {
      const own = rows.map((_, i) => edge(i, block + 1) - edge(i, block));
      return {
        count: own.reduce((a, b) => a + b, 0),
        bytes: own.reduce((n, some, i) => n + (rows[i] === 0 ? 0 : sizes[i] * some / rows[i]), 0),
      };
    }),
    fingerprint: fingerprint([
      wordsOf(JSON.stringify([parts.map(({ source, weight }) => [source.fingerprint, weight]), seed])),
    ]),
    async read(block) {
      const samples: Sample[] = [];
      for (const [i, take] of streams.entries()) {
        samples.push(...await take(edge(i, block), edge(i, block + 1)));
      }
      return samples;
    },
  };
}

/**
 * Puts sources behind each other.
 *
 * @param sources The sources
 * @returns One source with the blocks of all
 */
export function joinSources(sources: readonly SampleSource[]): SampleSource {
  if (sources.length === 1) return sources[0];
  const places = sources.flatMap((source) => source.blocks.map((_, block) => ({ source, block })));
  return {
    blocks: sources.flatMap(({ blocks }) => blocks),
    fingerprint: fingerprint(sources.map((source) => wordsOf(source.fingerprint))),
    read: (index) => places[index].source.read(places[index].block),
  };
}

/** The rows of a source without end: its blocks in another order each time. */
function stream(
  source: SampleSource,
  { seed, number }: { readonly seed: number; readonly number: number },
): (begin: number, end: number) => Promise<readonly Sample[]> {
  const { blocks } = source, count = blocks.reduce((n, block) => n + block.count, 0);
  const key = threefry2x32(keyOf(seed), [2 ** 30, number]);
  const orders = new Map<number, { readonly block: number; readonly begin: number }[]>();
  function orderOf(pass: number): { readonly block: number; readonly begin: number }[] {
    if (!orders.has(pass)) {
      let begin = 0;
      const order = Array.from(permutation(blocks.length, { key, epoch: pass }), (block) => {
        begin += blocks[block].count;
        return { block, begin: begin - blocks[block].count };
      });
      if (orders.size > 8) orders.clear();
      orders.set(pass, order);
    }
    return orders.get(pass)!;
  }
  // A source of one block comes up again and again.
  let kept: { readonly block: number; readonly samples: Promise<readonly Sample[]> } | null = null;
  function read(block: number): Promise<readonly Sample[]> {
    if (kept?.block !== block) kept = { block, samples: source.read(block) };
    return kept.samples;
  }
  return async (begin, end) => {
    const samples: Sample[] = [];
    for (let row = begin; row < end;) {
      const pass = Math.floor(row / count), at = row - pass * count, order = orderOf(pass);
      const { block, begin: first } = order.findLast((one) => one.begin <= at)!;
      const until = Math.min(end - row, first + blocks[block].count - at);
      // Rows that cannot be used are missing at the end of a block.
      samples.push(...(await read(block)).slice(at - first, at - first + until));
      row += until;
    }
    return samples;
  };
}
