/**
 * Rows as examples to learn from: text, a prompt and its completion, a conversation, a choice, an answer that is good or not, a
 * label, an image.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import { isRecord, shown } from "../../json_rules.ts";
import { type Conversation, type Message, messagesOf, toolsOf } from "./conversation.ts";
import type { Row } from "./row.ts";

/** What a row teaches. */
export type Example =
  | TextExample
  | CompletionExample
  | ChatExample
  | PreferenceExample
  | FeedbackExample
  | LabelExample
  | ImageExample;

/** A text. */
export interface TextExample {
  /** What it is. */
  readonly kind: "text";
  /** The text. */
  readonly text: string;
}

/** A prompt and how it goes on. */
export interface CompletionExample {
  /** What it is. */
  readonly kind: "completion";
  /** What comes before. */
  readonly prompt: string;
  /** What is to follow. */
  readonly completion: string;
}

/** A conversation. */
export interface ChatExample extends Conversation {
  /** What it is. */
  readonly kind: "chat";
  /** Messages before this number, from 0, are no answers to learn; 0 when absent. */
  readonly answersFrom?: number;
}

/** Two answers, of which one is better. */
export interface PreferenceExample {
  /** What it is. */
  readonly kind: "preference";
  /** What comes before. */
  readonly prompt: readonly Message[];
  /** The better answer. */
  readonly chosen: readonly Message[];
  /** The other answer. */
  readonly rejected: readonly Message[];
  /** How far apart rewards of both should be; absent where nothing is said. */
  readonly margin?: number;
}

/** An answer, and whether it is good. */
export interface FeedbackExample {
  /** What it is. */
  readonly kind: "feedback";
  /** What comes before. */
  readonly prompt: readonly Message[];
  /** The answer. */
  readonly completion: readonly Message[];
  /** Whether it is good. */
  readonly good: boolean;
}

/** A text, or two, and their class. */
export interface LabelExample {
  /** What it is. */
  readonly kind: "label";
  /** The text. */
  readonly text: string;
  /** Its class. */
  readonly label: string;
}

/** An image, as a file or its bytes, and its class or its text. */
export interface ImageExample {
  /** What it is. */
  readonly kind: "image";
  /** Bytes of a PNG or JPEG, or the path of one. */
  readonly image: Uint8Array | string;
  /** Its class. */
  readonly label?: string;
  /** The text. */
  readonly text?: string;
}

/** What kinds of rows there are. */
export type ExampleKind = Example["kind"];

/** The examples of a kind. */
export type ExampleOf<K extends ExampleKind> = Extract<Example, { readonly kind: K }>;

/** Columns by which kinds are known, the first that fits; and other names of some columns. */
const KINDS: readonly (readonly [kind: ExampleKind, columns: readonly string[]])[] = [
  ["chat", ["messages"]],
  ["completion", ["prompt", "completion"]],
  ["preference", ["chosen", "rejected"]],
  ["image", ["image"]],
  ["text", ["text"]],
];

/** Columns by other names, where the usual one is absent: ShareGPT's, and those of Alpaca. */
const OTHERS: readonly (readonly [name: string, other: string])[] = [
  ["messages", "conversations"],
  ["completion", "output"],
  ["completion", "response"],
];

/**
 * Finds what kind of example a row is.
 *
 * @param row The row
 * @param columns Columns that were asked for by name: of the kinds that fit, the one with most of them is meant
 * @returns The kind by its columns
 * @throws {DataError} When they are those of no kind
 */
export function kindOf(row: Row, columns: Columns = {}): ExampleKind {
  const named = withUsualNames(row);
  const asked = (names: readonly string[]): number =>
    names.filter((name) => Object.hasOwn(columns, name)).length;
  const [found] = KINDS.filter(([, names]) => names.every((name) => (named[name] ?? null) !== null))
    .toSorted(([, a], [, b]) => asked(b) - asked(a));
  if (found !== undefined) return found[0];
  throw new DataError(
    'a row must have "text", "prompt" and "completion", "messages", "chosen" and "rejected", or "image": ' +
      `it has ${
        Object.keys(row).slice(0, 8).map((name) => `"${name.slice(0, 40)}"`).join(", ") || "no column"
      }; say which of its columns is which, as in text=body`,
  );
}

/** Columns by name, taken from others: `prompt` from `question`. */
export type Columns = Readonly<{ [column: string]: string }>;

/**
 * Names the columns of a row.
 *
 * @param row The row
 * @param columns The column that each name is taken from; a dot leads into an object
 * @returns The row with these names
 * @throws {DataError} When a column is missing
 */
export function withColumns(row: Row, columns: Columns): Row {
  const named = Object.entries(columns).map(([name, from]): [string, unknown] => {
    const value = Object.hasOwn(row, from) ? row[from] : at(row, from.split("."));
    if (value !== undefined) return [name, value];
    const seen = Object.keys(row).slice(0, 8).map((key) => `"${key.slice(0, 40)}"`).join(", ");
    throw new DataError(`it must have the column "${from}": it has ${seen}`);
  });
  return named.length === 0 ? row : { ...row, ...Object.fromEntries(named) };
}

function at(value: unknown, [key, ...rest]: readonly string[]): unknown {
  if (key === undefined) return value;
  return isRecord(value) && Object.hasOwn(value, key) ? at(value[key], rest) : undefined;
}

/**
 * Reads a row.
 *
 * @param row The row
 * @param kind What it is to be
 * @returns The example
 * @throws {DataError} When it is none
 */
export function exampleOf(row: Row, kind: ExampleKind): Example {
  return READERS[kind](withUsualNames(row));
}

const READERS: { readonly [kind in ExampleKind]: (row: Row) => Example } = {
  text: (row) => ({ kind: "text", text: text(row, "text") }),
  completion: completionOf,
  chat: (row) => ({ kind: "chat", messages: messagesOf(row.messages), ...toolsIn(row) }),
  preference: preferenceOf,
  feedback: feedbackOf,
  label: (row) => ({ kind: "label", text: text(row, "text"), label: label(row) }),
  image: (row) => ({
    kind: "image",
    image: imageOf(row.image),
    ...(row.label ?? null) !== null && { label: label(row) },
    ...(row.text ?? null) !== null && { text: text(row, "text") },
  }),
};

function withUsualNames(row: Row): Row {
  let named = row;
  for (const [name, other] of OTHERS) {
    if ((named[name] ?? null) === null && (named[other] ?? null) !== null) {
      named = { ...named, [name]: named[other] };
    }
  }
  if ((named.prompt ?? null) !== null || typeof named.instruction !== "string") return named;
  const input = typeof named.input === "string" && named.input.trim() !== "" ? `\n\n${named.input}` : "";
  return { ...named, prompt: named.instruction + input };
}

function completionOf(row: Row): Example {
  if (!Array.isArray(row.prompt) && !Array.isArray(row.completion)) {
    return { kind: "completion", prompt: text(row, "prompt", true), completion: text(row, "completion") };
  }
  const prompt = messagesOf(row.prompt), completion = messagesOf(row.completion);
  return { kind: "chat", messages: [...prompt, ...completion], ...toolsIn(row), answersFrom: prompt.length };
}

/** Messages, or a text as one of a role. */
function said(value: unknown, role: string): readonly Message[] {
  return typeof value === "string" ? [{ role, content: value }] : messagesOf(value);
}

function preferenceOf(row: Row): Example {
  return {
    kind: "preference",
    prompt: (row.prompt ?? null) === null ? [] : said(row.prompt, "user"),
    chosen: said(row.chosen, "assistant"),
    rejected: said(row.rejected, "assistant"),
    ...(row.margin ?? null) !== null && { margin: numberIn(row, "margin") },
  };
}

function feedbackOf(row: Row): Example {
  return {
    kind: "feedback",
    prompt: (row.prompt ?? null) === null ? [] : said(row.prompt, "user"),
    completion: said(row.completion, "assistant"),
    good: isGood(row.label),
  };
}

/** Whether an answer is good: true or 1 and false or 0, perhaps as text. */
function isGood(label: unknown): boolean {
  const name = String(label).toLowerCase();
  if (name === "true" || name === "1") return true;
  if (name === "false" || name === "0") return false;
  throw new DataError(`there must be true or false, or 1 or 0, in "label": it is ${shown(label)}`);
}

function numberIn(row: Row, column: string): number {
  const value = Number(row[column]);
  if (Number.isFinite(value)) return value;
  throw new DataError(`there must be a number in "${column}": it is ${shown(row[column])}`);
}

function toolsIn(row: Row): { readonly tools?: readonly unknown[] } {
  const tools = toolsOf(row.tools);
  return tools === undefined ? {} : { tools };
}

function text(row: Row, column: string, mayBeBlank = false): string {
  const value = row[column];
  if (typeof value === "string" && (mayBeBlank || value.trim() !== "")) return value;
  const seen = typeof value === "string" ? "blank" : shown(value);
  throw new DataError(`there must be text in "${column}": it is ${seen}`);
}

/** A class: a name, or a number. */
function label(row: Row): string {
  const { label } = row;
  if (typeof label === "string" && label !== "") return label;
  if (typeof label === "boolean" || (typeof label === "number" && Number.isFinite(label))) {
    return String(label);
  }
  throw new DataError(`there must be a name or a number in "label": it is ${shown(label)}`);
}

/** An image: a path, bytes, or both, as Hugging Face stores them. */
function imageOf(value: unknown): Uint8Array | string {
  if (typeof value === "string" && value !== "") return value;
  if (value instanceof Uint8Array) return value;
  if (isRecord(value)) {
    if (value.bytes instanceof Uint8Array) return value.bytes;
    if (typeof value.path === "string" && value.path !== "") return value.path;
  }
  throw new DataError(`there must be a path or the bytes of an image in "image": it is ${shown(value)}`);
}
