/**
 * Reads the folders of LoRA adapters.
 *
 * @module
 */

import { DataError, InputError } from "../errors.ts";
import { openSafetensors, type SafetensorsFile } from "../data/safetensors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { readJson } from "../host/json_file.ts";
import { pathInFolder } from "../host/path_in_folder.ts";
import type { TokenInput } from "../models/family.ts";
import type { Adapter, StoredTensor } from "../models/adapter.ts";
import { declaredParams, type Model } from "../models/model.ts";
import { withAdapter, withoutAdapter } from "../models/with_adapter.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { free } from "../runtime/residents.ts";
import { upload } from "../runtime/upload.ts";
import { sameShape } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Leaves, type Path } from "../tree.ts";
import { type AdapterConfig, rankOf, readAdapterConfig, scaleOf, unknownFields } from "./adapter_config.ts";
import {
  type AdapterSeed,
  heldPair,
  memberShapes,
  type PairOf,
  PREFIX,
  settingsFor,
} from "./adapter_layout.ts";
import { byAnyName, copiedPaths, modulesOf, targeting } from "./adapter_modules.ts";
import { checkLoaded } from "./check_storable.ts";
import { checkAdapterFiles, checkModelFolder } from "./model_folder.ts";
import { isPissa, principalPair, residual } from "./pissa.ts";

/** Options of {@link loadAdapter}. */
export interface LoadAdapterOptions extends FileSystemOptions, AdapterSeed {}

/**
 * Loads a LoRA adapter of PEFT and puts it on a model. Only what the adapter trains is trained.
 *
 * Read are plain and rank-stabilised pairs, DoRA, ranks and alphas by pattern, pairs of embeddings and heads, trained biases
 * and modules that the adapter has whole copies of. Dropout is applied in training.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685; Kalajdzievski, "rsLoRA", arXiv 2312.03732; Liu et al., "DoRA", arXiv
 * 2402.09353; the file layout is that of `peft`.
 *
 * @param gpu The device that will hold the tensors of the adapter
 * @param model The model that the adapter was made for; an adapter that it has makes place
 * @param folder Folder with `adapter_config.json` and `adapter_model.safetensors`
 * @param options The file system, and the seed of its dropout
 * @returns The model with the adapter; it shares all other tensors with `model`
 * @throws {InputError} When the adapter is of a kind that is not supported
 * @throws {DataError} When a tensor does not fit the model
 */
export async function loadAdapter<P extends object, I extends object = TokenInput>(
  gpu: Gpu,
  model: Model<P, I>,
  folder: string,
  options: LoadAdapterOptions = {},
): Promise<Model<P, I>> {
  const adapter = await readAdapter(gpu, model, { ...options, folder });
  const unknown = unknownFields(adapter.source).map((key) =>
    `"${key}" of "${folder}/adapter_config.json" is not known here; it is kept, and changes nothing`
  );
  const adapted = withAdapter(model, adapter), notes = [...adapted.notes ?? [], ...unknown];
  return { ...adapted, ...notes.length > 0 && { notes } };
}

/**
 * Reads a LoRA adapter of PEFT, to be put on a model with `withAdapter`.
 *
 * @param gpu The device that will hold its tensors
 * @param model The model that it was made for
 * @param options The folder, the file system, and the seed of its dropout
 * @returns The adapter
 * @throws {InputError} When the adapter is of a kind that is not supported
 * @throws {DataError} When a tensor does not fit the model
 */
export async function readAdapter<I extends object = TokenInput>(
  gpu: Gpu,
  model: Model<object, I>,
  { folder, seed, ...options }: LoadAdapterOptions & { readonly folder: string },
): Promise<Adapter> {
  const { fileSystem = hostFileSystem() } = options;
  await checkModelFolder(folder, options);
  const file = await pathInFolder(folder, "adapter_config.json", options);
  const source = await readJson(file, options), config = readAdapterConfig(source, file);
  const text = new TextDecoder().decode(await fileSystem.read(file));
  const base = withoutAdapter(model), leaves = flatten(base.params), held = heldPair(leaves);
  if (held !== undefined) {
    throw new InputError(
      `Cannot load "${folder}" as a model holds one adapter at a time: it has "${held}"; merge that one with mergeAdapter`,
    );
  }
  await checkAdapterFiles(folder, options);
  await using weights = await openSafetensors(
    await pathInFolder(folder, "adapter_model.safetensors", options),
    options,
  );
  const tensors = new Map<Path, Tensor>();
  try {
    const { stored, pairs } = await readTensors(gpu, { model: base, weights, config, file, tensors });
    checkWhole(tensors, { pairs, path: weights.path });
    const settings = settingsFor(base, { config, pairs, seed, source });
    const copied = new Set(copiedPaths(base, config)), isLeft = (path: Path): boolean => !tensors.has(path);
    const missing = [...settings.trained].find((path) =>
      isLeft(path) && (copied.has(path) || !leaves.has(path))
    );
    if (missing !== undefined) {
      throw new DataError(
        `Cannot load "${weights.path}" as "modules_to_save" of "${file}" asks for "${missing}": it is missing; get it again`,
      );
    }
    if (isPissa(config.start)) await takePrincipalParts(gpu, { pairs, leaves, tensors });
    await checkAllocations(gpu);
    // A bias that is trained, and that the file has not, is that of the base.
    const ofBase = [...settings.trained].filter(isLeft).map((path) => [path, leaves.get(path)!] as const);
    return { ...settings, stored, text, tensors: new Map([...tensors, ...ofBase]) };
  } catch (error) {
    free(Object.fromEntries(tensors));
    throw error;
  }
}

/** Takes the principal parts out of adapted weights: the pairs that were trained are in their place, as PEFT loads them. */
async function takePrincipalParts(
  gpu: Gpu,
  { pairs, leaves, tensors }: {
    readonly pairs: ReadonlyMap<Path, PairOf>;
    readonly leaves: Leaves;
    readonly tensors: Map<Path, Tensor>;
  },
): Promise<void> {
  for (const [path, { module: { names, kind, layout }, config }] of pairs) {
    const weight = leaves.get(`${path}.weight`);
    if (kind !== "linear" || weight === undefined) continue;
    const own = { path, layout, rank: rankOf(config, names), scale: scaleOf(config, names) };
    const first = await principalPair(gpu, weight, own);
    tensors.set(`${path}.weight`, await residual(gpu, weight, { ...own, ...first }));
    free(first);
  }
}

/** Where a tensor of a file belongs. */
interface Place extends Omit<StoredTensor, "dtype"> {
  readonly shape: readonly number[];
  /** The pair that it is a part of. */
  readonly pair?: PairOf;
}

/** Reads all tensors of a file into a map. */
async function readTensors<I extends object>(
  gpu: Gpu,
  { model, weights, config, file, tensors }: {
    readonly model: Model<object, I>;
    readonly weights: SafetensorsFile;
    readonly config: AdapterConfig;
    readonly file: string;
    readonly tensors: Map<Path, Tensor>;
  },
): Promise<{
  readonly stored: ReadonlyMap<string, StoredTensor>;
  readonly pairs: ReadonlyMap<Path, PairOf>;
}> {
  const placeOf = placing(model, config), isTarget = targeting(model, config);
  const stored = new Map<string, StoredTensor>();
  const pairs = new Map<Path, PairOf>();
  for (const name of weights.names) {
    const place = placeOf(name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name);
    const { shape, dtype } = weights.specs.get(name)!;
    const invalid = (rule: string): Error => {
      const seen = `it has [${shape.join(", ")}]`;
      return new DataError(`Cannot load "${name}" of "${weights.path}" as ${rule}: ${seen}`);
    };
    if (place === undefined) throw invalid("it must belong to a module of the model that takes it");
    const { path, pair, ofBase } = place;
    if (!sameShape(shape, place.shape)) {
      throw invalid(`model and "r" of "${file}" give it the shape [${place.shape.join(", ")}]`);
    }
    if (pair !== undefined && !isTarget(pair.module)) {
      throw invalid(`"${file}" adapts other modules`);
    }
    stored.set(name, {
      path,
      dtype: dtype === "BF16" || dtype === "F16" ? dtype : "F32",
      ...ofBase && { ofBase },
    });
    if (ofBase) continue;
    const values = await weights.readF32(name);
    checkLoaded(values, { name, path: weights.path });
    // A head that is saved beside the table it is tied to, and what the name of a wrapper repeats, are there already.
    if (tensors.has(path)) {
      if (pair === undefined) continue;
      throw invalid("a pair must come once: another name of it is there too");
    }
    tensors.set(path, upload(gpu, values, { shape, label: path }));
    if (pair !== undefined) pairs.set(pair.module.path, pair);
  }
  return { stored, pairs };
}

/** What PEFT puts into the name of a parameter of the base that it wraps. */
const WRAPPERS = /\.(base_layer|modules_to_save(?:\.default)?|original_module)(?=\.)/;

/** From a name without its prefix to where its tensor belongs. */
function placing<I extends object>(
  model: Model<object, I>,
  config: AdapterConfig,
): (name: string) => Place | undefined {
  // Other names of a family are those of whole parameters.
  const weights = new Map([...modulesOf(model)].map(([name, module]) => [`${name}.weight`, module]));
  const weightNamed = byAnyName(model, weights), copies = copiedPaths(model, config);
  const declared = byAnyName(
    model,
    new Map([...declaredParams(model)].map(([path, { key, shape, tiedTo }]): [string, Place] => [
      key,
      { path: tiedTo === undefined || copies.includes(path) ? path : tiedTo, shape },
    ])),
  );
  return (name) => {
    const own = /^(.*)\.(lora_(?:[AB]|embedding_[AB]|magnitude_vector))(\.weight|\.bias)?$/.exec(name);
    if (own === null) {
      const wrapper = WRAPPERS.exec(name)?.[1], found = declared(name.replace(WRAPPERS, ""));
      return found === undefined || wrapper !== "original_module" ? found : { ...found, ofBase: true };
    }
    const found = weightNamed(`${own[1]}.weight`);
    if (found === undefined) return undefined;
    // What the configuration says of names, it may say of those in its own file.
    const module = { ...found, names: [own[1], ...found.names] }, pair = { module, config };
    const shapes = memberShapes(pair);
    const member = own[2] === "lora_magnitude_vector" ? own[2] : `${own[2]}${own[3] ?? ""}`;
    const shape = shapes.get(member);
    return shape === undefined ? undefined : { path: `${module.path}.${member}`, shape, pair };
  };
}

function checkWhole(
  tensors: ReadonlyMap<Path, Tensor>,
  { pairs, path: file }: { readonly pairs: ReadonlyMap<Path, PairOf>; readonly path: string },
): void {
  if (pairs.size === 0) {
    const seen = tensors.size === 0 ? "it has no tensor" : "it has none";
    throw new DataError(`Cannot load "${file}" as an adapter must have pairs: ${seen}; get it again`);
  }
  for (const [path, pair] of pairs) {
    const missing = [...memberShapes(pair).keys()].find((member) => !tensors.has(`${path}.${member}`));
    if (missing === undefined) continue;
    throw new DataError(`Cannot load "${file}" as pairs must be whole: "${path}.${missing}" is missing`);
  }
}
