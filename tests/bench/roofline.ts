/**
 * How near kernels come to what the device can do, and what they are for.
 *
 * Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
 *
 * @module
 */

import type { KernelTime } from "@firn/train";

/** What the device does at most in a second. */
export interface Peaks {
  /** Floating-point operations. */
  readonly flops: number;
  /** The same on matrix units; 0 where there are none, or none is used. */
  readonly matrixFlops: number;
  /** Bytes read and written. */
  readonly bytes: number;
}

/** Whether a kernel multiplies on matrix units, by its name. */
export function onMatrixUnits(name: string): boolean {
  return /\bmatrix\b/.test(name);
}

/** Launches taken together. */
export interface Group {
  readonly name: string;
  readonly count: number;
  readonly milliseconds: number;
  readonly flops: number;
  readonly bytes: number;
  /** Milliseconds under the roofline: no faster with this arithmetic and these bytes. */
  readonly attainable: number;
}

/**
 * The least time that a launch can take: arithmetic or memory, whichever is slower.
 *
 * Bytes are those of all buffers that it binds, so a kernel that reads only some rows of one may be faster.
 *
 * @returns Milliseconds
 */
export function attainable(
  { name, flops, bytes }: Pick<KernelTime, "name" | "flops" | "bytes">,
  peaks: Peaks,
): number {
  const rate = onMatrixUnits(name) ? peaks.matrixFlops : peaks.flops;
  return 1e3 * Math.max(flops / rate, bytes / peaks.bytes);
}

/** Adds up launches that share a key, longest first. */
export function groupBy(
  rows: readonly KernelTime[],
  { peaks, key }: { readonly peaks: Peaks; readonly key: (row: KernelTime) => string },
): Group[] {
  const groups = new Map<string, Group>();
  for (const row of rows) {
    const name = key(row);
    const g = groups.get(name) ?? { name, count: 0, milliseconds: 0, flops: 0, bytes: 0, attainable: 0 };
    groups.set(name, {
      name,
      count: g.count + 1,
      milliseconds: g.milliseconds + row.milliseconds,
      flops: g.flops + row.flops,
      bytes: g.bytes + row.bytes,
      attainable: g.attainable + attainable(row, peaks),
    });
  }
  return [...groups.values()].toSorted((a, b) => b.milliseconds - a.milliseconds);
}

/** Families by the names that kernels have; the first that fits counts. */
const FAMILIES: readonly (readonly [family: string, names: RegExp])[] = [
  ["matmul", /^(matmul|join|magnitudes)\b/],
  ["attention", /^(attention|place_heads)/],
  ["cross entropy", /^(cross_entropy|shift_labels|compact_order|gather_rows|scatter_rows)/],
  ["norm", /^(rms|layer)_?norm/i],
  ["embedding", /^embedding/],
  ["rotary", /^rotary/],
  // Only the optimizer takes roots outside norms: of the second moment, and of the gradients' square sum.
  ["optimizer", /^(adam|sgd)|^[a-z+.]*sqrt/i],
  ["weight copies", /^f16\b/],
  ["reduction", /^(sum|max|collect)\b/],
  ["movement", /^(copy|pad|concat|permute|slice|write_rows|gather|scatter_add)\b/],
  ["choice of a token", /^(top_k|categorical|mass_threshold|ban_ngrams)/],
  ["random", /^(uniform|normal|dropout)\b/],
  ["elementwise", /^[a-z]+(\+|\b)/i],
];

/** What a kernel is for, by its name. */
export function familyOf(name: string): string {
  return FAMILIES.find(([, names]) => names.test(name))?.[0] ?? "other";
}
