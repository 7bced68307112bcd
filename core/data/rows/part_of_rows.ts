/**
 * Some of the rows.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { fingerprint, wordsOf } from "../../fingerprint.ts";
import type { ExampleKind } from "./example.ts";
import type { Rows } from "./open_rows.ts";

/**
 * Holds out rows: one of every `every`, the last of them. Rows of a file often stand in an order, such as by class, so that no
 * stretch of it stands for all.
 *
 * @param rows The rows
 * @param every Of how many rows one is held out, at least 2; lowered to the number of rows
 * @returns Two parts that share no row
 * @throws {InputError} When there are fewer than two rows
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryFileSystem, openRows, splitRows } from "@firn/train/data";
 *
 * const content = ["a", "b", "c", "d", "e"].map((text) => JSON.stringify({ text })).join("\n");
 * const rows = await openRows("a.jsonl", { fileSystem: memoryFileSystem({ "a.jsonl": content }) });
 * const { train, heldOut } = splitRows(rows, 2);
 * assertEquals([train.count, heldOut.count], [3, 2]);
 * assertEquals((await heldOut.read(0)).map(({ line }) => line), [2, 4]);
 * ```
 */
export function splitRows<K extends ExampleKind>(
  rows: Rows<K>,
  every = 10,
): { readonly train: Rows<K>; readonly heldOut: Rows<K> } {
  if (!(Number.isSafeInteger(every) && every >= 2)) {
    throw new InputError(`Cannot split rows as "every" must be a whole number from 2: got ${every}`);
  }
  if (rows.count < 2) {
    throw new InputError(
      `Cannot split the rows as both parts must have one: there is ${rows.count}; give more rows`,
    );
  }
  const of = Math.min(every, rows.count), held = (row: number): boolean => row % of === of - 1;
  return { train: partOf(rows, `but ${of}`, (row) => !held(row)), heldOut: partOf(rows, `of ${of}`, held) };
}

/** The rows whose number, from 0, is kept. */
function partOf<K extends ExampleKind>(
  rows: Rows<K>,
  name: string,
  keeps: (row: number) => boolean,
): Rows<K> {
  let first = 0, count = 0;
  const blocks = rows.blocks.flatMap(({ count: all, bytes }, index) => {
    const begin = first;
    first += all;
    const kept = Array.from({ length: all }, (_, i) => begin + i).filter(keeps).length;
    count += kept;
    return kept === 0 ? [] : [{ index, begin, count: kept, bytes: bytes * kept / all }];
  });
  return {
    kind: rows.kind,
    count,
    skipped: rows.skipped,
    fingerprint: fingerprint([wordsOf(`${rows.fingerprint} ${name}`)]),
    blocks,
    async read(block) {
      const { index, begin } = blocks[block];
      return (await rows.read(index)).filter((_, i) => keeps(begin + i));
    },
  };
}
