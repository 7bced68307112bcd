/**
 * Whether two plans have the same prefix, so that a cache of one serves the other.
 *
 * @module
 */

import { type HostData, isHost } from "../../sources.ts";
import { sameShape } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { copiedLeaf, isKeptCopy } from "../kept_copy.ts";
import { dataOf, isLeaf, isPlainData, isSameOp, pathOf, plainText } from "../predicates.ts";
import { offsetOf } from "../rows.ts";
import type { Plan, Prefix, Source } from "../types.ts";

/**
 * Whether the prefixes of two plans compute the same values: with the same kernels, from leaves of the same names.
 *
 * @param a A plan with a prefix
 * @param b Another one
 * @returns True when both keep the same bits for the same sample
 */
export function samePrefix(a: Plan, b: Plan): boolean {
  if (a === b) return true;
  const p = a.prefix as Prefix, q = b.prefix as Prefix;
  if (p.launches !== q.launches || p.samples !== q.samples || p.kept.length !== q.kept.length) return false;
  if (p.given.size !== q.given.size) return false;
  const twin = new Map<number, number>(), back = new Map<number, number>();
  const alike = (x: number, y: number): boolean => {
    if (twin.has(x) || back.has(y)) return twin.get(x) === y && back.get(y) === x;
    twin.set(x, y);
    back.set(y, x);
    return sameValue(p.given.get(x), q.given.get(y)) && a.buffers[x].bytes === b.buffers[y].bytes &&
      sameSource(a.buffers[x].source, b.buffers[y].source);
  };
  for (let i = 0; i < p.launches; i++) {
    const { kernel, bindings } = a.launches[p.head + i], other = b.launches[q.head + i];
    if (kernel.code !== other.kernel.code || `${kernel.grid}` !== `${other.kernel.grid}`) return false;
    if (bindings.length !== other.bindings.length) return false;
    if (!bindings.every((x, at) => alike(x, other.bindings[at]))) return false;
  }
  return p.kept.every(({ buffer, bytes }, i) => alike(buffer, q.kept[i].buffer) && bytes === q.kept[i].bytes);
}

/** Whether two values that depend on parameters and constants alone are computed in the same way. */
function sameValue(a: Tensor | undefined, b: Tensor | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (isKeptCopy(a) && isKeptCopy(b)) return sameLeaf(copiedLeaf(a), copiedLeaf(b));
  if (isKeptCopy(a) || isKeptCopy(b)) return false;
  if (isLeaf(a) && isLeaf(b)) return sameLeaf(a, b);
  if (isHost(a) && isHost(b)) return sameShape(a.shape, b.shape) && sameBytes(dataOf(a), dataOf(b));
  return isSameOp(a, b) && sameShape(a.shape, b.shape) &&
    isPlainData(a.attrs) && plainText(a.attrs) === plainText(b.attrs) &&
    a.inputs.length === b.inputs.length && a.inputs.every((input, i) => sameValue(input, b.inputs[i]));
}

function sameSource(a: Source, b: Source): boolean {
  if (a.kind === "leaf" && b.kind === "leaf") return sameLeaf(a.node, b.node);
  if (a.kind === "host" && b.kind === "host") return sameBytes(a.data, b.data);
  return a.kind === b.kind;
}

/** Whether two leaves, or rows of leaves, hold the same values. */
function sameLeaf(a: Tensor, b: Tensor): boolean {
  return pathOf(a) === pathOf(b) && offsetOf(a) === offsetOf(b);
}

function sameBytes(a: HostData, b: HostData): boolean {
  const [x, y] = [a, b].map((data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return x.length === y.length && x.every((byte, i) => byte === y[i]);
}
