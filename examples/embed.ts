/**
 * Searches a text by the hidden states of a model, beside word counts.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/embed.ts "a storm at sea"
 * ```
 *
 * @module
 */

import { counted } from "@firn/train/report";
import { columnsFlag, columnsIn } from "./data_flags.ts";
import { readFlags, runMain, text, UsageError, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { MODEL } from "./hub.ts";
import {
  centred,
  cosine,
  countWords,
  cutPassages,
  embed,
  passagesOf,
  scoreSearch,
  type Vectors,
} from "./passages.ts";
import { print } from "./print.ts";
import { clock, stage } from "./progress.ts";
import { openReader, partArgs, READER_FLAGS } from "./prompting.ts";
import { openText } from "./text.ts";

/** The flags of the command. */
export const FLAGS = {
  model: MODEL,
  data: text(
    "NAME|FILE",
    "the text that is searched: moby-dick, sotu, a .txt file, or rows in .jsonl, .json, .csv, .tsv or .parquet, which patterns " +
      "may name, or hub:owner/name[/path][@revision]",
    "moby-dick",
  ),
  columns: columnsFlag(),
  words: whole("most words of a passage; a row has its own", 60),
  passages: whole("most passages, from all over the text", 400, 4),
  top: whole("passages to show", 3),
  batch: whole("passages in a batch", 16),
  ...READER_FLAGS,
};

const USAGE = `usage: ./firn embed ["QUERY"] [flags]
       deno run --allow-read --allow-write examples/embed.ts ["QUERY"] [flags]

Makes a vector of each passage of a text, the mean of a model's hidden states, and finds the passages that are nearest to a query.
Without a query, tells how well it finds the passage that follows another: the mean of one over its rank (MRR), and how often it
comes first, beside counts of words.`;

/** The passages that are nearest to a query, as lines. */
function nearest(scores: readonly number[], passages: readonly string[], top: number): string[] {
  const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, top);
  return order.map((i) => {
    const text = passages[i];
    return `  ${scores[i].toFixed(3)}  ${text.length > 160 ? `${text.slice(0, 160)}...` : text}`;
  });
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { words: [query, ...more], flags: rest } = partArgs(args);
  const { values: flags, help } = readFlags(rest, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (more.length > 0) throw new UsageError("give the query in quotes, as one argument");
  if (query?.trim() === "") throw new UsageError("the query must not be empty");
  const began = performance.now();
  const corpus = await stage(
    `reading     ${flags.data}`,
    () => openText(flags.data, { columns: columnsIn(flags.columns)! }),
  );
  const cut = { words: flags.words, most: flags.passages };
  const passages = query === undefined ? await passagesOf(corpus, cut) : await cutPassages(corpus, cut);
  if (query === undefined && passages.length < 4) {
    throw new UsageError(
      `--data must have neighbours of ${
        counted(flags.words, "word")
      } each where there is no query: it has too few; give a query, or fewer --words`,
    );
  }
  if (passages.length < 2) throw new UsageError("--data must have two passages or more: it has one");
  const { gpu, model, tokenizer } = await openReader(flags.model, flags, { to: Deno.stdout });
  await using _ = gpu;
  const embedded = (texts: readonly string[]) =>
    stage(`embedding   ${counted(texts.length, "text")}`, (say) =>
      embed(gpu, model, {
        texts,
        tokenizer,
        batch: flags.batch,
        onBatch: (done) => say(`${done} of ${texts.length}`),
      }));
  const rows = await embedded(passages),
    vectors = centred(rows, rows),
    words = countWords(passages, passages);
  if (query !== undefined) {
    const [byModel] = centred(await embedded([query]), rows), [byWords] = countWords([query], passages);
    const scoresOf = (one: Float32Array, all: Vectors): number[] => all.map((row) => cosine(one, row));
    const near = scoresOf(byModel, vectors), same = scoresOf(byWords, words);
    print(`nearest by word counts and the model together`);
    for (const line of nearest(near.map((x, i) => x + same[i]), passages, flags.top)) print(line);
    print(`nearest by word counts`);
    for (const line of nearest(same, passages, flags.top)) print(line);
    return;
  }
  const line = (name: string, similarity: (a: number, b: number) => number, note = ""): void => {
    const { meanReciprocalRank, first } = scoreSearch(passages.length, similarity);
    print(
      `${name.padEnd(22)} MRR ${meanReciprocalRank.toFixed(3)}, first ${(100 * first).toFixed(1)} %${note}`,
    );
  };
  print(`finding the next of ${counted(passages.length, "passage")} of ${counted(flags.words, "word")}`);
  line("word counts", (a, b) => cosine(words[a], words[b]), ", the baseline");
  line("model", (a, b) => cosine(vectors[a], vectors[b]));
  line("model and word counts", (a, b) => cosine(vectors[a], vectors[b]) + cosine(words[a], words[b]));
  print(`in ${clock(performance.now() - began)}`);
}

if (import.meta.main) await runMain(main, "embed");
