/**
 * Rules for JSON that comes from elsewhere: each says what is wrong with a value.
 *
 * @module
 */

/** What is wrong with a value, which has a name in the text; null for nothing. */
export type Rule = (value: unknown, name: string) => string | null;

/** Entries of a list or a record: more than any model has components. */
const MOST = 50_000;

/**
 * Whether a value is a record: an object that is no list.
 *
 * @param value Any value
 * @returns Whether it is one
 */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value is a whole number from 0. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Text that is cut to 80 characters. */
export function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** The rule of a condition. */
export const is = (what: string, holds: (value: unknown) => boolean): Rule => (value, name) =>
  holds(value) ? null : `${name} must be ${what}: it is ${shown(value)}`;

/** A whole number from 0. */
export const COUNT: Rule = is("a whole number from 0", isCount);
/** Any text. */
export const TEXT: Rule = is("text", (value) => typeof value === "string");
/** A record. */
export const OBJECT: Rule = is("an object", isRecord);

/**
 * JSON that nests so deep at most, as what walks through it must not exhaust the stack, and whose numbers are finite:
 * `1e999` is read as infinity, and would be written as null.
 */
export const plain = (deepest: number): Rule => (value, name) => {
  const fault = faultIn(value, { left: deepest, key: name });
  if (fault === null) return null;
  return fault === DEEP
    ? `${name} must nest ${deepest} deep at most: it is deeper`
    : `numbers of ${name} must be finite: ${JSON.stringify(fault.key.slice(0, 40))} is not`;
};

const DEEP = { key: "" };

/** Where the first number is that is not finite, or that it is too deep; null for neither. */
function faultIn(
  value: unknown,
  { left, key }: { readonly left: number; readonly key: string },
): { readonly key: string } | null {
  if (typeof value === "number" && !Number.isFinite(value)) return { key };
  if (typeof value !== "object" || value === null) return null;
  if (left === 0) return DEEP;
  return first(Object.entries(value), (inner, at) => faultIn(inner, { left: left - 1, key: at }));
}

/** A rule for a value that may be absent or null. */
export const maybe = (rule: Rule): Rule => (value, name) => value == null ? null : rule(value, name);

/** A rule for a value that may be absent, but not null. */
export const optional = (rule: Rule): Rule => (value, name) => value === undefined ? null : rule(value, name);

/** A rule for every entry of a list. */
export const list = (rule: Rule): Rule => (value, name) => {
  if (!Array.isArray(value)) return `${name} must be a list: it is ${shown(value)}`;
  if (value.length > MOST) return `${name} must have ${MOST} entries at most: it has ${value.length}`;
  return first(value.entries(), (entry, i) => rule(entry, `${name}[${i}]`));
};

/** A rule for every entry of a record. */
export const each = (rule: Rule): Rule => (value, name) => {
  if (!isRecord(value)) return OBJECT(value, name);
  const entries = Object.entries(value);
  if (entries.length > MOST) return `${name} must have ${MOST} entries at most: it has ${entries.length}`;
  return first(entries, (entry, key) => rule(entry, `${name}[${JSON.stringify(key.slice(0, 40))}]`));
};

/** Rules for named entries of a record. */
export const fields = (rules: Readonly<Record<string, Rule>>): Rule => (value, name) =>
  isRecord(value)
    ? first(Object.entries(rules), (rule, key) => rule(value[key], name === "" ? key : `${name}.${key}`))
    : OBJECT(value, name);

/** The first fault among named values. */
function first<K, V, F>(
  entries: Iterable<readonly [K, V]>,
  fault: (value: V, key: K) => F | null,
): F | null {
  for (const [key, value] of entries) {
    const found = fault(value, key);
    if (found !== null) return found;
  }
  return null;
}

/** A value in a message: short, whatever it is. */
export function shown(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "a list";
  return isRecord(value) ? "an object" : String(JSON.stringify(value)).slice(0, 40);
}
