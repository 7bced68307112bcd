/**
 * What a line of a log must hold. A log is data, perhaps of a stranger: each line is checked before anything uses it.
 *
 * @module
 */

import {
  COUNT,
  each,
  fields,
  is,
  isCount,
  isRecord,
  list,
  maybe,
  OBJECT,
  optional,
  plain,
  type Rule,
  shown,
  TEXT,
} from "../json_rules.ts";
import type { Line } from "./types.ts";

/** Objects in objects. */
const DEEPEST = 32;

const NUMBER = is("a number", Number.isFinite);
const COUNT_OR_NULL = is("a whole number from 0 or null", (value) => value === null || isCount(value));
const MEASURED = is("a number or null", (value) => value === null || Number.isFinite(value));

const COST = fields({
  launches: COUNT,
  flops: NUMBER,
  matmulFlops: NUMBER,
  bytes: NUMBER,
  memory: NUMBER,
  constants: optional(NUMBER),
  exchanged: optional(NUMBER),
});
const QUALITY = { perplexity: maybe(NUMBER), accuracy: maybe(NUMBER), sample: maybe(TEXT) };
const REASON = fields({ signal: TEXT, value: MEASURED, threshold: MEASURED, rule: TEXT });
const THRESHOLD = fields({ signal: TEXT, tau: is("a number above 0", (value) => (value as number) > 0) });
const ENDING = fields({
  reason: is("steps, frozen or stopped", (value) => ["steps", "frozen", "stopped"].includes(value as string)),
  step: COUNT,
  best: COUNT_OR_NULL,
});
const COMPONENT = fields({
  path: TEXT,
  parameters: list(TEXT),
  layer: COUNT_OR_NULL,
  kind: TEXT,
  size: COUNT,
  cost: optional(fields({ forward: NUMBER, dX: NUMBER, dW: NUMBER, depth: COUNT })),
});
const RUN = fields({
  steps: COUNT,
  lookEvery: optional(is("a whole number from 1", (value) => isCount(value) && value > 0)),
  batchSize: optional(COUNT),
  tokens: optional(NUMBER),
  optimizer: optional(fields({ name: TEXT, moments: list(fields({ name: TEXT, meaning: TEXT })) })),
});

/** By kind of line. */
const LINES: { readonly [kind in Line["kind"]]: Rule } = {
  start: fields({ config: OBJECT, adapter: TEXT, threshold: maybe(THRESHOLD), ...QUALITY }),
  components: fields({ components: list(COMPONENT), run: optional(RUN) }),
  step: fields({
    step: COUNT,
    loss: MEASURED,
    validation: maybe(NUMBER),
    learningRate: MEASURED,
    tokensPerSecond: maybe(NUMBER),
    memoryBytes: maybe(COUNT),
    metrics: maybe(each(MEASURED)),
    stepMs: NUMBER,
    launches: COUNT,
    flops: NUMBER,
    frozen: COUNT,
    exchanged: maybe(COUNT),
    exchangeMs: maybe(NUMBER),
    exchangeWaitedMs: maybe(NUMBER),
    clip: maybe(NUMBER),
    skipped: optional(is("true", (value) => value === true)),
    readings: each(each(MEASURED)),
  }),
  freeze: fields({
    step: COUNT,
    frozen: list(TEXT),
    thawed: list(TEXT),
    before: COST,
    after: COST,
    reasons: maybe(each(REASON)),
  }),
  evaluation: fields({ step: COUNT, set: optional(TEXT), metrics: each(MEASURED) }),
  sample: fields({ step: COUNT, text: TEXT }),
  end: fields({ ...QUALITY, ending: maybe(ENDING) }),
};

/**
 * Says what is wrong with a line of a log.
 *
 * @param line Any JSON
 * @returns The field and what it must be; null when it is a line
 */
export function lineFault(line: unknown): string | null {
  if (!isRecord(line)) return OBJECT(line, "it");
  const wild = plain(DEEPEST)(line, "it");
  if (wild !== null) return wild;
  const { kind } = line;
  if (typeof kind !== "string" || !Object.hasOwn(LINES, kind)) {
    return `kind must be one of ${Object.keys(LINES).join(", ")}: it is ${shown(kind)}`;
  }
  return LINES[kind as Line["kind"]](line, "");
}

/**
 * Leaves out what was not measured: JSON writes a number that is none as null.
 *
 * @param line A line without fault
 * @returns The line, where an absent number is absent
 */
export function measuredOnly(line: Line): Line {
  const known = <T extends object>(record: T): T =>
    Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null)) as T;
  if (line.kind === "start" || line.kind === "end") return known(line);
  if (line.kind !== "step") return line;
  const readings = Object.entries(line.readings).map(([signal, values]) => [signal, known(values)]);
  const { loss, learningRate, metrics } = line;
  return {
    ...known(line),
    ...metrics != null && { metrics: known(metrics) },
    loss,
    learningRate,
    readings: Object.fromEntries(readings),
  };
}
