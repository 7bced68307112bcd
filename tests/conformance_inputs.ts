/**
 * What folders of reference results hold for a model: its batch, and the names of its parameters.
 *
 * @module
 */

import {
  classLoss,
  type ImageInput,
  InputError,
  type Loss,
  type Model,
  nextTokenLoss,
  type Path,
  type Tensor,
  tensor,
  type TokenInput,
} from "@firn/train";
import { openSafetensors } from "@firn/train/data";
import { commonName, declaredParams } from "../core/models/model.ts";

/** A model of any input. */
export type ConformModel = Model<object, never>;

/** What a batch may hold: text, images, or both, and labels. */
export type Batch = { readonly labels: Tensor } & Partial<TokenInput & ImageInput>;

/** The batch, and which rows of its logits are compared. */
export interface Inputs {
  readonly batch: Batch;
  /** False where a position is padding; absent where all positions count. */
  readonly mask?: readonly boolean[];
}

/** Tensors of a batch, by their names in `golden.safetensors`. */
const INPUTS = {
  input_ids: "inputIds",
  attention_mask: "attentionMask",
  token_type_ids: "tokenTypeIds",
  pixel_values: "pixelValues",
  pixel_attention_mask: "pixelAttentionMask",
  labels: "labels",
} as const;

/** Reads the batch of a folder. */
export async function readInputs(folder: string): Promise<Inputs> {
  await using file = await openSafetensors(`${folder}/golden.safetensors`);
  const tensors = new Map<string, Tensor>();
  for (const name of file.names) {
    if (!name.startsWith("input.")) continue;
    const key = name.slice("input.".length), { dtype, shape } = file.specs.get(name)!;
    if (!Object.hasOwn(INPUTS, key)) {
      throw new InputError(
        `Cannot compare "${name}" of "${file.path}" as inputs are ${Object.keys(INPUTS).join(", ")}: ${key}`,
      );
    }
    const values = await file.readF32(name);
    tensors.set(
      INPUTS[key as keyof typeof INPUTS],
      tensor(dtype === "F32" ? values : Int32Array.from(values), shape),
    );
  }
  const batch = Object.fromEntries(tensors) as object as Batch;
  const name = "input.attention_mask";
  if (batch.attentionMask === undefined) return { batch };
  const mask = Array.from(await file.readF32(name), (value) => value === 1);
  if (!mask.includes(true)) {
    throw new InputError(
      `Cannot compare "${name}" of "${file.path}" as some position must count: all are padding`,
    );
  }
  return { batch, mask };
}

/** The loss of a model, by the task of its head. */
export function lossOf(model: ConformModel): Loss<object, Batch> {
  const loss = model.family.heads[model.architecture].task === "nextToken"
    ? nextTokenLoss(model as Model)
    : classLoss(model as Model);
  return loss as Loss<object, Batch>;
}

/** The path of a parameter or of a part of a pair, by any name that another implementation may have for it. */
export function pathsByName(model: ConformModel): (name: string) => Path {
  const byName = new Map(
    [...declaredParams(model)].map(([path, { key }]) => [commonName(model.family, key), path]),
  );
  return (name) => {
    const [layer, member] = name.split(/(?=\.lora_(?:[AB]|embedding_[AB]|magnitude_vector)(?:\.|$))/);
    const path = byName.get(commonName(model.family, member === undefined ? name : `${layer}.weight`));
    if (path === undefined || member === undefined) return path ?? name;
    return path.replace(/\.weight$/, member.replace(/(magnitude_vector)\.weight$/, "$1"));
  };
}
