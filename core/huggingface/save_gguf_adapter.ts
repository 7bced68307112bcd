/**
 * Saves LoRA adapters as GGUF files, for llama.cpp.
 *
 * @module
 */

import { quantize } from "../data/gguf/quantize.ts";
import { type GgufTensor, writeGguf } from "../data/gguf/write_gguf.ts";
import { InputError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { read } from "../infer/read.ts";
import { type Model, modelParams } from "../models/model.ts";
import { withAdapter, withoutAdapter } from "../models/with_adapter.ts";
import type { Gpu } from "../runtime/device.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Path } from "../tree.ts";
import { checkStorable } from "./check_storable.ts";
import { ggufModel } from "./gguf_model.ts";
import { plainAdapter } from "./pissa.ts";
import { inOrder } from "./save_gguf.ts";

/** Options of {@link saveGgufAdapter}. */
export interface SaveGgufAdapterOptions extends FileSystemOptions {
  /** The file; replaced when it exists. */
  readonly path: string;
}

/** Both halves of a pair. */
interface Pair {
  /** Path of the layer. */
  readonly layer: Path;
  readonly a: Tensor;
  readonly b: Tensor;
  readonly scale: number;
}

/**
 * Saves the LoRA pairs of a model as a GGUF adapter, which llama.cpp applies to the GGUF file of the base (`--lora`).
 *
 * llama.cpp multiplies each pair by alpha / r, with one alpha in the file. Where pairs have other factors than that, as in
 * rank-stabilised LoRA, alpha is chosen to give the factor of the first pair, and what is left goes into the second halves.
 * Pairs of PiSSA become plain ones of twice the rank, which fit the unchanged base.
 *
 * @param gpu The device that holds the pairs
 * @param model The model; of a training run `{ ...model, params: state.params }`
 * @param options Where
 * @throws {InputError} When llama.cpp has no such model, or the adapter is more than pairs of linear layers
 * @throws {InputError} When a value is not finite
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu } from "@firn/train";
 * import { loadModel, newAdapter, saveGgufAdapter } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const base = await loadModel(gpu, "examples/models/sotu");
 * const model = await newAdapter(gpu, base, { rank: 2, targets: ["q_proj"] });
 * const path = await Deno.makeTempFile({ suffix: ".gguf" });
 * await saveGgufAdapter(gpu, model, { path });
 * assertEquals(new TextDecoder().decode((await Deno.readFile(path)).slice(0, 4)), "GGUF");
 * await Deno.remove(path);
 * ```
 */
export async function saveGgufAdapter<I extends object>(
  gpu: Gpu,
  model: Model<object, I>,
  { path, fileSystem }: SaveGgufAdapterOptions,
): Promise<void> {
  const described = ggufModel(model, path), declared = modelParams(model);
  const plain = model.adapter === undefined
    ? model
    : withAdapter(withoutAdapter(model), await plainAdapter(gpu, model));
  const pairs = pairsOf(plain, path);
  const [first] = pairs, alpha = first.scale * first.a.shape[0];
  const tensors = pairs.flatMap(({ layer, a, b, scale }): GgufTensor[] => {
    const key = declared.get(`${layer}.weight`)?.key,
      name = key === undefined ? undefined : described.nameOf(key);
    if (key === undefined || name === undefined) {
      throw described.error(`"${layer}"`, "a layer that llama.cpp has a name for");
    }
    const rest = scale * a.shape[0] / alpha;
    const values = async (half: Tensor, factor: number): Promise<Float32Array<ArrayBuffer>> => {
      const found = await read(gpu, half) as Float32Array<ArrayBuffer>;
      checkStorable(found, { name: layer, folder: path, dtype: "float32" });
      return factor === 1 ? found : found.map((value) => value * factor);
    };
    const stored = { dtype: "F32" } as const;
    return [
      {
        ...stored,
        name: `${name}.lora_a`,
        shape: a.shape,
        data: async () => quantize(await values(a, 1), "F32"),
      },
      {
        ...stored,
        name: `${name}.lora_b`,
        shape: b.shape,
        data: async () => quantize(inOrder(await values(b, rest), { key, shape: b.shape, described }), "F32"),
      },
    ];
  });
  await writeGguf(path, {
    metadata: {
      "general.architecture": ["string", described.architecture],
      "general.type": ["string", "adapter"],
      "general.name": ["string", path.replace(/^.*[\\/]|\.gguf$/gi, "")],
      "general.file_type": ["u32", 0],
      "adapter.type": ["string", "lora"],
      "adapter.lora.alpha": ["f32", alpha],
    },
    tensors,
    fileSystem,
  });
}

const HALF = /\.lora_([AB])\.weight$/;

/** The pairs of a model, in the order of its layers. */
function pairsOf<I extends object>(
  { params, adapter, loraScale = 1 }: Model<object, I>,
  path: string,
): readonly Pair[] {
  const leaves = flatten(params),
    others = [...leaves.keys(), ...adapter?.paths ?? []].filter((name) =>
      (name.includes(".lora_") || adapter?.paths.has(name)) && !HALF.test(name)
    );
  const fail = (rule: string, seen: string) =>
    new InputError(`Cannot save an adapter to "${path}" as ${rule}: ${seen}`);
  if (others.length > 0) {
    throw fail(
      "one for llama.cpp is pairs of linear layers alone",
      `it has "${others[0]}"; merge it with mergeAdapter`,
    );
  }
  const layers = [...leaves.keys()].filter((name) => name.endsWith(".lora_A.weight")).map((name) =>
    name.replace(HALF, "")
  );
  if (layers.length === 0) throw fail("the model must have LoRA pairs", "it has none; use saveGguf");
  return layers.map((layer) => ({
    layer,
    a: leaves.get(`${layer}.lora_A.weight`)!,
    b: leaves.get(`${layer}.lora_B.weight`)!,
    scale: adapter?.layers.get(layer)?.scale ?? loraScale,
  }));
}
