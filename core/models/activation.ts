/**
 * Activations by the names of `transformers`.
 *
 * @module
 */

import { gelu, relu, silu } from "../ops/activations.ts";
import type { Tensor } from "../tensor.ts";
import type { ConfigReader } from "./config_reader.ts";

const exactGelu = (x: Tensor): Tensor => gelu(x, { approximate: false });

/** The name of an activation in `config.json`. */
export type ActivationName =
  | "silu"
  | "swish"
  | "relu"
  | "gelu"
  | "gelu_python"
  | "gelu_fast"
  | "gelu_new"
  | "gelu_pytorch_tanh";

const ACTIVATIONS: { readonly [name in ActivationName]: (x: Tensor) => Tensor } = {
  silu,
  swish: silu,
  relu,
  gelu: exactGelu,
  gelu_python: exactGelu,
  gelu_fast: gelu,
  gelu_new: gelu,
  gelu_pytorch_tanh: gelu,
};

/**
 * The function of a name.
 *
 * @param name The name
 * @returns From f32 to f32 of the same shape
 */
export function activationOf(name: ActivationName): (x: Tensor) => Tensor {
  return ACTIVATIONS[name];
}

/** Where a configuration names its activation. */
export interface ActivationOptions {
  /** The key. */
  readonly key: string;
  /** The name where the key is absent. */
  readonly name: ActivationName;
  /** Names that the family takes for others. */
  readonly aliases?: Readonly<Record<string, ActivationName>>;
}

/**
 * Reads the name of an activation.
 *
 * @param read The configuration
 * @param options The key, and what differs between families
 * @returns The name
 * @throws {InputError} When no activation has this name
 */
export function readActivation(read: ConfigReader, options: ActivationOptions): ActivationName {
  const { key, aliases = {} } = options, seen = read.string(key, options.name);
  const name = Object.hasOwn(aliases, seen) ? aliases[seen] : seen;
  if (Object.hasOwn(ACTIVATIONS, name)) return name as ActivationName;
  throw read.error(key, `it must be one of ${Object.keys(ACTIVATIONS).join(", ")}`, name);
}
