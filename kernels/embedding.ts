/**
 * Embedding lookup and its gradient, without atomics: the same bits on every run.
 *
 * Legend: N ids, V rows of the table, C elements of a row.
 *
 * @module
 */

import { access, type F16Bindings } from "./f16.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat, storage } from "./kernel.ts";
import { blockedAt, blockedFunctions, blockedLoad, blockedQuad, blockedReader, isBlocked } from "./blocks.ts";
import { halfAt, halfReader, packedQuad, type Stored } from "./packed.ts";
import {
  flatKernel,
  type Lanes,
  lanesOf,
  NAN_FUNCTION,
  rowEach,
  rowGrid,
  rowMain,
  type Threads,
} from "./rows.ts";

/** Options of {@link embedding}. */
export interface EmbeddingOptions {
  /** Ids N. */
  readonly rows: number;
  /** Rows of the table, V. */
  readonly vocab: number;
  /** Elements of a row, C. */
  readonly width: number;
  /** How the table is stored; `f32` when absent. */
  readonly stored?: Exclude<Stored, "f16">;
  /** `["o0"]` when that binding holds f16. */
  readonly f16?: F16Bindings;
}

/**
 * Gathers rows of a table by id; an id outside the table gives a row of NaN.
 *
 * Bindings: a0 `table[V,C]`, as it is stored; a1 `ids[N]` i32; o0 `out[N,C]`.
 *
 * @param options Sizes, and how the table is stored
 * @returns The kernel
 */
export function embedding({ rows, vocab, width, stored = "f32", f16 }: EmbeddingOptions): Kernel {
  const { type, loads, lanes } = lanesOf(width);
  const { put } = access(type, f16);
  const reader = tableReader({ type, loads, lanes, width, stored });
  return flatKernel({
    name: `embedding ${rows}x${width} of ${vocab}${stored === "f32" ? "" : ` ${stored}`}`,
    items: rows * loads,
    inputs: [reader.table, "i32"],
    outputs: [type],
    f16,
    functions: NAN_FUNCTION + reader.functions,
    body: `  let row = i / ${loads}u;
  let id = a1[row];
  var value = ${type}(nan());
${reader.index}
  if (id >= 0 && id < ${vocab}) { value = ${reader.load}; }
  ${put("o0", "i", "value")}
`,
  });
}

/** How a thread reads its load `i` of the output from the row `id` of a table. */
function tableReader(
  { type, loads, lanes, width, stored }: Pick<Lanes, "type" | "loads" | "lanes"> & {
    readonly width: number;
    readonly stored: Exclude<Stored, "f16">;
  },
): { readonly table: string; readonly functions: string; readonly index: string; readonly load: string } {
  if (isBlocked(stored)) {
    const place = { name: "a0", width, row: "u32(id)", column: "column" };
    const quad = blockedQuad(stored, blockedLoad(stored, place), "column");
    return {
      table: "u32",
      functions: blockedFunctions(stored) + (lanes === 4 ? "" : blockedReader(stored, place)),
      index: `  let column = (i - row * ${loads}u) * ${lanes}u;`,
      load: lanes === 4 ? quad : blockedAt("a0", "u32(id)", "column"),
    };
  }
  const index = `  let at = u32(id) * ${loads}u + (i - row * ${loads}u);`;
  if (stored === "f32") return { table: type, functions: "", index, load: "a0[at]" };
  return lanes === 4
    ? { table: "vec2u", functions: "", index, load: packedQuad("a0[at]", stored) }
    : { table: "u32", functions: halfReader("a0", stored), index, load: halfAt("a0", "at") };
}

/**
 * Sorts ids stably, by counting for each how many come before it.
 *
 * N^2 comparisons in one launch: suitable for a training batch, up to some tens of thousands of ids.
 *
 * Bindings: a0 `ids[N]` i32; o0 `order[N]` u32, the index in a0 of each sorted id; o1 `sorted[N]` i32.
 *
 * @param options `rows`: ids N
 * @returns The kernel
 */
export function embeddingOrder({ rows }: { readonly rows: number }): Kernel {
  const threads = 64;
  const lanes = rows % 4 === 0 ? 4 : 1;
  const loads = rows / lanes;
  const type = lanes === 4 ? "vec4i" : "i32";
  const flags = lanes === 4 ? "vec4u" : "u32";
  const places = lanes === 4 ? "vec4u(j * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(i)" : "j < i";
  const unroll = 4;
  const one = (k: number): string =>
    `    { let j = n + ${k}u; let other = a0[j]; before += ${flags}(select(other < own, other <= own, ${places})); }\n`;
  const looped = Math.floor(loads / unroll) * unroll;
  return {
    name: `embedding_order ${rows}`,
    grid: foldGrid(Math.ceil(rows / threads)),
    flops: 0,
    code: `${storage([type], ["u32", "i32"])}@compute @workgroup_size(${threads})
fn main(${GROUP_BUILTINS}) {
  let i = (${GROUP_INDEX}) * ${threads}u + lid;
  if (i >= ${rows}u) { return; }
  let id = ${lanes === 4 ? "a0[i / 4u][i % 4u]" : "a0[i]"};
  let own = ${type}(id);
  var before = ${flags}();
  for (var n = 0u; n < ${looped}u; n += ${unroll}u) {
${repeat(unroll, one)}  }
  { let n = ${looped}u;
${repeat(loads - looped, one)}  }
  let rank = ${lanes === 4 ? "before.x + before.y + before.z + before.w" : "before"};
  o0[rank] = i;
  o1[rank] = id;
}
`,
  };
}

/** Options of {@link embeddingGrad}. */
export interface EmbeddingGradOptions extends Omit<EmbeddingOptions, "stored" | "f16"> {
  /** Threads of a row of the table; `rowThreads` recommends. */
  readonly threads: Threads;
  /** Whether a table is added to the result, from a buffer of its own or in place; no table when absent. */
  readonly residual?: "separate" | "in place";
  /** `["a0"]` when that binding holds f16. */
  readonly f16?: F16Bindings;
}

/**
 * Gradient of {@link embedding} by the table: each row sums its occurrences in a fixed order; other rows are zero.
 *
 * Bindings: a0 `dOut[N,C]`, a1 `order[N]` u32, a2 `sorted[N]` i32, both of {@link embeddingOrder}; with a residual
 * `"separate"`, a3 `more[V,C]`, which is added; o0 `dTable[V,C]`. With a residual `"in place"` o0 holds it, and only rows that
 * occur are updated. Ids outside the table are ignored.
 *
 * @param options Sizes and tuning
 * @returns The kernel
 */
export function embeddingGrad(options: EmbeddingGradOptions): Kernel {
  const { rows, vocab, width, threads, residual, f16 } = options;
  const { type, loads } = lanesOf(width);
  const { load } = access(type, f16);
  const steps = Math.ceil(Math.log2(rows + 1));
  const read = (k: number): string => load("a0", `a1[p + ${k}u] * ${loads}u + column`);
  const add = (i: string): string =>
    `    { let column = ${i};
      var total = ${type}();
      var p = first;
      for (; p + 4u <= last; p += 4u) {
        let x0 = ${read(0)}; let x1 = ${read(1)}; let x2 = ${read(2)}; let x3 = ${read(3)};
        total = (((total + x0) + x1) + x2) + x3;
      }
      for (; p < last; p += 1u) { total += ${read(0)}; }
      let at = u32(id) * ${loads}u + column;
      o0[at] = ${residual === undefined ? "total" : `${residual === "separate" ? "a3" : "o0"}[at] + total`};
    }`;
  // Both ends of the segment by bisection: the first index whose id is at or above the bound.
  const bisect = (name: string, bound: string): string =>
    `  var ${name} = 0u;
  { var size = ${rows}u;
${
      repeat(
        steps,
        () =>
          `    { let step = size / 2u; let middle = ${name} + step; let up = size > 0u && a2[min(middle, ${
            rows - 1
          }u)] < ${bound};
      ${name} = select(${name}, middle + 1u, up); size = select(step, size - min(size, step + 1u), up); }\n`,
      )
    }  }
`;
  const work = { rows: residual === "in place" ? rows : vocab, threads };
  const segment = residual === "in place"
    ? `  let first = row;
  let id = a2[row];
  if (id < 0 || id >= ${vocab} || (row > 0u && a2[max(row, 1u) - 1u] == id)) { return; }
`
    : `  let id = i32(row);\n${bisect("first", "id")}`;
  const inputs = [type, "u32", "i32", ...(residual === "separate" ? [type] : [])];
  return {
    name: `embedding_grad ${rows}x${width} to ${vocab}`,
    grid: rowGrid(work),
    flops: rows * width,
    code: `${storage(inputs, [type], f16)}
${rowMain(work)}${segment}${bisect("last", "id + 1")}
${rowEach({ items: loads, threads }, (at) => at.map(add).join("\n"))}}
`,
  };
}
