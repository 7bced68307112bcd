/**
 * Flags about what a language model is trained on.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Columns } from "@firn/train/data";
import { type Flag, oneOf, text, texts, toggle, topic, UsageError, type Values, whole } from "./flags.ts";

/** Share of the data that is held out where nothing else is said. */
const HELD_OUT_SHARE = 0.1;

/** Flags about data. */
export const DATA_FLAGS = {
  ...topic("data", {
    data: texts(
      "NAME|FILE",
      "moby-dick, sotu, or files: .txt, or rows in .jsonl, .json, .csv, .tsv or .parquet, which patterns such as " +
        "'d/*.jsonl' may name, or hub:owner/name[/path][@revision]; given several times, all of them, or a mixture by weights: " +
        "--data a.jsonl:0.7 --data b.jsonl:0.3",
      ["moby-dick"],
    ),
    columns: columnsFlag(),
    loss: oneOf(
      ["auto", "assistant", "completion", "all"],
      "which tokens of rows are learned: those of all answers, of the completion or the last answer, or all; auto: of answers " +
        "and completions where there are some",
      "auto",
    ),
    "chat-template": text("FILE", "a template of conversations, in place of the model's own", null),
    date: dateFlag(),
    pack: toggle("put several rows, which do not see each other, into one sequence"),
    long: oneOf(
      ["auto", "cutEnd", "cutStart", "drop", "split"],
      "what becomes of rows that are longer than --length; auto: texts are split, the end of others is cut",
      "auto",
    ),
    "skip-bad-rows": whole("rows that may be left out as they cannot be used", 0, 0),
    workers: whole(
      "threads that tokenize rows; 0 for the main one; as many as are of use when absent",
      null,
      0,
    ),
    "show-batch": whole("print so many batches, learned tokens in green or in brackets, and end", null),
  }),
  ...topic("evaluation", {
    validation: text("FILE", "text or rows to judge the model by; a part of --data when absent", null),
    "held-out": heldOutFlag(),
    "eval-tokens": whole(
      "most tokens of held-out text that perplexity is computed on; all when absent",
      null,
      2,
    ),
  }),
} as const;

/** Values of {@link DATA_FLAGS}: enough to open data. */
export type OpenFlags = Values<typeof DATA_FLAGS> & {
  /** Sets for evaluation while it trains, as `NAME=FILE`; none when absent. */
  readonly "evaluate-on"?: readonly string[];
};

/** Values of {@link DATA_FLAGS}, and the flags beside them that say how large a batch is. */
export type DataFlags = OpenFlags & {
  readonly batch: number;
  readonly length: number;
  readonly seed: number;
};

function heldOutFlag(): Flag<number> {
  return {
    placeholder: "X",
    about: "share of --data that is held out to judge the model by; of rows one in a whole number",
    fallback: HELD_OUT_SHARE,
    read: (value) => {
      const n = value.trim() === "" ? NaN : Number(value);
      if (n > 0 && n <= 0.5) return n;
      throw new InputError("a number above 0 and at most 0.5");
    },
  };
}

function dateFlag(): Flag<string | null> {
  return {
    placeholder: "YYYY-MM-DD",
    about: "the day that templates are told; today when absent",
    fallback: null,
    read: (value) => {
      if (!/^\d{4}-\d\d-\d\d$/.test(value) || Number.isNaN(Date.parse(value))) {
        throw new InputError("a day: YYYY-MM-DD");
      }
      return value;
    },
  };
}

/** The flag of columns. */
export function columnsFlag(): Flag<string> {
  const rule = "names and columns, such as prompt=question,completion=answer";
  return {
    placeholder: "NAME=COLUMN,...",
    about: "the columns that rows are made of, by the names that they get",
    fallback: "",
    read: (value) => {
      if (columnsIn(value) === null) throw new InputError(rule);
      return value;
    },
  };
}

/**
 * Reads columns by name.
 *
 * @param value Pairs of names and columns
 * @returns The columns; null when it cannot be understood
 */
export function columnsIn(value: string): Columns | null {
  const pairs = value === ""
    ? []
    : value.split(",").map((pair) => pair.split("=").map((word) => word.trim()));
  const names = pairs.map(([name]) => name);
  const fine = pairs.every((pair) => pair.length === 2 && pair.every((word) => word !== "")) &&
    new Set(names).size === names.length;
  return fine ? Object.fromEntries(pairs) : null;
}

/**
 * Reads the weights of data: `FILE:0.7`.
 *
 * @param data What `--data` names
 * @returns Names and their weights, in proportion; null where none has one
 * @throws {UsageError} When some have a weight and others none, or a weight is not above 0
 */
export function weightsOf(
  data: readonly string[],
): readonly { readonly name: string; readonly weight: number }[] | null {
  const parts = data.map((name) => /^(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)$/i.exec(name));
  if (parts.every((part) => part === null)) return null;
  return parts.map((part, i) => {
    if (part === null) {
      throw new UsageError(`--data must have a weight for all or for none: "${data[i]}" has none`);
    }
    const weight = Number(part[2]);
    if (!(weight > 0 && weight < Infinity)) {
      throw new UsageError(`--data must have weights above 0: "${data[i]}" has ${part[2]}`);
    }
    return { name: part[1], weight };
  });
}

/** The day of this machine, for the flag `date`. */
export function today(): string {
  const now = new Date(), two = (n: number): string => String(n).padStart(2, "0");
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
}
