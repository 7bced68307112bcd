/**
 * What a line of a log must hold. A log is data, perhaps of a stranger: each line is checked before anything uses it.
 *
 * @module
 */

import type { Line } from "./types.ts";

/** What is wrong with a value; null for nothing. */
type Rule = (value: unknown, name: string) => string | null;

/** Names in a line: more than any model has components. */
const MOST = 50_000;
/** Objects in objects. */
const DEEPEST = 32;

const is = (what: string, holds: (value: unknown) => boolean): Rule => (value, name) =>
  holds(value) ? null : `${name} must be ${what}: it is ${shown(value)}`;

const NUMBER = is("a number", Number.isFinite);
const MEASURED = is("a number or null", (value) => value === null || Number.isFinite(value));
const COUNT = is("a whole number from 0", (value) => Number.isSafeInteger(value) && (value as number) >= 0);
const TEXT = is("text", (value) => typeof value === "string");
const OBJECT = is("an object", isRecord);

const maybe = (rule: Rule): Rule => (value, name) => value == null ? null : rule(value, name);

const list = (rule: Rule): Rule => (value, name) => {
  if (!Array.isArray(value)) return `${name} must be a list: it is ${shown(value)}`;
  if (value.length > MOST) return `${name} must have ${MOST} entries at most: it has ${value.length}`;
  return first(value.entries(), (entry, i) => rule(entry, `${name}[${i}]`));
};

const each = (rule: Rule): Rule => (value, name) => {
  if (!isRecord(value)) return OBJECT(value, name);
  const entries = Object.entries(value);
  if (entries.length > MOST) return `${name} must have ${MOST} entries at most: it has ${entries.length}`;
  return first(entries, (entry, key) => rule(entry, `${name}[${JSON.stringify(key.slice(0, 40))}]`));
};

const fields = (rules: Readonly<Record<string, Rule>>): Rule => (value, name) =>
  isRecord(value)
    ? first(Object.entries(rules), (rule, key) => rule(value[key], name === "" ? key : `${name}.${key}`))
    : OBJECT(value, name);

const COST = fields({ launches: COUNT, flops: NUMBER, matmulFlops: NUMBER, bytes: NUMBER, memory: NUMBER });
const QUALITY = { perplexity: maybe(NUMBER), accuracy: maybe(NUMBER), sample: maybe(TEXT) };
const REASON = fields({ signal: TEXT, value: MEASURED, threshold: MEASURED, rule: TEXT });
const ENDING = fields({
  reason: is("steps, frozen or stopped", (value) => ["steps", "frozen", "stopped"].includes(value as string)),
  step: COUNT,
  best: maybe(COUNT),
});
const COMPONENT = fields({
  path: TEXT,
  layer: maybe(COUNT),
  kind: TEXT,
  size: COUNT,
  cost: maybe(fields({ dW: NUMBER })),
});

/** By kind of line. */
const LINES: { readonly [kind in Line["kind"]]: Rule } = {
  start: fields({ config: OBJECT, adapter: TEXT, ...QUALITY }),
  components: fields({ components: list(COMPONENT) }),
  step: fields({
    step: COUNT,
    loss: MEASURED,
    validation: maybe(NUMBER),
    learningRate: MEASURED,
    tokensPerSecond: maybe(NUMBER),
    stepMs: NUMBER,
    launches: COUNT,
    flops: NUMBER,
    frozen: COUNT,
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
  if (!shallow(line, DEEPEST)) return `its objects must nest ${DEEPEST} deep at most`;
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
  const { loss, learningRate } = line;
  return { ...known(line), loss, learningRate, readings: Object.fromEntries(readings) };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The first fault among named values. */
function first<K, V>(
  entries: Iterable<readonly [K, V]>,
  fault: (value: V, key: K) => string | null,
): string | null {
  for (const [key, value] of entries) {
    const found = fault(value, key);
    if (found !== null) return found;
  }
  return null;
}

function shallow(value: unknown, left: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return left > 0 && Object.values(value).every((inner) => shallow(inner, left - 1));
}

/** A value in a message: short, whatever it is. */
function shown(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "a list";
  return isRecord(value) ? "an object" : String(JSON.stringify(value)).slice(0, 40);
}
