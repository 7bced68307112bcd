/**
 * A model: a family with one of its heads, a configuration and parameters, as plain data.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { LinearParams } from "../nn/linear.ts";
import { type ListedParam, listParams } from "../nn/params.ts";
import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import { type ConfigReader, configReader } from "./config_reader.ts";
import { adaptedParams, type ModelAdapter } from "./adapter.ts";
import { checkDropouts, type DropoutSetting, dropoutsOf } from "./dropout.ts";
import type { Family, Head, TokenInput } from "./family.ts";

/** A model; `I` is the type of its input. */
export interface Model<P extends object = object, I extends object = TokenInput> {
  /** What kind of model it is. */
  readonly family: Family<object, object, I>;
  /** Entry of `architectures` in `config.json`; it selects the family's head. */
  readonly architecture: string;
  /** The family's view of `config.json`. */
  readonly config: object;
  /** Parameters by nested name. */
  readonly params: P;
  /** Longest sequence, in positions; Infinity where the family has no limit. */
  readonly maxLength: number;
  /** Content of its `config.json`, written back when it is saved. */
  readonly source: Readonly<Record<string, unknown>>;
  /** alpha / r of LoRA pairs that were put into the parameters by hand; those of an adapter have their own. */
  readonly loraScale?: number;
  /** The adapter whose tensors are among the parameters. */
  readonly adapter?: ModelAdapter;
  /** Whether it is run to be trained, with dropout; false when absent. */
  readonly training?: boolean;
  /** What its family drops in training, and the seed of that; nothing when absent. Adapters have a dropout of their own. */
  readonly dropout?: { readonly setting: DropoutSetting; readonly seed: number };
  /** Most bytes of scores that its loss holds at a time; 128 MiB, which every adapter can bind, when absent. */
  readonly scoreBytes?: number;
  /** What loading found that its user should know; none when absent. */
  readonly notes?: readonly string[];
  /** Which parameters are to be trained; all when absent. */
  readonly trainable?: (path: Path) => boolean;
  /** Names that its file has for parameters, where they are not those of the family; kept when it is saved. */
  readonly keys?: ReadonlyMap<Path, string>;
}

/** Families by `model_type`. */
export interface Families {
  /** The family of a `model_type`. */
  readonly [modelType: string]: Family;
}

/** A model without parameters. */
export type ModelDescription<I extends object = TokenInput> = Omit<Model<object, I>, "params">;

/**
 * Reads a configuration: everything of a model but its parameters.
 *
 * @param source Content of `config.json`
 * @param options The families to choose from, and the file's path for errors
 * @returns The model without parameters; the type `I` of its input is not checked
 * @throws {InputError} When the family is unknown, or a value is missing or of the wrong kind
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { describeModel, families } from "@firn/train/models";
 *
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = describeModel(source, { families, file: "config.json" });
 * assertEquals([model.architecture, model.maxLength], ["LlamaForCausalLM", 2048]);
 * ```
 */
export function describeModel<I extends object = TokenInput>(
  source: Readonly<Record<string, unknown>>,
  { families, file }: { readonly families: Families; readonly file: string },
): ModelDescription<I> {
  const read = configReader(source, file);
  const type = read.string("model_type");
  if (!Object.hasOwn(families, type)) {
    const known = Object.keys(families).join(", "), rule = `it must be one of ${known}`;
    const page = 'the doc of "@firn/train/models" shows how to add a family';
    throw new InputError(`${read.error("model_type", rule, type).message}; ${page}`);
  }
  const quantized = source.quantization_config ?? null;
  if (quantized !== null) {
    throw read.error(
      "quantization_config",
      "weights must be plain numbers: save the model unquantized",
      quantized,
    );
  }
  const family = families[type];
  const config = family.parse(read), architecture = readArchitecture(read, family);
  checkDropouts(read, { family, source });
  const maxLength = family.maxLength?.(config) ?? Infinity;
  return { family, architecture, config, source, maxLength };
}

function readArchitecture(read: ConfigReader, { heads }: Family): string {
  const names = Object.keys(heads), wanted = read.strings("architectures") ?? [names[0]];
  const found = wanted.find((name) => Object.hasOwn(heads, name));
  if (found === undefined) {
    throw read.error(
      "architectures",
      `it must have one of ${names.join(", ")}`,
      wanted,
    );
  }
  return found;
}

/**
 * The head that a model has.
 *
 * @param model The model, with or without parameters
 * @returns The head
 */
export function headOf<I extends object>(
  { family, architecture }: Pick<Model<object, I>, "family" | "architecture">,
): Head<object, object, I> {
  return family.heads[architecture];
}

/**
 * The last linear layer of a model.
 *
 * @param model The model
 * @returns Its parameters
 * @throws {InputError} When the model has hidden states only
 */
export function outputOf<I extends object>(
  model: Pick<Model<object, I>, "family" | "architecture" | "config" | "params" | "adapter" | "training">,
): LinearParams {
  const output = headOf(model).output?.(readParams(model));
  if (output !== undefined) return output;
  throw new InputError(
    `Cannot compute scores of "${model.architecture}" as it must have a head: it gives hidden states; ` +
      "load it with another architecture",
  );
}

/**
 * Lists the parameters that a model has.
 *
 * @param model The model, with or without parameters
 * @returns Path to declaration, tied parameters left out
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { describeModel, families, modelParams } from "@firn/train/models";
 *
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = describeModel(source, { families, file: "config.json" });
 * assertEquals(modelParams(model).get("model.embed_tokens.weight")!.shape, [10, 8]);
 * ```
 */
export function modelParams<I extends object>(
  model: Pick<Model<object, I>, "family" | "architecture" | "config">,
): Map<Path, ListedParam> {
  return new Map([...declaredParams(model)].filter(([, { tiedTo }]) => tiedTo === undefined));
}

/**
 * Lists everything that a model declares.
 *
 * @param model The model, with or without parameters
 * @returns Path to declaration, tied parameters included
 */
export function declaredParams<I extends object>(
  model: Pick<Model<object, I>, "family" | "architecture" | "config">,
): Map<Path, ListedParam> {
  const listed = listParams({ ...model.family.params(model.config), ...headOf(model).params(model.config) });
  const { basePrefix } = model.family;
  if (basePrefix === undefined || headOf(model).task !== "features") return listed;
  return new Map(
    [...listed].map(([path, { parts, ...param }]) => [path, {
      ...param,
      key: withoutPrefix(param.key, basePrefix),
      ...parts !== undefined && { parts: parts.map((part) => withoutPrefix(part, basePrefix)) },
    }]),
  );
}

/**
 * One name for all that checkpoints call a parameter: aliases of the family replaced, and without its prefix.
 *
 * @param family The family
 * @param name A name in a checkpoint
 * @returns Its common name
 */
export function commonName(
  { basePrefix, aliases = [] }: Pick<Family, "basePrefix" | "aliases">,
  name: string,
): string {
  const renamed = aliases.reduce((text, [pattern, replacement]) => text.replace(pattern, replacement), name);
  return basePrefix === undefined ? renamed : withoutPrefix(renamed, basePrefix);
}

/**
 * Lists the parameters that others take the place of.
 *
 * @param model The model, with or without parameters
 * @returns Path to the path of the other
 */
export function tiedParams<I extends object>(
  model: Pick<Model<object, I>, "family" | "architecture" | "config">,
): Map<Path, Path> {
  return new Map(
    [...declaredParams(model)].flatMap(([path, { tiedTo }]) => tiedTo === undefined ? [] : [[path, tiedTo]]),
  );
}

/**
 * The parameters of a model as its family reads them.
 *
 * @param model The model
 * @returns Its parameters, with the settings of its adapter
 */
export function readParams<I extends object>(
  model: Pick<Model<object, I>, "family" | "architecture" | "config" | "params" | "adapter" | "training">,
): object {
  const { adapter, params, training = false } = model;
  if (adapter === undefined) return params;
  return adaptedParams({ params, adapter, training, tied: tiedParams(model) });
}

function withoutPrefix(name: string, prefix: string): string {
  return name.startsWith(`${prefix}.`) ? name.slice(prefix.length + 1) : name;
}

/**
 * Hidden states before the head.
 *
 * @param model The model; `params` may be any tree of its shape
 * @param input Its input; for models of text `{ inputIds }`, i32 [B, T]
 * @returns f32 [B, T, C]
 * @throws {InputError} When the sequence is longer than the model allows, or the family does not read a tensor of it
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, tensor } from "@firn/train";
 * import { hiddenStates } from "@firn/train/models";
 * import { newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newModel(gpu, { source, seed: 1 });
 * const inputIds = tensor(new Int32Array([1, 2, 3]), [1, 3]);
 * assertEquals(hiddenStates(model, { inputIds }).shape, [1, 3, 8]);
 * ```
 */
export function hiddenStates<I extends object>(model: Model<object, I>, input: I): Tensor {
  const { family, config, maxLength, loraScale } = model;
  const length = "inputIds" in input ? (input as TokenInput).inputIds.shape[1] : 0;
  if (length > maxLength) {
    throw new InputError(
      `Cannot run "${family.name}" on ${length} tokens as it takes at most ${maxLength}: use shorter sequences`,
    );
  }
  for (const name of ["attentionMask", "segments", "tokenTypeIds"] as const) {
    if ((input as Partial<TokenInput>)[name] === undefined || family.inputs?.includes(name)) continue;
    throw new InputError(
      `Cannot run "${family.name}" on "${name}" as it must read it: it does not; leave it out`,
    );
  }
  return family.hidden(readParams(model), input, { config, loraScale, dropout: dropoutsOf(model, "hidden") });
}
