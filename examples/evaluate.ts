/**
 * Tells how good a model is: perplexity of text or rows, multiple choice, or classes.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/evaluate.ts examples/models/sotu --data moby-dick
 * ```
 *
 * @module
 */

import { headOf } from "@firn/train/models";
import { InputError } from "@firn/train";
import { counted } from "@firn/train/report";
import { readQuestions, scoreChoices } from "./choices.ts";
import { predict } from "./classify.ts";
import { columnsIn, DATA_FLAGS } from "./data_flags.ts";
import { readFlags, runMain, topic, UsageError, type Values, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { locateData } from "./hub.ts";
import { readExamples } from "./labelled_text.ts";
import { perplexity } from "./perplexity.ts";
import { print } from "./print.ts";
import { openReader, partArgs, type Reader, READER_FLAGS } from "./prompting.ts";
import { confusionLines, scoresOf } from "./scores.ts";
import { allBatches, encodeRows } from "./text_batches.ts";
import { openData } from "./open_data.ts";
import { readData } from "./train_data.ts";

const { validation: _, "held-out": heldOut, "show-batch": __, ...DATA } = DATA_FLAGS;

/** The flags of the command. */
export const FLAGS = {
  ...DATA,
  ...topic("evaluation", {
    limit: whole("questions or labelled texts to take, from the first; all when absent", null),
    batch: whole("sequences in a batch", 8),
    length: whole("tokens of a sequence", 256, 2),
  }),
  ...READER_FLAGS,
};

type Flags = Values<typeof FLAGS>;

const USAGE = `usage: ./firn evaluate MODEL --data FILE [flags]
       deno run --allow-read --allow-write examples/evaluate.ts MODEL --data FILE [flags]

Text, or rows of text, prompts and completions or conversations: perplexity of the tokens that would be learned.
Questions with choices (.json, .jsonl): accuracy by log-likelihood, and by log-likelihood for each character of a choice, as acc and
acc_norm of lm-evaluation-harness. A model with a head for classes, and labelled texts: accuracy, F1, confusion matrix.`;

/** Perplexity of all that is named. */
async function evaluateText({ gpu, model, tokenizer, folder }: Reader, flags: Flags): Promise<void> {
  const options = { ...flags, validation: null, "held-out": heldOut.fallback, "show-batch": null, seed: 0 };
  const { data } = await openData(options);
  const { held } = await readData({ data, validation: data }, {
    flags: options,
    tokenizer,
    folder,
    family: model.family,
    validates: false,
  });
  const value = await perplexity(gpu, model, held);
  print(`perplexity  ${value.toFixed(3)}, ${Math.log(value).toFixed(4)} nats a token`);
}

/** Multiple choice; false when the file has no questions. */
async function evaluateChoices(
  { gpu, model, tokenizer }: Reader,
  { data, limit, batch }: Flags,
): Promise<boolean> {
  const sources = await locateData(data);
  if (!sources.every((path) => /\.jsonl?$/i.test(path))) return false;
  const all = await Promise.all(
    sources.map(async (path) => ({ path, questions: await readQuestions(path) })),
  );
  if (all.every(({ questions }) => questions === null)) return false;
  for (const { path, questions } of all) {
    if (questions === null) {
      throw new InputError(
        `Cannot evaluate "${path}" as all files must be of one kind: it has no questions, another one has`,
      );
    }
    const { accuracy, accuracyByLength, chance, count } = await scoreChoices(gpu, model, {
      questions: questions.slice(0, limit ?? undefined),
      tokenizer,
      batch,
    });
    const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;
    print(`${path}: ${counted(count, "question")}`);
    print(`acc         ${percent(accuracy)}`);
    print(`acc_norm    ${percent(accuracyByLength)}`);
    print(`chance      ${percent(chance)}`);
  }
  return true;
}

/** Classes of labelled texts. */
async function evaluateClasses({ gpu, model, tokenizer }: Reader, flags: Flags): Promise<void> {
  const all = await readExamples(await locateData(flags.data), columnsIn(flags.columns)!);
  const examples = all.slice(0, flags.limit ?? undefined);
  const names = Object.entries((model.source.id2label ?? {}) as Record<string, string>)
    .sort(([a], [b]) => Number(a) - Number(b)).map(([, name]) => name);
  const unknown = examples.find(({ label }) => !names.includes(label));
  if (unknown !== undefined) {
    throw new InputError(
      `Cannot evaluate as labels must be those of the model, ${
        names.join(", ")
      }: a text has "${unknown.label}"; ` +
        "rename them in the data",
    );
  }
  const rows = encodeRows(examples, { tokenizer, names, length: Math.min(flags.length, model.maxLength) });
  const length = Math.max(...rows.map(({ ids }) => ids.length));
  const batches = allBatches(rows, {
    batch: flags.batch,
    length,
    padding: Number(model.source.pad_token_id ?? 0),
  });
  const found = await predict(gpu, model, { batches, count: rows.length });
  const scores = scoresOf(rows.map(({ label }) => label), found, names.length);
  print(`accuracy    ${(100 * scores.accuracy).toFixed(2)} % of ${counted(rows.length, "text")}`);
  print(`F1          ${(100 * scores.macroF1).toFixed(2)} (mean of classes)`);
  for (const line of confusionLines(scores, names)) print(line);
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { words: [name, ...more], flags: rest } = partArgs(args);
  const { values: flags, help } = readFlags(rest, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  if (more.length > 0) throw new UsageError(`one model: "${more[0]}" is too much`);
  const reader = await openReader(name, flags, { to: Deno.stdout });
  await using _ = reader.gpu;
  switch (headOf(reader.model).task) {
    case "nextToken":
      if (!await evaluateChoices(reader, flags)) await evaluateText(reader, flags);
      return;
    case "sequenceClass":
      return await evaluateClasses(reader, flags);
    default:
      throw new UsageError(
        `a model for text or for classes of texts: "${reader.model.architecture}" is for ${
          headOf(reader.model).task
        }`,
      );
  }
}

if (import.meta.main) await runMain(main, "evaluate");
