/**
 * The names of tensors: those of a checkpoint, and those that a model declares.
 *
 * @module
 */

import type { Weights } from "../data/weights.ts";
import { commonName, declaredParams, type ModelDescription } from "../models/model.ts";

/** A checkpoint under the names that a model declares. */
export interface NamedCheckpoint extends Weights {
  /** The name in the file of a tensor. */
  storedName(name: string): string;
}

/**
 * Shows a checkpoint under the names that a model declares. A tensor that the model does not declare keeps its name.
 *
 * @param file The checkpoint
 * @param model The model, whose family knows other names
 * @returns The same tensors; disposing of the file disposes of them
 */
export function underDeclaredNames<I extends object>(
  file: Weights,
  model: ModelDescription<I>,
): NamedCheckpoint {
  const declared = [...declaredParams(model).values()].map(({ key }) => key), known = new Set(declared);
  const byCommonName = new Map(declared.map((key) => [commonName(model.family, key), key]));
  const storedNames = new Map<string, string>();
  for (const name of file.names) {
    const key = known.has(name) ? name : byCommonName.get(commonName(model.family, name));
    // Where two tensors have one name in common, the second keeps its own and is refused as unexpected.
    const free = key !== undefined && !storedNames.has(key) && (key === name || !file.specs.has(key));
    storedNames.set(free ? key : name, name);
  }
  const storedName = (name: string): string => storedNames.get(name) ?? name;
  return {
    ...file,
    names: [...storedNames.keys()],
    specs: new Map([...storedNames].map(([name, stored]) => [name, file.specs.get(stored)!])),
    read: (name, rows) => file.read(storedName(name), rows),
    readF32: (name, rows) => file.readF32(storedName(name), rows),
    storedName,
  };
}
