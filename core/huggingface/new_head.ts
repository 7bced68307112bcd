/**
 * Another head for a model than its folder has.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { listParams } from "../nn/params.ts";
import { commonName, declaredParams, headOf, type ModelDescription } from "../models/model.ts";
import { sameShape } from "../spec.ts";
import type { Path } from "../tree.ts";
import type { NamedCheckpoint } from "./stored_names.ts";

/** Which head a loaded model gets, where it is not the one that its `config.json` names. */
export interface HeadOptions {
  /** Its entry of `architectures`. */
  readonly architecture?: string;
  /** How many classes it tells apart, or their names. */
  readonly labels?: number | readonly string[];
  /** Seed of the parameters that the folder does not have; 0 when absent. */
  readonly seed?: number;
}

/**
 * The configuration of a model with the head that is asked for.
 *
 * @param source Content of `config.json`
 * @param options The head
 * @returns The content as it would be with that head
 * @throws {InputError} When there are no labels
 */
export function withHead(
  source: Readonly<Record<string, unknown>>,
  { architecture, labels }: HeadOptions,
): Readonly<Record<string, unknown>> {
  const named = architecture === undefined ? source : { ...source, architectures: [architecture] };
  if (labels === undefined) return named;
  const names = typeof labels === "number" ? Array.from({ length: labels }, (_, i) => `LABEL_${i}`) : labels;
  if (names.length === 0 || new Set(names).size < names.length) {
    throw new InputError(
      `Cannot make a head as "labels" must be names that differ, or their number: got ${labels}`,
    );
  }
  const { num_labels: _, ...rest } = named;
  return {
    ...rest,
    id2label: Object.fromEntries(names.map((name, i) => [i, name])),
    label2id: Object.fromEntries(names.map((name, i) => [name, i])),
  };
}

/** How a head that is asked for differs from what a checkpoint has. */
export interface HeadDifference {
  /** Parameters to be drawn anew. */
  readonly fresh: ReadonlySet<Path>;
  /** Names of tensors of other heads, which are left out. */
  readonly left: readonly string[];
}

/**
 * Compares the head that is asked for with a checkpoint.
 *
 * @param checkpoint The checkpoint
 * @param model The model with that head
 * @param options The head
 * @returns What is new and what is left out; nothing where no head is asked for
 */
export function compareHead<I extends object>(
  checkpoint: NamedCheckpoint,
  model: ModelDescription<I>,
  { architecture, labels }: HeadOptions,
): HeadDifference {
  if (architecture === undefined && labels === undefined) return { fresh: new Set(), left: [] };
  const { family } = model;
  const own = listParams(headOf(model).params(model.config));
  const declared = declaredParams(model), keys = new Set([...declared.values()].map(({ key }) => key));
  const fits = ([path, { key, shape }]: [Path, { key: string; shape: readonly number[] }]): boolean => {
    const spec = checkpoint.specs.get(declared.get(path)?.key ?? key);
    return spec !== undefined && (labels === undefined || sameShape(spec.shape, shape));
  };
  const others = new Set(
    Object.values(family.heads).flatMap((head) =>
      [...listParams(head.params(model.config)).values()].map(({ key }) => commonName(family, key))
    ),
  );
  const prefix = `${family.basePrefix}.`;
  const prefixed = checkpoint.names.some((name) => checkpoint.storedName(name).startsWith(prefix));
  const isOther = (name: string): boolean =>
    others.has(commonName(family, name)) || prefixed && !name.startsWith(prefix);
  return {
    fresh: new Set(
      [...own].filter(([, { tiedTo, spare }]) => tiedTo === undefined && !spare).filter((one) => !fits(one))
        .map(([path]) => path),
    ),
    left: checkpoint.names.filter((name) => !keys.has(name) && isOther(name)),
  };
}

/**
 * Says what became of the head.
 *
 * @param difference How it differs from the checkpoint
 * @param options `path` of the checkpoint, the architecture and the seed
 * @returns Notes for the user
 */
export function headNotes(
  { fresh, left }: HeadDifference,
  { path, architecture, seed }: {
    readonly path: string;
    readonly architecture: string;
    readonly seed: number;
  },
): string[] {
  const list = (names: Iterable<string>): string => [...names].map((name) => `"${name}"`).join(", ");
  return [
    ...fresh.size === 0
      ? []
      : [`${list(fresh)} of ${architecture} start anew from seed ${seed}, as "${path}" does not have them`],
    ...left.length === 0 ? [] : [`${list(left)} of "${path}" belong to another head and are left out`],
  ];
}
