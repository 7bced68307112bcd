/**
 * Makes LoRA adapters as PEFT does.
 *
 * @module
 */

import { normalValues, uniformValues } from "../../kernels/random.ts";
import { shown } from "../arguments.ts";
import { InputError } from "../errors.ts";
import { hubName, isHubName } from "../hub/name.ts";
import type { TokenInput } from "../models/family.ts";
import { headOf, type Model, tiedParams } from "../models/model.ts";
import { withAdapter, withoutAdapter } from "../models/with_adapter.ts";
import { listParams } from "../nn/params.ts";
import { weightLengths } from "../nn/lora.ts";
import { dequantize } from "../ops/dequantize.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { free } from "../runtime/residents.ts";
import { upload } from "../runtime/upload.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { copyToDevice } from "../train/state/upload.ts";
import { flatten, type Path } from "../tree.ts";
import { type AdapterConfig, rankOf, readAdapterConfig, scaleOf } from "./adapter_config.ts";
import { type AdapterSeed, heldPair, memberShapes, type PairOf, settingsFor } from "./adapter_layout.ts";
import { copiedPaths } from "./adapter_modules.ts";
import { savedTargets, targetModules, targetNames, type Targets } from "./adapter_targets.ts";
import { isPissa, principalPair, residual } from "./pissa.ts";
import { TASK_TYPES } from "./save_adapter.ts";

/** Options of {@link newAdapter}, each under the name that its counterpart in PEFT's `LoraConfig` has, or a plainer one. */
export interface NewAdapterOptions extends AdapterSeed {
  /** Rank of the pairs: `r`. */
  readonly rank: number;
  /** The pairs are multiplied by alpha / rank: `lora_alpha`; twice the rank when absent. */
  readonly alpha?: number;
  /**
   * Which modules get pairs: `target_modules`. A list of names, of their ends, as `q_proj`, or of globs, as `*.mlp.*`; or one
   * regular expression of whole names; or `all-linear`, the default: all linear layers but the head.
   */
  readonly targets?: Targets;
  /** Which of them get none: `exclude_modules`, a list or an expression. */
  readonly exclude?: string | readonly string[];
  /** Divides alpha by the root of the rank: `use_rslora`; false when absent. */
  readonly rslora?: boolean;
  /** Trains the lengths of the weights of each output beside their directions: `use_dora`; false when absent. */
  readonly dora?: boolean;
  /** Share of the input of pairs that training drops: `lora_dropout`; 0 when absent. */
  readonly dropout?: number;
  /**
   * How pairs start: `init_lora_weights`. `true`, the default: the first matrix uniform, the second zero. `gaussian`: the
   * first normal, with deviation 1 / rank. `pissa`: pairs are the principal part of each weight, of which the base keeps the
   * rest, in f32. `false`: both uniform, so that the model changes at once.
   */
  readonly init?: boolean | "gaussian" | "pissa";
  /** Other ranks for modules whose name, or the end of it, matches an expression: `rank_pattern`. */
  readonly rankPattern?: Readonly<Record<string, number>>;
  /** Other alphas in the same way: `alpha_pattern`. */
  readonly alphaPattern?: Readonly<Record<string, number>>;
  /** Indices of the layers whose modules get pairs, where targets are no expression: `layers_to_transform`; all when absent. */
  readonly layers?: number | readonly number[];
  /** Names of what holds those layers: `layers_pattern`; any when absent. */
  readonly layersPattern?: string | readonly string[];
  /** Which biases of the base are trained: those of all modules, or of those with pairs; `none` when absent. */
  readonly bias?: "none" | "all" | "lora_only";
  /**
   * Modules that are trained as whole copies, by the ends of their names: `modules_to_save`. When absent: the head of a model
   * for classes, which is new for most of them.
   */
  readonly modulesToSave?: readonly string[];
  /** The base as PEFT is to find it, a folder, `org/name` or `org/name@revision`: `base_model_name_or_path`, `revision`. */
  readonly base?: string;
}

/**
 * Makes a LoRA adapter and puts it on a model. Only what the adapter trains is trained: `trainable` of the model says it to
 * losses. The start values of PEFT leave the scores of the model as they are.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685; Liu et al., "DoRA", arXiv 2402.09353; start values as in `peft`.
 *
 * @param gpu The device that will hold the tensors of the adapter
 * @param model The model; an adapter that it has makes place
 * @param options The rank, and all else as in PEFT
 * @returns The model with the adapter; it shares all other tensors with `model`
 * @throws {InputError} When an option is out of its range, or a target is no module of the model
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { flatten, openGpu } from "@firn/train";
 * import { newAdapter, newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const base = await newModel(gpu, { source, seed: 1 });
 * const model = await newAdapter(gpu, base, { rank: 2, targets: ["*.q_proj"], dora: true });
 * assertEquals([...flatten(model.params).keys()].filter(model.trainable!), [
 *   "model.layers.0.self_attn.q_proj.lora_A.weight",
 *   "model.layers.0.self_attn.q_proj.lora_B.weight",
 *   "model.layers.0.self_attn.q_proj.lora_magnitude_vector",
 * ]);
 * ```
 */
export async function newAdapter<P extends object, I extends object = TokenInput>(
  gpu: Gpu,
  model: Model<P, I>,
  options: NewAdapterOptions,
): Promise<Model<P, I>> {
  const base = withoutAdapter(model),
    leaves = flatten(base.params),
    held = heldPair(leaves),
    { seed = 0 } = options;
  if (held !== undefined) {
    throw new InputError(
      `Cannot make an adapter as the model must hold no other: it has "${held}"; merge that one with mergeAdapter`,
    );
  }
  const { source, config } = configFor(base, options), found = targetModules(base, config);
  const full = {
    ...source,
    target_modules: savedTargets(base, { targets: source.target_modules as Targets, found }),
    fan_in_fan_out: found.some(({ kind, layout }) => kind === "linear" && layout === "inOut"),
  };
  const pairs = new Map(found.map((module) => [module.path, { module, config }]));
  const settings = settingsFor(base, { config, pairs, seed, source: full });
  const tensors = new Map<Path, Tensor>(), draw = drawing(seed), tied = tiedParams(base);
  const leafAt = (path: Path): Tensor => leaves.get(path) ?? leaves.get(tied.get(path)!)!;
  try {
    for (const [path, pair] of pairs) {
      for (const [member, tensor] of await startOf(gpu, { pair, weight: leafAt(`${path}.weight`), draw })) {
        tensors.set(`${path}.${member}`, tensor);
      }
    }
    for (const path of settings.trained) {
      if (!tensors.has(path)) {
        tensors.set(path, await copyToDevice(gpu, { path, source: dequantize(leafAt(path)) }));
      }
    }
    await checkAllocations(gpu);
  } catch (error) {
    free(Object.fromEntries(tensors));
    throw error;
  }
  return withAdapter(base, { ...settings, tensors });
}

/** The name of the base and its revision, which PEFT keeps apart. */
function baseOf(
  base: string | undefined,
): { readonly base: string | null; readonly revision: string | null } {
  if (base === undefined) return { base: null, revision: null };
  if (!base.includes("@") || !isHubName(base)) return { base, revision: null };
  const { repository, revision } = hubName(base, "model");
  return { base: repository, revision };
}

/** The content of `adapter_config.json` for the options, and what it says. */
function configFor<I extends object>(
  model: Model<object, I>,
  options: NewAdapterOptions,
): { readonly source: Readonly<Record<string, unknown>>; readonly config: AdapterConfig } {
  const { rank, alpha = 2 * rank, targets = "all-linear", init = true } = options;
  const must = (holds: boolean, name: string, rule: string): void => {
    if (holds) return;
    const seen = shown(options[name as keyof NewAdapterOptions]);
    throw new InputError(`Cannot make an adapter as "${name}" must be ${rule}: got ${seen}`);
  };
  must(Number.isSafeInteger(rank) && rank > 0, "rank", "a whole number above 0");
  must(typeof alpha === "number" && alpha > 0 && Math.fround(alpha) < Infinity, "alpha", "a number above 0");
  must(
    typeof init === "boolean" || ["gaussian", "pissa"].includes(init),
    "init",
    "true, false, gaussian or pissa",
  );
  const { seed = 0 } = options, { base, revision } = baseOf(options.base);
  must(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32, "seed", "a whole number from 0 to 2^32 - 1");
  const source = {
    base_model_name_or_path: base,
    bias: options.bias ?? "none",
    exclude_modules: options.exclude ?? null,
    inference_mode: true,
    init_lora_weights: init,
    layers_pattern: options.layersPattern ?? null,
    layers_to_transform: options.layers ?? null,
    lora_alpha: alpha,
    lora_dropout: options.dropout ?? 0,
    modules_to_save: options.modulesToSave ?? headsToSave(model),
    peft_type: "LORA",
    r: rank,
    rank_pattern: options.rankPattern ?? {},
    alpha_pattern: options.alphaPattern ?? {},
    revision,
    target_modules: targetNames(model, { targets, inLayers: options.layers !== undefined }),
    task_type: TASK_TYPES[headOf(model).task],
    use_dora: options.dora ?? false,
    use_rslora: options.rslora ?? false,
  };
  const config = readAdapterConfig(source, "the options of newAdapter");
  const saved = config.saved.find((end) =>
    options.modulesToSave?.includes(end) && copiedPaths(model, { ...config, saved: [end] }).length === 0
  );
  if (saved !== undefined) {
    throw new InputError(
      `Cannot save "${saved}" with the adapter as the model must have it: it has no such module`,
    );
  }
  return { source, config };
}

/** The head of a model for classes, as PEFT saves it. It knows no classes of images. */
function headsToSave<I extends object>(model: Model<object, I>): readonly string[] | null {
  const { task } = headOf(model);
  if (task === "sequenceClass" || task === "tokenClass") return ["classifier", "score"];
  if (task !== "imageClass") return null;
  return [
    ...new Set(
      [...listParams(headOf(model).params(model.config)).values()].map(({ key }) => key.split(".")[0]),
    ),
  ];
}

/** Draws one tensor after another. */
interface Drawing {
  /** Uniform values up to a bound on both sides. */
  uniform(size: number, bound: number): Float32Array<ArrayBuffer>;
  /** Normal values of a deviation. */
  normal(size: number, deviation: number): Float32Array<ArrayBuffer>;
}

function drawing(seed: number): Drawing {
  let stream = 0;
  const key = (): readonly [number, number] => [seed, stream++];
  return {
    uniform: (size, bound) => uniformValues({ size, key: key() }).map((u) => (2 * u - 1) * bound),
    normal: (size, deviation) => normalValues({ size, key: key() }).map((x) => x * deviation),
  };
}

/** The tensors of a pair before training. */
async function startOf(
  gpu: Gpu,
  { pair, weight, draw }: { readonly pair: PairOf; readonly weight: Tensor; readonly draw: Drawing },
): Promise<Map<string, Tensor>> {
  const { module: { names, path, layout, kind }, config } = pair, tensors = new Map<string, Tensor>();
  const scale = scaleOf(config, names), principal = isPissa(config.start) && kind === "linear";
  if (principal) {
    const own = { path, layout, scale, rank: rankOf(config, names) },
      { a, b } = await principalPair(gpu, weight, own);
    tensors.set("lora_A.weight", a).set("lora_B.weight", b);
    tensors.set("weight", await residual(gpu, weight, { ...own, a, b }));
  }
  for (const [member, shape] of memberShapes(pair)) {
    if (member === "lora_magnitude_vector" || tensors.has(member)) continue;
    const values = startValues(member, { shape, start: config.start, draw });
    tensors.set(member, upload(gpu, values, { shape, label: `${path}.${member}` }));
  }
  if (!config.dora) return tensors;
  const [a, b] = [...tensors.values()],
    start = tensors.get("weight") ?? weight,
    at = `${path}.lora_magnitude_vector`;
  const length = weightLengths(start, { a, b }, { scale, layout });
  return tensors.set("lora_magnitude_vector", await copyToDevice(gpu, { path: at, source: length }));
}

/** Source: `reset_lora_parameters` of PEFT. PyTorch draws a linear layer up to the root of its inputs, a table from N(0, 1). */
function startValues(
  member: string,
  { shape, start, draw }: {
    readonly shape: readonly number[];
    readonly start: boolean | string;
    readonly draw: Drawing;
  },
): Float32Array<ArrayBuffer> {
  const size = sizeOf(shape), bound = 1 / Math.sqrt(shape.at(-1)!), isFirst = /_A(\.|$)/.test(member);
  if (member.startsWith("lora_embedding")) {
    return isFirst && start !== false ? new Float32Array(size) : draw.normal(size, 1);
  }
  if (start === false) return draw.uniform(size, bound);
  if (!isFirst) return new Float32Array(size);
  return start === "gaussian" ? draw.normal(size, 1 / shape[0]) : draw.uniform(size, bound);
}
