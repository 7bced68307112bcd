/**
 * The names of tensors: those of a checkpoint, and those that a model declares.
 *
 * @module
 */

import type { RowRange } from "../data/row_range.ts";
import type { Weights, WeightSpec } from "../data/weights.ts";
import { DataError } from "../errors.ts";
import { commonName, declaredParams, type ModelDescription } from "../models/model.ts";
import type { ListedParam } from "../nn/params.ts";

/** A checkpoint under the names that a model declares. */
export interface NamedCheckpoint extends Weights {
  /** The name in the file of a tensor. */
  storedName(name: string): string;
  /** Whether the file has several tensors in the place of one. */
  inParts(name: string): boolean;
}

/**
 * Shows a checkpoint under the names that a model declares. A tensor that the model does not declare keeps its name. Tensors
 * that stand in the place of a declared one, such as those of each expert, are shown as that one.
 *
 * @param file The checkpoint
 * @param model The model, whose family knows other names
 * @returns The same tensors; disposing of the file disposes of them
 * @throws {DataError} When a part of a tensor is missing, or of another shape or type
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
  const renamed = {
    ...file,
    names: [...storedNames.keys()],
    specs: new Map([...storedNames].map(([name, stored]) => [name, file.specs.get(stored)!])),
    read: (name: string, rows?: RowRange) => file.read(storedName(name), rows),
    readF32: (name: string, rows?: RowRange) => file.readF32(storedName(name), rows),
  };
  return { ...joined(renamed, [...declaredParams(model).values()]), storedName };
}

/** Shows parts of declared tensors as these. */
function joined(file: Weights, declared: readonly ListedParam[]): Omit<NamedCheckpoint, "storedName"> {
  const { names, specs } = file, partsOf = new Map<string, readonly string[]>();
  for (const { key, parts = [] } of declared) {
    if (!specs.has(key) && parts.some((part) => specs.has(part))) partsOf.set(key, parts);
  }
  const inParts = (name: string): boolean => partsOf.has(name);
  if (partsOf.size === 0) return { ...file, inParts };
  const whole = new Map(
    declared.filter(({ key }) => inParts(key)).map((param) => [param.key, specOf(file, param)]),
  );
  const taken = new Set([...partsOf.values()].flat());
  const each = async <T extends Uint8Array | Float32Array>(
    name: string,
    { rows, read, make }: {
      readonly rows?: RowRange;
      readonly read: (name: string) => Promise<T>;
      readonly make: (length: number) => T;
    },
  ): Promise<T> => {
    const parts = partsOf.get(name)!, [count] = whole.get(name)!.shape, step = parts.length / count;
    const { from, to } = rows ?? { from: 0, to: count }, some: T[] = [];
    for (const part of parts.slice(from * step, to * step)) some.push(await read(part));
    const all = make(some.reduce((length, one) => length + one.length, 0));
    let at = 0;
    for (const one of some) {
      all.set(one, at);
      at += one.length;
    }
    return all;
  };
  return {
    ...file,
    names: [...names.filter((name) => !taken.has(name)), ...partsOf.keys()],
    specs: new Map([...[...specs].filter(([name]) => !taken.has(name)), ...whole]),
    inParts,
    async read(name, rows) {
      if (!inParts(name)) return await file.read(name, rows);
      return await each(name, {
        rows,
        read: (part) => file.read(part),
        make: (length) => new Uint8Array(length),
      });
    },
    async readF32(name, rows) {
      if (!inParts(name)) return await file.readF32(name, rows);
      return await each(name, {
        rows,
        read: (part) => file.readF32(part),
        make: (length) => new Float32Array(length),
      });
    },
  };
}

/** The spec of a tensor that a file has in parts, which must all be there and alike. */
function specOf({ specs, path }: Weights, { key, parts = [], shape }: ListedParam): WeightSpec {
  const [first] = parts.flatMap((part) => specs.get(part) ?? []), width = shape.at(-1)!;
  const expected = [shape.slice(0, -1).reduce((n, d) => n * d, 1) / parts.length, width];
  for (const part of parts) {
    const spec = specs.get(part),
      seen = spec === undefined ? "it is missing" : `it has [${spec.shape.join(", ")}]`;
    if (spec?.shape.join() !== expected.join()) {
      throw new DataError(
        `Cannot load "${part}" of "${path}" as "${key}" consists of tensors of shape [${
          expected.join(", ")
        }]: ${seen}`,
      );
    }
    if (spec.dtype === first.dtype) continue;
    throw new DataError(
      `Cannot load "${part}" of "${path}" as all parts of "${key}" must have one type, ${first.dtype}: it is ${spec.dtype}`,
    );
  }
  return { ...first, shape, begin: 0, end: parts.length * (first.end - first.begin) };
}
