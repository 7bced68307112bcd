/**
 * A list of token ids that grows.
 *
 * @module
 */

/** Ids of the first block and of the largest ones. A block of 32 MiB returns to the system as soon as it is freed. */
const FIRST = 2 ** 14, LARGEST = 2 ** 23;

/** A list of token ids that grows. It takes 4 bytes an id, also while it becomes one array. */
export interface TokenList {
  /** Adds ids. */
  push(ids: readonly number[]): void;
  /** Makes the list one array and empties it. */
  take(): Int32Array<ArrayBuffer>;
}

/**
 * Makes an empty list.
 *
 * @returns The list
 */
export function tokenList(): TokenList {
  let blocks: Int32Array<ArrayBuffer>[] = [], last = new Int32Array(FIRST), used = 0, length = 0;
  return {
    push(ids) {
      for (const id of ids) {
        if (used === last.length) {
          blocks.push(last);
          last = new Int32Array(Math.min(2 * last.length, LARGEST));
          used = 0;
        }
        last[used++] = id;
      }
      length += ids.length;
    },
    take() {
      const list = new Int32Array(length);
      let at = 0;
      for (const block of [...blocks, last.subarray(0, used)]) {
        list.set(block, at);
        at += block.length;
        // Frees the block at once, not when garbage is next collected.
        block.buffer.transfer(0);
      }
      [blocks, last, used, length] = [[], new Int32Array(FIRST), 0, 0];
      return list;
    },
  };
}
