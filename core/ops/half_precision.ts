/**
 * How ops tell their kernels what is stored as f16.
 *
 * @module
 */

import type { F16Bindings } from "../../kernels/f16.ts";
import type { StoredSpec } from "../tensor.ts";

/**
 * Names the bindings of a kernel that hold f16.
 *
 * @param inputs What it binds to read, in order
 * @param outputs What it binds to write, in order
 * @returns The names: `a0` for the first input, `o0` for the first output
 */
export function f16Bindings(inputs: readonly StoredSpec[], outputs: readonly StoredSpec[]): F16Bindings {
  const names = (prefix: string, specs: readonly StoredSpec[]): string[] =>
    specs.flatMap(({ dtype }, i) => dtype === "f16" ? [`${prefix}${i}`] : []);
  return [...names("a", inputs), ...names("o", outputs)];
}
