/**
 * Values as Python writes them, which templates of chats are made for.
 *
 * @module
 */

/** A value of the template engine. */
export interface Value {
  /** What it is, such as `StringValue`. */
  readonly type: string;
  /** What it holds. */
  readonly value: unknown;
  /** Its methods. */
  readonly builtins?: ReadonlyMap<string, Value>;
}

/**
 * The text of a value, as `str` gives it.
 *
 * @param value The value
 * @returns Its text; none for what is undefined
 */
export function textOf(value: Value): string {
  if (value.type === "StringValue") return value.value as string;
  if (value.type === "UndefinedValue") return "";
  return represented(value);
}

/** What `repr` gives. */
function represented(value: Value): string {
  const { type, value: held } = value;
  if (type === "StringValue") return quoted(held as string);
  if (type === "NullValue" || type === "UndefinedValue") return "None";
  if (type === "BooleanValue") return held === true ? "True" : "False";
  if (type === "ArrayValue") return `[${(held as readonly Value[]).map(represented).join(", ")}]`;
  if (type === "TupleValue") {
    const items = (held as readonly Value[]).map(represented);
    return `(${items.join(", ")}${items.length === 1 ? "," : ""})`;
  }
  if (type === "ObjectValue") {
    const entries = [...held as ReadonlyMap<string, Value>];
    return `{${entries.map(([key, inner]) => `${quoted(key)}: ${represented(inner)}`).join(", ")}}`;
  }
  return String(value);
}

const ESCAPES: ReadonlyMap<string, string> = new Map([["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"], [
  "\\",
  "\\\\",
]]);

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  // deno-lint-ignore no-control-regex
  const inner = text.replace(/[\x00-\x1f\x7f-\xa0\xad\\'"]/g, (mark) => {
    if (mark === quote) return `\\${mark}`;
    if (mark === "'" || mark === '"') return mark;
    return ESCAPES.get(mark) ?? `\\x${mark.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
  return quote + inner + quote;
}

/**
 * A text without some characters at its ends, as `strip` gives it.
 *
 * @param text The text
 * @param options `characters` to leave out, and at which ends
 * @returns The rest
 */
export function stripped(
  text: string,
  { characters, start, end }: { readonly characters: string; readonly start: boolean; readonly end: boolean },
): string {
  const set = new Set(characters), all = [...text];
  let from = 0, to = all.length;
  while (start && from < to && set.has(all[from])) from++;
  while (end && to > from && set.has(all[to - 1])) to--;
  return all.slice(from, to).join("");
}

const MONTHS = "January February March April May June July August September October November December".split(
  " ",
);
const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/**
 * A date by the marks of `strftime`.
 *
 * @param date The date, in its own time zone
 * @param format The marks
 * @returns The text; an unknown mark stays
 */
export function dateText(date: Date, format: string): string {
  const two = (n: number): string => String(n).padStart(2, "0"), month = MONTHS[date.getMonth()];
  const day = DAYS[date.getDay()], hour = date.getHours() % 12 || 12;
  const marks: Readonly<Record<string, () => string>> = {
    Y: () => String(date.getFullYear()),
    y: () => two(date.getFullYear() % 100),
    m: () => two(date.getMonth() + 1),
    d: () => two(date.getDate()),
    e: () => String(date.getDate()).padStart(2),
    B: () => month,
    b: () => month.slice(0, 3),
    A: () => day,
    a: () => day.slice(0, 3),
    H: () => two(date.getHours()),
    I: () => two(hour),
    M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()),
    p: () => date.getHours() < 12 ? "AM" : "PM",
    F: () => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`,
    "%": () => "%",
  };
  return format.replace(/%(-?)([A-Za-z%])/g, (mark, plain, letter) => {
    const text = Object.hasOwn(marks, letter) ? marks[letter]() : mark;
    return plain === "-" ? text.replace(/^[0 ](?=\d)/, "") : text;
  });
}
