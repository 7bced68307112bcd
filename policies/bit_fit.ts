import { InputError } from "../core/errors.ts";
import type { Path } from "../core/tree.ts";

/** Options of {@link bitFit}. */
export interface BitFitOptions {
  /** Whether gains of norms train too: all parameters of one axis; false when absent, as published. */
  readonly norms?: boolean;
  /** What trains besides, such as a new head; nothing when absent. */
  readonly also?: (path: Path) => boolean;
}

/**
 * BitFit: trains the biases of a model and nothing else.
 *
 * It is the option `trainable` of a training and no policy: weight and bias of a layer are one component, which freezes as a
 * whole, and what never trains needs no optimizer state from the first step on. Freeze policies work on top of it.
 *
 * When: memory for gradients and the optimizer's state is short, and the model has biases, as BERT and GPT-2 have; Llama and
 * most of its successors have none. A step saves the gradients of the matrices, not those of their inputs.
 *
 * Source: Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
 * arXiv 2106.10199, which also trains the new head: name it with `also`.
 *
 * @param params The parameters of the model by path, as `flatten(model.params)` gives them
 * @param options What trains besides biases
 * @returns Which parameters train, by path
 * @throws {InputError} When the model has no bias, or with `norms` no parameter of one axis
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { flatten, InputError, tensor } from "@firn/train";
 * import { bitFit } from "@firn/train/policies";
 *
 * const linear = { weight: tensor([1, 2, 3, 4], [2, 2]), bias: tensor([0, 0]) };
 * const params = { up: linear, norm: { weight: tensor([1, 1]) }, head: linear };
 * const trainable = bitFit(flatten(params), { also: (path) => path.startsWith("head.") });
 * assertEquals(["up.weight", "up.bias", "norm.weight", "head.weight"].map(trainable), [false, true, false, true]);
 * assertEquals(bitFit(flatten(params), { norms: true })("norm.weight"), true);
 * assertThrows(() => bitFit(flatten({ norm: params.norm })), InputError, "has none");
 * ```
 */
export function bitFit(
  params: Iterable<readonly [Path, { readonly shape: readonly number[] }]>,
  { norms = false, also = () => false }: BitFitOptions = {},
): (path: Path) => boolean {
  const all = [...params];
  const chosen = new Set(
    all.filter(([path, { shape }]) => norms ? shape.length === 1 : /(^|\.)bias$/.test(path)).map(([path]) =>
      path
    ),
  );
  if (chosen.size === 0) {
    const what = norms ? "a parameter of one axis" : "a bias";
    const mend = norms
      ? "train it by another way"
      : 'give "norms", which trains the gains of its norms, or another way';
    throw new InputError(
      `Cannot train biases alone as the model must have ${what}: it has none among ${all.length} parameters; ${mend}`,
    );
  }
  return (path) => chosen.has(path) || also(path);
}
