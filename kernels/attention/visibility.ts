/**
 * Small kernels beside attention: which keys each query sees, and the numbers of a row in one buffer.
 *
 * @module
 */

import type { Kernel } from "../kernel.ts";
import { flatKernel } from "../rows.ts";

/** What can limit the keys that a query sees. */
export type Limit = "lengths" | "starts" | "segments" | "positions" | "offset";

/** Options of {@link attentionRanges}. */
export interface AttentionRangesOptions {
  /** Sequences B. */
  readonly batch: number;
  /** Queries T of each sequence. */
  readonly time: number;
  /** Keys S of each sequence. */
  readonly keys: number;
  /** Whether a query sees only keys at its position and before. */
  readonly causal: boolean;
  /** Positions that a query sees, its own included; all before it if null. Makes the attention causal. */
  readonly window: number | null;
  /** Place of query 0 among the keys, unless it is an input. */
  readonly offset: number;
  /** The inputs in order: integers of type i32 or u32, one for each sequence, or for each key in segments and positions. */
  readonly inputs: readonly {
    readonly limit: Limit;
    readonly type: "i32" | "u32";
    /** Whether one number serves all sequences. */
    readonly shared?: boolean;
  }[];
}

/**
 * The range of keys that each query sees. Query i sits at key `i + offset`; it sees the keys of its run up to its own
 * position (causal), within the window, from the start of the sequence to its length. A run goes on while segments are equal
 * and positions do not fall. Neither the first key nor the end falls from one query to the next.
 *
 * Bindings: the inputs, `lengths[B]`, `starts[B]`, `offset[B]` or `[1]`, `segments[B,S]`, `positions[B,S]`;
 * o0 `ranges[B,T,2]` i32.
 *
 * @param options Sizes, masks and inputs
 * @returns The kernel
 */
export function attentionRanges(options: AttentionRangesOptions): Kernel {
  const { batch, time, keys, inputs, offset } = options;
  const has = (limit: Limit): boolean => inputs.some((one) => one.limit === limit);
  const of = (limit: Limit, otherwise: string): string => {
    const at = inputs.findIndex((one) => one.limit === limit);
    return at < 0 ? otherwise : `i32(a${at}[${inputs[at].shared ? "0" : "batch"}])`;
  };
  return flatKernel({
    name: `attention_ranges ${batch}x${time}x${keys}`,
    items: batch * time,
    inputs: inputs.map(({ type }) => type),
    outputs: ["vec2i"],
    body: `  let batch = i / ${time}u;
  let place = i32(i % ${time}u) + ${of("offset", `${offset}`)};
${has("segments") || has("positions") ? run(options) : line(options)}  o0[i] = vec2i(max(low, ${
      of("starts", "0")
    }), min(to, ${of("lengths", `${keys}`)}));
`,
  });
}

/** Declares the range where all keys are one run and their positions are their places. */
function line({ keys, causal, window }: AttentionRangesOptions): string {
  return `  let low = ${window === null ? "0" : `max(0, place - ${window - 1})`};
  let to = ${causal || window !== null ? `min(${keys}, place + 1)` : `${keys}`};
`;
}

/** Declares the range within the run of the query, found key by key. */
function run({ keys, causal, window, inputs }: AttentionRangesOptions): string {
  const of = (limit: Limit, key: string): string | null => {
    const at = inputs.findIndex((one) => one.limit === limit);
    return at < 0 ? null : `i32(a${at}[base + u32(${key})])`;
  };
  const both = (limit: Limit, by: string): string[] =>
    of(limit, "") === null ? [] : [`${of(limit, "KEY - 1")} ${by} ${of(limit, "KEY")}`];
  const joined = (key: string): string[] =>
    [...both("segments", "=="), ...both("positions", "<=")].map((test) => test.replaceAll("KEY", key));
  const position = (key: string): string => of("positions", key) ?? key;
  const before = [
    "low > 0",
    ...joined("low"),
    ...(window === null ? [] : [`${position("here")} - ${window} < ${position("low - 1")}`]),
  ];
  // Keys after that of the query are seen where all are, or where they have its position.
  const after = causal || window !== null
    ? of("positions", "") === null ? ["false"] : [`${position("to")} == ${position("here")}`]
    : [];
  return `  let base = batch * ${keys}u;
  let here = clamp(place, 0, ${keys - 1});
  var low = here;
  while (${before.join(" && ")}) { low -= 1; }
  var to = here + 1;
  while (${[`to < ${keys}`, ...after, ...joined("to")].join(" && ")}) { to += 1; }
`;
}

/**
 * Joins what gradients of attention read of each row, so that a device that binds eight buffers can bind them all.
 *
 * Bindings: a0 `lse[B,T,H]`, a1 `delta[B,T,H]`, with `ranges` a2 `ranges[B,T,2]` i32; o0 `rows[B,T,H,4]`.
 *
 * @param options Number of rows, heads, and whether there are ranges
 * @returns The kernel
 */
export function attentionRows(
  { rows, heads, ranges }: { readonly rows: number; readonly heads: number; readonly ranges: boolean },
): Kernel {
  return flatKernel({
    name: `attention_rows ${rows}`,
    items: rows,
    inputs: ["f32", "f32", ...(ranges ? ["vec2i"] : [])],
    outputs: ["vec4f"],
    body: `  o0[i] = vec4f(a0[i], a1[i], ${ranges ? `vec2f(a2[i / ${heads}u])` : "vec2f()"});\n`,
  });
}
