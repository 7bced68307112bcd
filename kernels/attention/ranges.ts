/**
 * The ranges of rows that a workgroup owns and sees.
 *
 * @module
 */

import type { Frame } from "./frame.ts";

/** WGSL for the range `lo` to `hi` of streamed rows, divided into whole tiles among the parts. */
function range({ parts, tile, shape, pass }: Frame, from: string, hi: string): string {
  // Dropout draws for four keys at a time, of which the first is a multiple of four.
  const lo = shape.dropout === undefined || pass === "gradKV" ? from : `(${from}) / 4 * 4`;
  if (parts === 1) return `  let lo = ${lo};\n  let hi = ${hi};\n`;
  return `  let begin = ${lo};
  let end = ${hi};
  let reach = (max(end - begin, 0) + ${tile * parts - 1}) / ${tile * parts} * ${tile};
  let lo = begin + i32(part) * reach;
  let hi = min(end, lo + reach);
`;
}

/**
 * Declares the first query of the block, the position `offset` of query 0, and the keys `lo` to `hi` the block sees.
 *
 * @param frame The frame, of queries
 * @returns WGSL
 */
export function queryRange(frame: Frame): string {
  const { rows, keys, causal, window, count, shape, inputs: { range: seen } } = frame;
  const start = `  let first = block * ${rows}u;\n  let offset = ${keys - shape.time};\n`;
  if (shape.ranges) {
    const last = `min(first + ${rows}u, ${count}u) - 1u`;
    return start + range(frame, `max(0, ${seen("first")}.x)`, `min(${keys}, ${seen(last)}.y)`);
  }
  return `${start}${
    range(
      frame,
      window === null ? "0" : `max(0, i32(first) + offset - ${window - 1})`,
      causal ? `min(${keys}, offset + i32(min(first + ${rows}u, ${count}u)))` : `${keys}`,
    )
  }`;
}

/**
 * Declares the first key of the block, the position `offset` of query 0, and the queries `lo` to `hi` that see a key of
 * the block.
 *
 * @param frame The frame, of keys
 * @returns WGSL
 */
export function keyRange(frame: Frame): string {
  const { rows, keys, causal, window, shape } = frame;
  if (shape.ranges) return rangeOfKeys(frame);
  const offset = keys - shape.time;
  const end = `i32(min(first + ${rows}u, ${keys}u))`;
  return `  let first = block * ${rows}u;
  let offset = ${offset};
${
    range(
      frame,
      causal ? `max(0, i32(first) - ${offset})` : "0",
      window === null ? `${shape.time}` : `min(${shape.time}, ${end} + ${window - 1 - offset})`,
    )
  }`;
}

/** {@link keyRange} by bisection: neither the first key nor the end of what queries see falls. */
function rangeOfKeys(frame: Frame): string {
  const { rows, keys, shape: { time }, inputs: { range: seen } } = frame;
  const search = (name: string, before: string): string =>
    `  var ${name} = 0u;
  for (var left = ${time}u; left > 0u;) {
    let middle = ${name} + left / 2u;
    if (${before}) {
      ${name} = middle + 1u;
      left -= left / 2u + 1u;
    } else {
      left /= 2u;
    }
  }
`;
  return `  let first = block * ${rows}u;
  let offset = ${keys - time};
${search("low", `${seen("middle")}.y <= i32(first)`)}${
    search("until", `${seen("middle")}.x < i32(min(first + ${rows}u, ${keys}u))`)
  }${range(frame, "i32(low)", "i32(until)")}`;
}
