/**
 * The record of a checkpoint: it may come from anyone, so every field is checked before it is used.
 *
 * @module
 */

import { type Blocked, isBlocked } from "../../kernels/blocks.ts";
import { DataError } from "../errors.ts";
import { fingerprint, wordsOf } from "../fingerprint.ts";
import {
  COUNT,
  each,
  fields,
  is,
  isCount,
  isRecord,
  maybe,
  OBJECT,
  optional,
  plain,
  type Rule,
  shown,
  TEXT,
} from "../json_rules.ts";
import type { Json } from "../policy.ts";
import type { Spec } from "../spec.ts";
import type { Path } from "../tree.ts";
import { moduleOf } from "../train/freeze/components.ts";
import type { SavedState } from "../train/types.ts";

/** Version of the layout. Other versions are refused. */
export const VERSION = 1;

/** What a checkpoint keeps beside its tensors. */
export interface SavedRecord extends Omit<SavedState, "params" | "leaves" | "settings"> {
  /** Settings of the run; a text of an earlier version of Firn. */
  readonly settings: SavedState["settings"] | string;
  /** Version of the layout. */
  readonly version: number;
  /** Paths of the parameters in the order of the model, which the columns of the ring follow. The file is sorted. */
  readonly order: readonly Path[];
  /** What was saved beside the state. */
  readonly extra: Json;
  /** The rank whose file it is, besides that of rank 0; absent in that. */
  readonly rank?: number;
  /** What the files of all ranks of a run have in common; absent where one process saves alone. Earlier versions wrote none. */
  readonly run?: string;
  /** Tensors that are stored as words of blocks; none when absent. */
  readonly blocks?: { readonly [name: string]: Spec & { readonly dtype: Blocked } };
  /** The checksum of the bytes of each tensor; earlier versions wrote none. */
  readonly sums?: { readonly [name: string]: number };
}

const PATHS = is(
  "a list of different paths",
  (value) =>
    Array.isArray(value) && value.every((path) => typeof path === "string") &&
    new Set(value).size === value.length,
);
/** Wrappers of policies nest, each by two. */
const DEEPEST = 100;
const JSON_VALUE: Rule = (value, name) =>
  is("JSON", (seen) => seen !== undefined)(value, name) ?? plain(DEEPEST)(value, name);

/** The spec of a tensor that is stored as words of blocks. */
const BLOCKS: Rule = is(
  "a shape and int8 or nf4",
  (value) =>
    isRecord(value) && isBlocked(value.dtype as string) && Array.isArray(value.shape) &&
    value.shape.length > 0 &&
    value.shape.every(isCount),
);

/** What a field of the settings may be that a later version adds. */
const SCALAR = is("no list and no object", (value) => value === null || typeof value !== "object");

/** Earlier versions wrote a text. */
const SETTINGS = fields({
  optimizer: TEXT,
  rates: maybe(TEXT),
  policy: maybe(TEXT),
  steps: COUNT,
  lookEvery: COUNT,
  thawWarmup: COUNT,
  precision: TEXT,
  // Earlier versions wrote none.
  accumulate: optional(COUNT),
  validateEvery: maybe(COUNT),
  validation: maybe(TEXT),
  data: maybe(TEXT),
  model: maybe(TEXT),
  trained: COUNT,
  parameters: COUNT,
  trainable: TEXT,
  // Earlier versions wrote none.
  exchange: maybe(TEXT),
});

function settingsFault(value: unknown, name: string): string | null {
  if (typeof value === "string") return null;
  return OBJECT(value, name) ?? SETTINGS(value, '"settings"') ?? each(SCALAR)(value, '"settings"');
}

/** What is known of exchanges. */
const EXCHANGES: readonly (keyof NonNullable<SavedState["exchanges"]>)[] = ["count", "step", "ranks"];

/** What each field must be. */
const RULES: Readonly<Record<keyof Omit<SavedRecord, "version">, Rule>> = {
  settings: settingsFault,
  step: COUNT,
  policy: JSON_VALUE,
  frozen: PATHS,
  probed: optional(PATHS),
  since: optional(
    is("a step for each component", (value) => isRecord(value) && Object.values(value).every(isCount)),
  ),
  skipped: optional(
    is(
      "numbers of steps",
      (value) =>
        isRecord(value) && [value.skipped, value.judged, value.until].every(isCount) &&
        isRecord(value.before) && Object.values(value.before).every(isCount),
    ),
  ),
  wide: optional(is("true or false", (value) => typeof value === "boolean")),
  validation: maybe(
    is(
      "a step and a finite loss",
      (value) => isRecord(value) && isCount(value.step) && Number.isFinite(value.loss),
    ),
  ),
  best: maybe(COUNT),
  ending: maybe(
    is(
      'a reason, "steps", "frozen" or "stopped", with its step',
      (value) =>
        isRecord(value) && ["steps", "frozen", "stopped"].includes(value.reason as string) &&
        isCount(value.step) && (value.best === null || isCount(value.best)),
    ),
  ),
  chosen: optional(
    is(
      "an adapter and its variants",
      (value) =>
        isRecord(value) && typeof value.adapter === "string" && isRecord(value.variants) &&
        Object.values(value.variants).every(isRecord),
    ),
  ),
  exchanges: optional(
    is(
      "counts, a step and ranks",
      (value) =>
        isRecord(value) && EXCHANGES.every((name) => isCount(value[name])) &&
        (value.sent === undefined || isCount(value.sent)),
    ),
  ),
  rank: optional(COUNT),
  run: optional(TEXT),
  order: PATHS,
  extra: JSON_VALUE,
  blocks: optional(each(BLOCKS)),
  sums: optional(each(COUNT)),
};

/**
 * Reads the record of a checkpoint.
 *
 * @param text What the file keeps; null when it keeps none
 * @param path The file, for errors
 * @returns The record
 * @throws {DataError} When it is not JSON, of another version, or a field is not what it must be; the error names it
 */
export function parseRecord(text: string | null, path: string): SavedRecord {
  const refuse = (rule: string, seen: string): DataError =>
    new DataError(`Cannot resume from "${path}" as ${rule}: ${seen}`);
  const layout = `it must be a checkpoint of layout ${VERSION}`;
  if (text === null) throw refuse(layout, "its metadata has no training state");
  let record: unknown;
  try {
    record = JSON.parse(text);
  } catch (cause) {
    throw new DataError(
      `Cannot resume from "${path}" as its training state must be JSON: ${(cause as Error).message}`,
      { cause },
    );
  }
  if (!isRecord(record)) throw refuse(layout, "its training state is no record");
  if (record.version !== VERSION) throw refuse(layout, `it is of layout ${shown(record.version)}`);
  for (const [field, rule] of Object.entries(RULES)) {
    const fault = rule(record[field], `"${field}" of its training state`);
    if (fault !== null) {
      throw new DataError(`Cannot resume from "${path}" as ${fault}; use another checkpoint`);
    }
  }
  const { checksum, ...rest } = record as unknown as SavedRecord & { readonly checksum?: string };
  const wrong = disagreement(rest);
  if (wrong !== null) {
    throw refuse(
      `"${wrong[0]}" of its training state must fit the others`,
      `${wrong[1]}; use another checkpoint`,
    );
  }
  // Earlier versions wrote none.
  if (checksum !== undefined && checksum !== checksumOf(JSON.stringify(rest))) {
    throw refuse("its training state must be as it was saved", "it was changed; use another checkpoint");
  }
  return rest;
}

/** The text that a file keeps of a record, with a checksum. */
export function textOf(record: SavedRecord): string {
  const text = JSON.stringify(record);
  return `${text.slice(0, -1)},"checksum":"${checksumOf(text)}"}`;
}

function checksumOf(text: string): string {
  return fingerprint([wordsOf(text)]);
}

/** The first field that contradicts others, and how; null when there is none. */
function disagreement(record: SavedRecord): readonly [field: string, seen: string] | null {
  const { step, order, frozen, since, best, validation, ending } = record;
  const probed = record.probed ?? [], components = new Set(order.map(moduleOf));
  for (const [field, paths] of Object.entries({ frozen, probed, since: Object.keys(since ?? {}) })) {
    const stray = paths.find((path) => !components.has(path));
    if (stray !== undefined) return [field, `no parameter belongs to "${stray}"`];
  }
  const active = probed.find((path) => !frozen.includes(path));
  if (active !== undefined) return ["probed", `"${active}" is not frozen`];
  const steps: readonly (readonly [string, number])[] = [
    ...Object.values(since ?? {}).map((at) => ["since", at] as const),
    ...[record.skipped?.skipped, record.skipped?.judged, record.skipped?.until].map((at = 0) =>
      ["skipped", at] as const
    ),
    ["best", best ?? 0],
    ["validation", validation?.step ?? 0],
    ["ending", ending?.best ?? 0],
  ];
  const late = steps.find(([, at]) => at > step);
  if (late !== undefined) return [late[0], `it names step ${late[1]}, the state is of step ${step}`];
  if (ending && ending.step !== step) {
    return ["ending", `it is of step ${ending.step}, the state is of step ${step}`];
  }
  return null;
}
