/**
 * Scores beyond the scaled product: a soft cap, and a bias that is added after it.
 *
 * Source of the cap: Gemma Team, arXiv 2408.00118, section 2.
 *
 * @module
 */

import { f32, repeat } from "../kernel.ts";
import { tanhText } from "../tanh.ts";
import type { Frame } from "./frame.ts";
import { blocksOf, columnAt, eachColumn } from "./thread_block.ts";

/** WGSL for the factor of own rows: products are scores to base 2, or with a cap what its tanh is taken of. */
export function scoreFactor({ shape: { scale, softCap } }: Frame): string {
  return f32(softCap === undefined ? scale * Math.LOG2E : scale / softCap);
}

/**
 * Turns products into scores to base 2.
 *
 * @param frame The frame
 * @param options `name`: the variable; `type`: its type; `slope`: what to call the derivative of the cap, if it is wanted; `value`: WGSL for the bias
 * @returns WGSL, empty without cap and bias
 */
export function finishScore(
  { shape: { softCap, bias } }: Frame,
  { name, type, slope, value }: {
    readonly name: string;
    readonly type: "f32" | "vec4f";
    readonly slope: string | null;
    readonly value: string;
  },
): string {
  const capped = softCap === undefined ? "" : `    ${name} = ${tanhText(name, type)};\n` +
    (slope === null ? "" : `    let ${slope} = fma(-${name}, ${name}, ${type}(1.0f));\n`) +
    `    ${name} *= ${f32(softCap * Math.LOG2E)};\n`;
  return capped +
    (bias === undefined ? "" : `    ${name} = fma(${value}, ${type}(${f32(Math.LOG2E)}), ${name});\n`);
}

/** WGSL that multiplies by the derivative `slope` of the cap; empty without. */
export function timesSlope({ shape: { softCap } }: Frame, slope: string): string {
  return softCap === undefined ? "" : ` * ${slope}`;
}

/** WGSL for the place in the bias of head, query and key (all u32); a scalar or, with one vector, a vector. */
export function biasIndex({ shape }: Pick<Frame, "shape">, query: string, key: string): string {
  return [biasHead({ shape }), biasRow({ shape }, query), key].filter((term) => term !== "").join(" + ");
}

/** WGSL for the place of the current batch and head; empty if all share one. */
function biasHead({ shape: { bias = [] } }: Pick<Frame, "shape">): string {
  const [batches, heads, queries, keys] = bias, plane = queries * keys;
  return [...(batches > 1 ? [`batch * ${heads * plane}u`] : []), ...(heads > 1 ? [`head * ${plane}u`] : [])]
    .join(" + ");
}

/** WGSL for the place of a query within its head; empty if all share one. */
function biasRow({ shape: { bias = [] } }: Pick<Frame, "shape">, query: string): string {
  const [, , queries, keys] = bias;
  return queries > 1 ? `${query} * ${keys}u` : "";
}

/** Declares `b{i}` (vec4u), the part of the places in the bias that depends on quad i of own rows. */
export function declareBias(frame: Frame): string {
  const { pass, shape, count } = frame;
  if (shape.bias === undefined) return "";
  const { y, high } = blocksOf(frame);
  const own = (i: number): string =>
    `min(vec4u(first + 4u * ownQuad + ${4 * i * high}u) + vec4u(0, 1, 2, 3), vec4u(${count - 1}u))`;
  const terms = (i: number): string =>
    [biasHead(frame), pass === "gradKV" ? own(i) : biasRow(frame, own(i))].filter((t) => t !== "").join(
      " + ",
    );
  return repeat(y.quads, (i) => `  let b${i} = vec4u(${terms(i) || "0u"});\n`);
}

/** Turns the products `s{j}_{i}` into scores to base 2; with `slopes` declares the derivatives `c{j}_{i}` of the cap. */
export function finishScores(frame: Frame, { slopes }: { readonly slopes: boolean }): string {
  const { pass, shape, inputs } = frame, { x } = blocksOf(frame);
  const column = (j: number): string => {
    const at = `u32(min(${columnAt(frame, j)}, last))`;
    return pass === "gradKV" ? biasRow(frame, at) || "0u" : at;
  };
  const declared = shape.bias === undefined
    ? ""
    : repeat(4 * x.quads, (j) => `    let n${j} = ${column(j)};\n`);
  const value = (j: number, i: number): string =>
    `vec4f(${[..."xyzw"].map((lane) => `${inputs.bias}[b${i}.${lane} + n${j}]`).join(", ")})`;
  return declared + eachColumn(frame, (j, i) =>
    finishScore(frame, {
      name: `s${j}_${i}`,
      type: "vec4f",
      slope: slopes ? `c${j}_${i}` : null,
      value: value(j, i),
    }));
}
