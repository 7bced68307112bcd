/**
 * Adapters on models. Several share one base: each is a record of its own tensors, and a model of base and adapter is made
 * without a copy. To switch is to take another model.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Leaves, type Path, unflatten } from "../tree.ts";
import type { Adapter } from "./adapter.ts";
import { type Model, tiedParams } from "./model.ts";

/**
 * Puts an adapter on a model: a function of both, which copies nothing. A model that has another adapter changes to this one.
 *
 * @param model The model
 * @param adapter The adapter
 * @returns The model with the tensors of the adapter, of which it trains those that the adapter trains
 * @throws {InputError} When the adapter has a pair for a module that the model has not
 *
 * @example Two adapters on one base
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { flatten, openGpu } from "@firn/train";
 * import { adapterOf, withAdapter } from "@firn/train/models";
 * import { newAdapter, newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const base = await newModel(gpu, { source, seed: 1 });
 * const [one, two] = [
 *   adapterOf(await newAdapter(gpu, base, { rank: 2, targets: ["q_proj"] })),
 *   adapterOf(await newAdapter(gpu, base, { rank: 4, targets: ["v_proj"] })),
 * ];
 * let model = withAdapter(base, one);
 * model = withAdapter(model, two); // switched
 * const added = [...flatten(model.params).keys()].filter((path) => !flatten(base.params).has(path));
 * assertEquals(added.map((path) => path.split(".").slice(-3).join(".")), [
 *   "v_proj.lora_A.weight",
 *   "v_proj.lora_B.weight",
 * ]);
 * ```
 */
export function withAdapter<P extends object, I extends object>(
  model: Model<P, I>,
  adapter: Adapter,
): Model<P, I> {
  const { tensors, ...settings } = adapter, base = withoutAdapter(model), leaves = flatten(base.params);
  const tied = tiedParams(base);
  const homeless = [...adapter.layers.keys()].find((path) =>
    !leaves.has(`${path}.weight`) && !tied.has(`${path}.weight`)
  );
  if (homeless !== undefined) {
    throw new InputError(
      `Cannot adapt "${homeless}" as the model must have it: the adapter was made for another one`,
    );
  }
  const { trained, source } = settings, paths = new Set(tensors.keys());
  const untied = source.ensure_weight_tying === true ? [] : untiedBy(tied, { trained, paths, leaves });
  return {
    ...base,
    params: unflatten(new Map([...leaves, ...tensors, ...untied])) as P,
    adapter: {
      ...settings,
      paths: new Set([...paths, ...untied.map(([path]) => path)]),
      replaced: new Map([...tensors.keys()].flatMap((path) => {
        const old = leaves.get(path);
        return old === undefined ? [] : [[path, old] as const];
      })),
    },
    trainable: (path) => trained.has(path),
  };
}

/** Heads that were tied to a table of which the adapter trains a copy: they keep the table of the base, as in PEFT. */
function untiedBy(
  tied: ReadonlyMap<Path, Path>,
  { trained, paths, leaves }: {
    readonly trained: ReadonlySet<Path>;
    readonly paths: ReadonlySet<Path>;
    readonly leaves: Leaves;
  },
): (readonly [Path, Tensor])[] {
  return [...tied].flatMap(([path, source]) =>
    trained.has(source) && !paths.has(path) ? [[path, leaves.get(source)!] as const] : []
  );
}

/**
 * Takes the adapter off a model.
 *
 * @param model The model
 * @returns Its base: the tensors that it had before. All of its parameters are trained
 */
export function withoutAdapter<P extends object, I extends object>(model: Model<P, I>): Model<P, I> {
  const { adapter, trainable: _, ...base } = model;
  if (adapter === undefined) return model;
  const leaves = new Map([...flatten(model.params)].flatMap(([path, tensor]) => {
    if (!adapter.paths.has(path)) return [[path, tensor] as const];
    const old = adapter.replaced.get(path);
    return old === undefined ? [] : [[path, old] as const];
  }));
  return { ...base, params: unflatten(leaves) as P };
}

/**
 * The adapter that a model has, with the tensors that it has now.
 *
 * @param model The model; of a training run `{ ...model, params: state.params }`
 * @returns The adapter
 * @throws {InputError} When the model has none
 */
export function adapterOf<P extends object, I extends object>(
  { adapter, params }: Pick<Model<P, I>, "adapter" | "params">,
): Adapter {
  if (adapter === undefined) {
    throw new InputError("Cannot take the adapter of a model as it must have one: make it with newAdapter");
  }
  const { paths, replaced: _, ...settings } = adapter;
  return { ...settings, tensors: new Map([...flatten(params)].filter(([path]) => paths.has(path))) };
}
