/**
 * Kernels as data: WGSL text and a grid.
 *
 * @module
 */

import { type F16Bindings, f16Header, halfType } from "./f16.ts";

/** A compute shader as data. Bindings of group 0 are the inputs in order, then the outputs in order. */
export interface Kernel {
  /** A short name for the profiler: `"rms_norm 512x128"`. */
  readonly name: string;
  /** WGSL with the entry point `main`. */
  readonly code: string;
  /** Workgroups in x, y and z. */
  readonly grid: readonly [number, number, number];
  /** Floating-point operations of one launch (a multiply-add counts two). */
  readonly flops: number;
}

/** Most workgroups that WebGPU allows in one dimension. */
export const MAX_GROUPS = 65535;

/**
 * Folds a number of workgroups into a legal grid. The kernel computes its index with {@link GROUP_INDEX} and must return
 * when that is not below the number.
 *
 * @param groups Workgroups wanted, at least 1
 * @returns A grid of at least that many
 */
export function foldGrid(groups: number): readonly [number, number, number] {
  if (groups <= MAX_GROUPS) return [Math.max(1, groups), 1, 1];
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y, 1];
}

/** The flat index of a workgroup in a folded grid; needs `wid: workgroup_id` and `nwg: num_workgroups`. */
export const GROUP_INDEX = "wid.y * nwg.x + wid.x";

/** The parameters of `main` that {@link GROUP_INDEX} needs, and `lid`, the index of the thread in its workgroup. */
export const GROUP_BUILTINS =
  "@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32";

/**
 * Declares the storage buffers of a kernel.
 *
 * @param inputs Element types of the read-only inputs, named `a0`, `a1`, ...
 * @param outputs Element types of the outputs, named `o0`, `o1`, ...; read-write
 * @param f16 Names of the bindings that hold f16 instead of f32; none when absent
 * @returns WGSL declarations, at the top of the shader
 */
export function storage(
  inputs: readonly string[],
  outputs: readonly string[],
  f16: F16Bindings = [],
): string {
  const typeOf = (name: string, type: string): string => f16.includes(name) ? halfType(type) : type;
  const reads = inputs.map((t, i) => typeOf(`a${i}`, t)), writes = outputs.map((t, i) => typeOf(`o${i}`, t));
  const read = reads.map((t, i) => `@group(0) @binding(${i}) var<storage, read> a${i}: array<${t}>;`);
  const write = writes.map((t, i) =>
    `@group(0) @binding(${inputs.length + i}) var<storage, read_write> o${i}: array<${t}>;`
  );
  return f16Header([...reads, ...writes]) + [...read, ...write].join("\n") + "\n";
}

/**
 * Repeats text with its index, as an unrolled loop: WGSL loops carry checks that cannot be turned off.
 *
 * @param count How many times
 * @param body Text for index `i`
 * @returns The joined text
 */
export function repeat(count: number, body: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => body(i)).join("");
}

/**
 * Writes a number as a WGSL f32 expression; every f32 is exact.
 *
 * @param value The number
 * @returns A literal such as `0.5f`; for infinities and NaN a bit cast, which Deno's compiler takes and Tint refuses: where a
 * kernel may have such a number, it reads the bits from a variable
 */
export function f32(value: number): string {
  const rounded = Math.fround(value);
  if (!Number.isFinite(rounded)) {
    const bits = new Uint32Array(new Float32Array([rounded]).buffer)[0];
    return `bitcast<f32>(${bits}u)`;
  }
  const text = String(rounded);
  return `${/[.e]/.test(text) ? text : text + ".0"}f`;
}
