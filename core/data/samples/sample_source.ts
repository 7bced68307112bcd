/**
 * Samples of rows, block by block.
 *
 * @module
 */

import { FirnError } from "../../errors.ts";
import type { ExampleKind, ExampleOf } from "../rows/example.ts";
import type { Placed, Rows } from "../rows/open_rows.ts";
import { RowError } from "../rows/row.ts";
import type { Sample } from "./sample.ts";

/** Samples in blocks, each of which can be made by itself. */
export interface SampleSource {
  /** Rows and bytes of each block. */
  readonly blocks: readonly { readonly count: number; readonly bytes: number }[];
  /** Fingerprint of the rows. */
  readonly fingerprint: string;
  /** Makes the samples of a block, by its index. */
  read(block: number): Promise<readonly Sample[]>;
}

/** Makes a sample of an example: at once, or elsewhere. A reason in words takes the place of a sample that cannot be made. */
export type EncodeRows<K extends ExampleKind = ExampleKind> = (
  rows: readonly Placed<K>[],
) => Promise<readonly (Sample | string)[]>;

/**
 * Makes what encodes rows here, one by one.
 *
 * @param encode From an example to its sample
 * @returns From rows to their samples
 */
export function encodeHere<K extends ExampleKind>(encode: (example: ExampleOf<K>) => Sample): EncodeRows<K> {
  // Asynchronous as workers are.
  // deno-lint-ignore require-await
  return async (rows) =>
    rows.map(({ example }) => {
      try {
        return encode(example);
      } catch (error) {
        if (error instanceof FirnError) return ruleOf(error);
        throw error;
      }
    });
}

/**
 * What an error says behind "Cannot do it as": what cannot be done is told elsewhere.
 *
 * @param error The error
 * @returns The rule, and what was seen
 */
export function ruleOf({ message }: FirnError): string {
  return message.replace(/^Cannot .+? as /, "");
}

/**
 * The samples of rows.
 *
 * @param rows The rows
 * @param options `encode`: makes their samples; `skipBadRows`: how many rows may be left out, those that {@link Rows} leaves out
 * included; 0 when absent
 * @returns The samples, and how many of the rows read so far have none; reading fails with a {@link RowError} that names a row of which none can be made
 */
export function sampleSource<K extends ExampleKind>(
  rows: Rows<K>,
  { encode, skipBadRows = 0 }: { readonly encode: EncodeRows<K>; readonly skipBadRows?: number },
): SampleSource & { unusable(): number } {
  const bad = new Map<number, number>();
  const unusable = (): number => [...bad.values()].reduce((a, b) => a + b, 0);
  return {
    blocks: rows.blocks,
    fingerprint: rows.fingerprint,
    unusable,
    async read(block) {
      const placed = await rows.read(block), samples = await encode(placed);
      const faults = samples.flatMap((sample, i) => typeof sample === "string" ? [{ sample, i }] : []);
      bad.set(block, faults.length);
      if (faults.length > 0 && rows.skipped + unusable() > skipBadRows) {
        const { example: _, ...place } = placed[faults[0].i];
        throw new RowError(place, faults[0].sample);
      }
      return samples.filter((sample) => typeof sample !== "string");
    },
  };
}
