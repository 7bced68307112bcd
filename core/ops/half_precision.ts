/**
 * Half-precision storage: which bindings of a kernel hold f16.
 *
 * @module
 */

import type { F16Bindings } from "../../kernels/f16.ts";
import type { StoredSpec } from "../spec.ts";

/**
 * Names the bindings of a kernel that hold f16.
 *
 * @param inputs Inputs that it binds, in order
 * @param outputs Outputs that it binds, in order
 * @returns The names: `a0` for the first input, `o0` for the first output
 */
export function f16Bindings(inputs: readonly StoredSpec[], outputs: readonly StoredSpec[]): F16Bindings {
  const names = (prefix: string, specs: readonly StoredSpec[]): string[] =>
    specs.flatMap(({ dtype }, i) => dtype === "f16" ? [`${prefix}${i}`] : []);
  return [...names("a", inputs), ...names("o", outputs)];
}

/** Whether all tensors are stored as f16. */
export function areHalf(specs: readonly StoredSpec[]): boolean {
  return specs.every(({ dtype }) => dtype === "f16");
}
