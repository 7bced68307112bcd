/**
 * Flags about what a language model is trained on.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Columns } from "@firn/train/data";
import { type Flag, oneOf, text, texts, toggle, type Values, whole } from "./flags.ts";

/** Flags about data. */
export const DATA_FLAGS = {
  data: texts(
    "NAME|FILE",
    "moby-dick, sotu, or files: .txt, or rows in .jsonl, .json, .csv, .tsv or .parquet, which patterns such as " +
      "'d/*.jsonl' may name, or hub:owner/name[/path][@revision]; may be given several times",
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
    ["cutEnd", "cutStart", "drop", "split"],
    "what becomes of rows that are longer than --length",
    "cutEnd",
  ),
  "skip-bad-rows": whole("rows that may be left out as they cannot be used", 0, 0),
  workers: whole(
    "threads that tokenize rows; 0 for the main one; as many as are of use when absent",
    null,
    0,
  ),
  "show-batch": whole("print so many batches, learned tokens in green or in brackets, and end", null),
  validation: text("FILE", "text or rows to judge the model by; a tenth of --data when absent", null),
  "eval-tokens": whole(
    "most tokens of held-out text that perplexity is computed on; all when absent",
    null,
    2,
  ),
} as const;

/** Values of {@link DATA_FLAGS}, and the flags beside them that say how large a batch is. */
export type DataFlags = Values<typeof DATA_FLAGS> & {
  readonly batch: number;
  readonly length: number;
  readonly seed: number;
};

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

/** The day of this machine, for the flag `date`. */
export function today(): string {
  const now = new Date(), two = (n: number): string => String(n).padStart(2, "0");
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
}
