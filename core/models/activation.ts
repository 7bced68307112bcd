/**
 * Activations by the names of `transformers`.
 *
 * @module
 */

import { gelu, leakyRelu, relu, silu } from "../ops/activations.ts";
import { softplus } from "../ops/softplus.ts";
import { add, multiply } from "../ops/arithmetic.ts";
import { clamp } from "../ops/comparison.ts";
import { sigmoid, tanh } from "../ops/functions.ts";
import type { Tensor } from "../tensor.ts";
import type { ConfigReader } from "./config_reader.ts";

const exactGelu = (x: Tensor): Tensor => gelu(x, { approximate: false });

const tanhGelu = (x: Tensor): Tensor => gelu(x);

/** The name of an activation in `config.json`. */
export type ActivationName =
  | "silu"
  | "swish"
  | "relu"
  | "relu2"
  | "relu6"
  | "leaky_relu"
  | "gelu"
  | "gelu_python"
  | "gelu_10"
  | "gelu_fast"
  | "gelu_new"
  | "gelu_accurate"
  | "gelu_pytorch_tanh"
  | "gelu_python_tanh"
  | "quick_gelu"
  | "mish"
  | "hardswish"
  | "sigmoid"
  | "tanh"
  | "linear";

const ACTIVATIONS: { readonly [name in ActivationName]: (x: Tensor) => Tensor } = {
  silu,
  swish: silu,
  relu,
  relu2: (x) => multiply(relu(x), relu(x)),
  relu6: (x) => clamp(x, { min: 0, max: 6 }),
  leaky_relu: (x) => leakyRelu(x),
  gelu: exactGelu,
  gelu_python: exactGelu,
  gelu_10: (x) => clamp(exactGelu(x), { min: -10, max: 10 }),
  gelu_fast: tanhGelu,
  gelu_new: tanhGelu,
  gelu_accurate: tanhGelu,
  gelu_pytorch_tanh: tanhGelu,
  gelu_python_tanh: tanhGelu,
  quick_gelu: (x) => multiply(x, sigmoid(multiply(x, 1.702))),
  mish: (x) => multiply(x, tanh(softplus(x))),
  hardswish: (x) => multiply(x, multiply(clamp(add(x, 3), { min: 0, max: 6 }), 1 / 6)),
  sigmoid,
  tanh,
  linear: (x) => x,
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
}

/**
 * Reads the name of an activation.
 *
 * @param read The configuration
 * @param options The key, and the name where it is absent
 * @returns The name
 * @throws {InputError} When no activation has this name
 */
export function readActivation(read: ConfigReader, options: ActivationOptions): ActivationName {
  const { key } = options, name = read.string(key, options.name);
  if (Object.hasOwn(ACTIVATIONS, name)) return name as ActivationName;
  throw read.error(key, `it must be one of ${Object.keys(ACTIVATIONS).join(", ")}`, name);
}
