/**
 * Bin packing.
 *
 * @module
 */

/**
 * Packs items into bins by best fit decreasing: the longest first, each into the fullest bin that still holds it. At most
 * 11/9 of the fewest bins possible are needed, and one more.
 *
 * @param lengths The length of each item, whole numbers from 1 to `capacity`
 * @param capacity The length of a bin
 * @returns Bins of indices of items; the order of items of equal length stays
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { bestFit } from "@firn/train/data";
 *
 * assertEquals(bestFit([3, 6, 2, 5, 4], 10), [[1, 4], [3, 0, 2]]);
 * ```
 */
export function bestFit(lengths: readonly number[], capacity: number): readonly (readonly number[])[] {
  const order = lengths.map((_, i) => i).sort((a, b) => lengths[b] - lengths[a] || a - b);
  const bins: number[][] = [];
  // Bins by how much they still hold, and which of these lists have one.
  const open: number[][] = Array.from({ length: capacity + 1 }, () => []);
  const words = new Uint32Array(Math.floor(capacity / 32) + 1);
  const put = (bin: number, left: number): void => {
    open[left].push(bin);
    words[left >> 5] |= 1 << (left & 31);
  };
  for (const item of order) {
    const length = lengths[item], left = nextSet(words, length);
    let bin: number;
    if (left < 0) bin = bins.push([]) - 1;
    else {
      bin = open[left].pop()!;
      if (open[left].length === 0) words[left >> 5] &= ~(1 << (left & 31));
    }
    bins[bin].push(item);
    put(bin, (left < 0 ? capacity : left) - length);
  }
  return bins;
}

/** The first bit from an index on that is set; -1 when there is none. */
function nextSet(words: Uint32Array, from: number): number {
  let word = words[from >> 5] & (~0 << (from & 31));
  for (let i = from >> 5; i < words.length; word = words[++i]) {
    if (word !== 0) return (i << 5) + 31 - Math.clz32(word & -word);
  }
  return -1;
}
