/**
 * A bound on what the parts of a tokenizer make of a text.
 *
 * @module
 */

import { InputError } from "../../errors.ts";

/** U+FDFA becomes 18 characters in NFKC, and each of them up to 3 bytes. */
const MOST = 64;

/**
 * Checks that a sequence of parts does not blow a text up, as parts that double it would.
 *
 * @param length Characters so far
 * @param from Characters before the first part
 * @throws {InputError} When there are more than 64 times as many, and 4,096
 */
export function checkGrowth(length: number, from: number): void {
  if (length <= MOST * Math.max(from, MOST)) return;
  throw new InputError(
    `Cannot use the tokenizer as its parts may make of ${from} characters ${MOST} times as many: ` +
      `got ${length}; get its file again`,
  );
}
