/**
 * Text to train on, and the card of a model.
 *
 * @module
 */

import { type Encoder, packCorpus, splitCorpus, tokenWindows } from "@firn/train/data";
import { rateOf } from "../../../examples/model_card.ts";
import { openText } from "../../../examples/text.ts";
import type { Draw } from "../draw.ts";
import { oneOf } from "../draw.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson } from "../mutate_json.ts";
import { makeModel, TEXT } from "../small_model.ts";
import { type Context, demand, type Format } from "./types.ts";

const ROWS = [TEXT, "Call me Ishmael. Some years ago.", "½ ② \u{1f4a5} a café"];

/** A tokenizer of one id for each unit of text. */
const LETTERS: Encoder = {
  encode: (text) => Array.from(text, (_, i) => 1 + i % 200),
  eos: 0,
  before: [],
  after: [],
};

async function load({ folder }: Context, name: string): Promise<void> {
  const path = `${folder}/${name}`, corpus = await openText(path), file = await Deno.readFile(path);
  const text = (await Array.fromAsync(corpus.pieces(), ({ text }) => text)).join("");
  demand(corpus.length === text.length, `${text.length} characters of ${corpus.length}`);
  const expected = name.endsWith(".txt")
    ? new TextDecoder().decode(file)
    : new TextDecoder().decode(file).split("\n").map((row) => row.trim() === "" ? "" : JSON.parse(row).text)
      .join("");
  demand(text === expected, "another text than the file's");
  const { train, heldOut } = await splitCorpus(corpus);
  demand(train.length > 0 && heldOut.length > 0, "a part without text");
  tokenWindows(await packCorpus(LETTERS, train), { length: 4, batch: 1, seed: 0 });
}

/** Damages one row, as JSON. */
function mutateRow(bytes: Uint8Array, draw: Draw): Uint8Array {
  if (draw(4) === 0) return mutateBytes(bytes, draw);
  const rows = new TextDecoder().decode(bytes).trimEnd().split("\n"), at = draw(rows.length);
  return new TextEncoder().encode(rows.with(at, mutateJson(rows[at], draw)).join("\n") + "\n");
}

const RATES = [
  "1e999",
  "-1",
  "0",
  "NaN",
  "0x10",
  "1e-9",
  "'0.1'",
  '"0.01"',
  "",
  "[1]",
  "1_000",
  "\u001b[2J",
  "0.02 0.03",
];

/** Damages the front matter of the card. */
function mutateCard(bytes: Uint8Array, draw: Draw): Uint8Array {
  if (draw(3) === 0) return mutateBytes(bytes, draw);
  return new TextEncoder().encode(new TextDecoder().decode(bytes).replace("0.02", () => oneOf(draw, RATES)));
}

const rows = ROWS.map((text) => JSON.stringify({ text }) + "\n").join("");

/** The formats of text. */
export const text: readonly Format[] = [
  {
    name: ".txt data",
    count: 50,
    file: "text.txt",
    make: ({ folder }) => Deno.writeTextFile(`${folder}/text.txt`, ROWS.join("\n")),
    mutate: mutateBytes,
    load: (context) => load(context, "text.txt"),
  },
  {
    name: ".jsonl data",
    count: 70,
    file: "text.jsonl",
    make: ({ folder }) => Deno.writeTextFile(`${folder}/text.jsonl`, rows),
    mutate: mutateRow,
    load: (context) => load(context, "text.jsonl"),
  },
  {
    name: "model card",
    count: 60,
    file: "README.md",
    make: ({ folder }) => makeModel(folder),
    mutate: mutateCard,
    async load({ folder }) {
      const { rate } = await rateOf(folder, null);
      demand(rate >= 1e-7 && rate <= 0.1, `the rate ${rate}`);
    },
  },
];
