/**
 * Damages JSON where it means something: types, numbers, keys, depth, lengths.
 *
 * @module
 */

import { type Draw, oneOf } from "./draw.ts";
import { mutateBytes } from "./mutate_bytes.ts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Where a value stands: keys and indices from the root. */
type Place = readonly (string | number)[];

const OTHERS = [
  "null",
  "true",
  "false",
  '""',
  '"text"',
  '"256"',
  "[]",
  "[1]",
  "{}",
  '{"a":1}',
  "0",
  "-1",
  "1.5",
];

const NUMBERS = [
  "1e999",
  "-1e999",
  "1e308",
  "5e-324",
  "-0",
  "1e-7",
  "0.1",
  "99999",
  "2147483648",
  "4294967296",
]
  .concat([
    "9007199254740991",
    "9007199254740993",
    "18446744073709551616",
    "-1",
    "0",
    "1",
    "2",
    "1.5",
    '"7"',
  ]);

const STRINGS = [
  "",
  " ",
  "__proto__",
  "constructor",
  "../../../etc/passwd",
  "/dev/zero",
  "a\u0000b",
  "%s%n",
  "\u{1f4a5}",
]
  .concat([
    "\u001b[31mred\u001b[0m\u0007",
    "\u001b]0;title\u0007",
    "\u202eabc",
    "line\nline",
    "\u009b2J",
    "\ud800",
  ])
  .concat(["<script>alert(1)</script>", "((a+)+)+$", "a".repeat(70_000), "é".repeat(3_000)]);

const KEYS = [
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "",
  "a",
  "\u001b[2J",
  "k".repeat(500),
];

const DEPTHS = [3, 40, 2_000, 100_000];

const isTree = (value: Json): value is Json[] | { [key: string]: Json } =>
  typeof value === "object" && value !== null;

/** Walks down from the root, and stops anywhere. */
function placeIn(value: Json, draw: Draw): Place {
  const place: (string | number)[] = [];
  for (let at = value; isTree(at) && Object.keys(at).length > 0 && (place.length === 0 || draw(4) > 0);) {
    const key = oneOf(draw, Object.keys(at));
    place.push(Array.isArray(at) ? Number(key) : key);
    at = (at as { [key: string]: Json })[key];
  }
  return place;
}

const valueAt = (root: Json, place: Place): Json =>
  place.reduce<Json>((at, key) => (at as { [key: string]: Json })[key], root);

/** What becomes of the member at a place: its text, with its key; none, one, or two of them. */
type Edit = (key: string | null, value: Json) => readonly string[];

/** Writes JSON, with the member at a place as the edit wants it. */
function write(value: Json, place: Place, edit: Edit): string {
  if (place.length === 0) return edit(null, value).join(",");
  if (!isTree(value)) return JSON.stringify(value);
  const [first, ...rest] = place, list = Array.isArray(value);
  const members = Object.entries(value).flatMap(([key, inner]) => {
    const name = list ? null : JSON.stringify(key), head = name === null ? "" : `${name}:`;
    if (String(first) !== key) return [head + JSON.stringify(inner)];
    return rest.length === 0 ? edit(name, inner) : [head + write(inner, rest, edit)];
  });
  return list ? `[${members.join(",")}]` : `{${members.join(",")}}`;
}

const member = (key: string | null, text: string): string => key === null ? text : `${key}:${text}`;

/** Another value in the same place. */
const replaced = (text: (value: Json) => string): Edit => (key, value) => [member(key, text(value))];

function near(value: Json, draw: Draw): string {
  if (typeof value !== "number") return oneOf(draw, OTHERS);
  return String(oneOf(draw, [value + 1, value - 1, 2 * value, -value, value + 0.5, 1000 * value]));
}

/** Bytes that a damaged file may have: large files are no damage. */
const LARGEST = 2_000_000;

function grown(value: Json, draw: Draw): string {
  const text = JSON.stringify(value), most = Math.ceil(LARGEST / (text.length + 1));
  const copies = Array.from({ length: Math.min(most, oneOf(draw, [2, 50, 3_000, 100_000])) }, () => text);
  const inner = text.slice(1, -1);
  return Array.isArray(value) && inner !== "" ? `[${copies.fill(inner).join(",")}]` : `[${copies.join(",")}]`;
}

function deep(value: Json, draw: Draw): string {
  const depth = oneOf(draw, DEPTHS), [open, close] = oneOf(draw, [["[", "]"], ['{"a":', "}"]]);
  return open.repeat(depth) + JSON.stringify(value) + close.repeat(depth);
}

function editOf(root: Json, draw: Draw): Edit {
  switch (draw(12)) {
    case 0:
      return () => [];
    case 1:
      return (key, value) => [member(key, JSON.stringify(value)), member(key, oneOf(draw, OTHERS))];
    case 2:
      return (_, value) => [member(JSON.stringify(oneOf(draw, KEYS)), JSON.stringify(value))];
    case 3:
      return (key, value) => [member(key, JSON.stringify(value)), '"__proto__":{"polluted":true}'];
    case 4:
      return replaced((value) => deep(value, draw));
    case 5:
      return replaced((value) => grown(value, draw));
    case 6:
      return replaced(() => JSON.stringify(valueAt(root, placeIn(root, draw))));
    case 7:
      return replaced(() => JSON.stringify(oneOf(draw, STRINGS)));
    case 8:
    case 9:
      return replaced((value) => typeof value === "number" ? oneOf(draw, NUMBERS) : oneOf(draw, OTHERS));
    case 10:
      return replaced((value) => near(value, draw));
    default:
      return replaced(() => oneOf(draw, OTHERS));
  }
}

/**
 * Damages JSON.
 *
 * @param text The JSON
 * @param draw Random numbers
 * @param below Where it is damaged: keys from the root; anywhere when absent
 * @returns Text that is JSON, or nearly
 */
export function mutateJson(text: string, draw: Draw, below: Place = []): string {
  const root: Json = JSON.parse(text), start = valueAt(root, below);
  const once = write(root, [...below, ...placeIn(start, draw)], editOf(start, draw));
  if (draw(5) > 0) return once;
  try {
    const again: Json = JSON.parse(once);
    return write(again, [...below, ...placeIn(valueAt(again, below), draw)], editOf(start, draw));
  } catch {
    return once;
  }
}

/** Damages a file of JSON: mostly what it means, else its bytes. */
export function mutateJsonFile(bytes: Uint8Array, draw: Draw): Uint8Array {
  if (draw(5) === 0) return mutateBytes(bytes, draw);
  return new TextEncoder().encode(mutateJson(new TextDecoder().decode(bytes), draw));
}
