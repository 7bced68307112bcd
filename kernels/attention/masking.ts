/**
 * Masks: the causal mask, the sliding window, the ends of the sequence, and ranges of keys by query.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import { LOWEST } from "../rows.ts";
import type { Frame } from "./frame.ts";
import { blocksOf, columnAt } from "./thread_block.ts";

/** Declares `at{i}` (vec4i), the positions of quad i of own rows; `start` is WGSL for the first. */
export function declareOwnPositions(frame: Frame, start: string): string {
  const { y, high } = blocksOf(frame);
  return repeat(
    y.quads,
    (i) => `  let at${i} = vec4i(${start} + 4 * i32(ownQuad) + ${4 * i * high}) + vec4i(0, 1, 2, 3);\n`,
  );
}

/** Declares the positions of own queries, and `seen`, the first key that not all of them see; with ranges see {@link declareQueryRanges}. */
export function declareQueryPositions(frame: Frame): string {
  if (frame.shape.ranges) return declareQueryRanges(frame);
  return `${declareOwnPositions(frame, "i32(first) + offset")}  let seen = ${
    frame.causal ? "min(hi, i32(first) + offset + 1)" : "hi"
  };
`;
}

/**
 * Declares the positions of own queries, the keys `from{i}` to `to{i}` (vec4i) that each sees, the keys `since` to `seen`
 * that all of them see, and those `near` to `far` that some row of the subgroup sees.
 */
function declareQueryRanges(frame: Frame): string {
  const { rows, count, inputs: { range } } = frame;
  const { y, high, skips } = blocksOf(frame);
  const row = (at: string): string => `min(${at}, ${count - 1}u)`;
  const lanes = [..."xyzw"];
  const own = repeat(
    y.quads,
    (i) =>
      lanes.map((lane, r) => `  let e${4 * i + r} = ${range(row(`u32(at${i}.${lane} - offset)`))};\n`).join(
        "",
      ) +
      `  let from${i} = vec4i(${lanes.map((_, r) => `e${4 * i + r}.x`).join(", ")});
  let to${i} = vec4i(${lanes.map((_, r) => `e${4 * i + r}.y`).join(", ")});\n`,
  );
  const some = `first + ty / ${high}u * ${4 * high * y.quads}u`;
  return declareOwnPositions(frame, "i32(first) + offset") + own +
    `  let since = ${range(row(`first + ${rows - 1}u`))}.x;
  let seen = min(hi, ${range("first")}.y);
` + (skips
      ? `  let near = ${range(row(some))}.x;
  let far = ${range(row(`${some} + ${4 * high * y.quads - 1}u`))}.y;\n`
      : "");
}

/** Declares `live`, whether any row of the subgroup sees the tile, where some may not; `seen` returns the WGSL test. */
function declareLive(frame: Frame, seen: (first: string, rows: number) => string): string {
  const { y, high, skips } = blocksOf(frame);
  const rows = 4 * high * y.quads;
  return skips ? `    let live = ${seen(`i32(first + ty / ${high}u * ${rows}u)`, rows)};\n` : "";
}

/** Declares `live` for a tile of keys: the last query of the subgroup is at or after its first key. */
export function declareLiveKeys(frame: Frame): string {
  return declareLive(
    frame,
    (first, rows) =>
      frame.shape.ranges ? `base < far && base + ${frame.tile} > near` : `base < ${first} + ${rows} + offset`,
  );
}

/** Declares `live` for a tile of queries: its last query is at or after the first key of the subgroup. */
export function declareLiveQueries(frame: Frame): string {
  const { tile, shape, inputs: { range } } = frame;
  if (!shape.ranges) return declareLive(frame, (first) => `base + ${tile - 1} + offset >= ${first}`);
  const last = `u32(min(base + ${tile - 1}, last))`;
  return declareLive(
    frame,
    (first, rows) => `${range(last)}.y > ${first} && ${range("u32(base)")}.x < ${first} + ${rows}`,
  );
}

/**
 * Masks the block `name` in tiles with hidden pairs: hidden elements become {@link LOWEST}.
 *
 * @param frame The frame
 * @param options `partly`: WGSL, true for tiles with hidden pairs; `visible`: WGSL for which rows of quad i see column `j` (i32)
 * @returns WGSL
 */
function maskBlock(frame: Frame, { name, partly, visible, column = "" }: {
  readonly name: string;
  readonly partly: string;
  readonly visible: (i: number) => string;
  /** WGSL that `visible` needs, once for each column. */
  readonly column?: string;
}): string {
  const { x, y } = blocksOf(frame);
  const hide = (j: number, i: number): string =>
    `        ${name}${j}_${i} = select(vec4f(${LOWEST}), ${name}${j}_${i}, ${visible(i)});\n`;
  const columns = repeat(
    4 * x.quads,
    (j) => `      { let j = ${columnAt(frame, j)};${column}\n${repeat(y.quads, (i) => hide(j, i))}      }\n`,
  );
  return `    if (${partly}) {\n${columns}    }\n`;
}

/** Masks the scores of keys that own queries do not see. */
export function maskKeys(frame: Frame): string {
  const { causal, window, rows, tile, shape } = frame;
  if (shape.ranges) {
    const partly = `base + ${tile} > seen || base < since`;
    const visible = (i: number): string => `(vec4i(j) >= from${i}) & (vec4i(j) < min(to${i}, vec4i(hi)))`;
    return maskBlock(frame, { name: "s", partly, visible });
  }
  const partly = [
    `base + ${tile} > seen`,
    ...(window === null ? [] : [`base < i32(first) + offset + ${rows - window}`]),
  ];
  const visible = (i: number): string =>
    [
      causal ? `(vec4i(j) <= min(at${i}, vec4i(hi - 1)))` : "(vec4i(j) < vec4i(hi))",
      ...(window === null ? [] : [`(vec4i(j) > at${i} - ${window})`]),
    ].join(" & ");
  return maskBlock(frame, { name: "s", partly: partly.join(" || "), visible });
}

/** Masks the scores of queries that do not see own keys. */
export function maskQueries(frame: Frame): string {
  const { causal, window, rows, tile, shape, inputs: { range } } = frame;
  if (shape.ranges) {
    const partly = [
      `base + ${tile} > hi`,
      `${range("u32(base)")}.y < i32(first) + ${rows}`,
      `${range(`u32(min(base + ${tile - 1}, last))`)}.x > i32(first)`,
    ];
    const visible = (i: number): string =>
      `vec4<bool>(j < hi) & (at${i} >= vec4i(e.x)) & (at${i} < vec4i(e.y))`;
    const column = ` let e = ${range("u32(min(j, last))")};`;
    return maskBlock(frame, { name: "s", partly: partly.join(" || "), visible, column });
  }
  const partly = [
    `base + ${tile} > hi`,
    ...(causal ? [`i32(first) + ${rows - 1} > base + offset`] : []),
    ...(window === null ? [] : [`i32(first) <= base + offset + ${tile - 1 - window}`]),
  ];
  const visible = (i: number): string =>
    [
      "(vec4i(j) < vec4i(hi))",
      ...(causal ? [`(vec4i(j + offset) >= at${i})`] : []),
      ...(window === null ? [] : [`(vec4i(j + offset) < at${i} + ${window})`]),
    ].join(" & ");
  return maskBlock(frame, { name: "s", partly: partly.join(" || "), visible });
}
