/**
 * Pairs of answers that a model is trained on, and others that judge it.
 *
 * @module
 */

import { InputError, type Model } from "@firn/train";
import {
  type Batches,
  type ChatTemplate,
  loadChatTemplate,
  openRows,
  type Rows,
  splitRows,
  type Tokenizer,
} from "@firn/train/data";
import {
  feedbackSamples,
  type FullPairBatch,
  type PairBatches,
  pairBatches,
  type PairSamples,
  pairSamples,
  type SamplePair,
} from "@firn/train/objectives";
import { counted } from "@firn/train/report";
import { columnsIn, type DataFlags, weightsOf } from "./data_flags.ts";
import { UsageError } from "./flags.ts";
import { locateData } from "./hub.ts";
import { type ObjectiveFlags, pairObjective } from "./objective_flags.ts";
import { print } from "./print.ts";
import { stage } from "./progress.ts";

type Flags = DataFlags & ObjectiveFlags;

/** Rows of preferences, or of answers that are good or not. */
type PairRows = Rows<"preference"> | Rows<"feedback">;

/** Pairs to train on, and others that judge. */
export interface Pairs {
  readonly train: readonly SamplePair[];
  readonly held: readonly SamplePair[];
  /** What is printed about them. */
  readonly notes: readonly (readonly [name: string, text: string])[];
}

/**
 * Opens and encodes what flags name.
 *
 * @param flags The flags
 * @param options The tokenizer, and the folder of the model
 * @returns The pairs
 * @throws {RowError} When a row cannot be used
 */
export async function readPairs(
  flags: Flags,
  { tokenizer, folder }: { readonly tokenizer: Tokenizer; readonly folder: string },
): Promise<Pairs> {
  if (weightsOf(flags.data) !== null) {
    throw new UsageError(
      `--data has weights, which --${pairObjective(flags)} does not: give files without them`,
    );
  }
  const rows = await stage(`reading     ${flags.data.join(", ")}`, () => openPairRows(flags.data, flags));
  const template = await loadChatTemplate(folder, {
    file: flags["chat-template"] ?? undefined,
    now: new Date(`${flags.date}T12:00`),
  });
  const split = flags.validation === null
    ? splitRows(rows as Rows<"preference">, Math.round(1 / flags["held-out"]))
    : { train: rows, heldOut: await openPairRows([flags.validation], flags) };
  return await stage(`tokenizing  ${flags.data.join(", ")}`, async (say) => {
    say(counted(rows.count, "row"));
    const train = await encode(split.train, { flags, tokenizer, template });
    const held = await encode(split.heldOut, { flags, tokenizer, template, others: train.pairs });
    const tokens = train.pairs.reduce((n, { first, second }) => n + first.ids.length + second.ids.length, 0);
    return {
      train: train.pairs,
      held: held.pairs,
      notes: [
        ["data", `${flags.data.join(", ")}, ${counted(rows.count, "row")} of kind ${rows.kind}`],
        [
          "pairs",
          `${train.pairs.length} of at most ${counted(flags.length, "token")}, ${counted(tokens, "token")}`,
        ],
        ...train.cut > 0
          ? [["left out", `${counted(train.cut, "row")} of which an answer does not fit`] as const]
          : [],
        ...train.unusable > 0
          ? [["skipped", `${counted(train.unusable, "row")} of which no tokens can be made`] as const]
          : [],
        ["held out", counted(held.pairs.length, "pair")],
      ],
    };
  });
}

/** Rows of preferences; with `--kto` what has no better answer is an answer that is good or not. */
async function openPairRows(named: readonly string[], flags: Flags): Promise<PairRows> {
  const sources = await locateData(named);
  const options = { columns: columnsIn(flags.columns)!, skipBadRows: flags["skip-bad-rows"] };
  const isFeedback = pairObjective(flags) === "kto" &&
    !["preference", "text"].includes((await openRows(sources, options)).kind);
  const rows = isFeedback
    ? await openRows(sources, { ...options, kind: "feedback" })
    : await openRows(sources, { ...options, kind: "preference" });
  if (rows.skipped > 0) print(`skipped     ${counted(rows.skipped, "row")} that cannot be used`);
  return rows;
}

async function encode(
  rows: PairRows,
  { flags, tokenizer, template, others }: {
    readonly flags: Flags;
    readonly tokenizer: Tokenizer;
    readonly template: ChatTemplate | null;
    readonly others?: readonly SamplePair[];
  },
): Promise<PairSamples> {
  const { length, long } = flags, fits = long === "cutStart" || long === "drop" ? long : "cutEnd";
  const options = { tokenizer, template, length, long: fits, skipBadRows: flags["skip-bad-rows"] } as const;
  return pairObjective(flags) === "kto"
    ? await feedbackSamples(rows, { ...options, others })
    : await pairSamples(rows as Rows<"preference">, options);
}

/** Batches of pairs. */
export interface PairTraining {
  readonly batches: Batches<FullPairBatch> & Pick<PairBatches, "steps">;
  readonly held: readonly FullPairBatch[];
  /** Tokens of a step, in the mean. */
  readonly tokensPerStep: number;
}

/**
 * Makes batches of pairs.
 *
 * @param pairs Pairs to train on, and those that judge
 * @param options The flags, the tokenizer, the model
 * @returns The batches
 * @throws {InputError} When there is no pair
 */
export function pairTraining(
  { train, held }: Pick<Pairs, "train" | "held">,
  { flags, tokenizer, model }: {
    readonly flags: DataFlags;
    readonly tokenizer: Tokenizer;
    readonly model: Model;
  },
): PairTraining {
  if (held.length === 0) {
    throw new InputError("Cannot judge the model as a held-out pair must fit --length: none does; raise it");
  }
  const { batch, length, seed } = flags, { pad_token_id: known } = model.source;
  const pad = typeof known === "number" ? known : tokenizer.eos ?? 0;
  // A reward head reads the last token, which the id of padding tells, else the mask.
  const mask = flags !== undefined && pairObjective(flags as Partial<ObjectiveFlags>) === "reward";
  const options = { batch, length, seed, pad, mask }, batches = pairBatches(train, options);
  const tokens = train.reduce((n, { first, second }) => n + first.ids.length + second.ids.length, 0);
  return {
    batches,
    held: pairBatches(held, options).all(),
    tokensPerStep: Math.round(tokens / batches.steps),
  };
}
