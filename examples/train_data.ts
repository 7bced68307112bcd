/**
 * What a language model is trained on: running text, or rows.
 *
 * @module
 */

import { InputError, type TokenBatch } from "@firn/train";
import {
  type Batches,
  type Corpus,
  evaluationBatches,
  joinSources,
  loadChatTemplate,
  mixSources,
  openEncoder,
  packCorpus,
  type RowBatches,
  rowBatches,
  type RowBatchesOptions,
  type RowEncoder,
  type SampleSource,
  sampleSource,
  splitCorpus,
  splitRows,
  type Tokenizer,
  tokenWindows,
} from "@firn/train/data";
import { counted } from "@firn/train/report";
import type { DataFlags } from "./data_flags.ts";
import { UsageError } from "./flags.ts";
import { isStream, type OpenData, type OpenedData, type RowData } from "./open_data.ts";
import { stage } from "./progress.ts";

/** Tokens of rows that judge the model, at most. */
const MOST_HELD = 2 ** 22;

/** Bytes of rows that are worth a worker. */
const FOR_A_WORKER = 2 ** 20;

/** What the model is trained on, and what it is judged by. */
export interface TrainData extends Disposable {
  readonly batches: Batches<TokenBatch>;
  readonly held: readonly TokenBatch[];
  /** Sets for evaluation while it trains. */
  readonly sets: Readonly<Record<string, readonly TokenBatch[]>>;
  /** Tokens of a step, in the mean. */
  readonly tokensPerStep: number;
  /** What decides while it trains, such as when to stop; not what the run is judged by. */
  readonly watched: readonly TokenBatch[] | undefined;
  /** Batches of an epoch; null where only reading all data would tell. */
  readonly epoch: number | null;
  /** What is printed about it. */
  readonly notes: readonly (readonly [name: string, text: string])[];
}

/** What {@link readData} needs. */
export interface ReadOptions {
  readonly flags: DataFlags;
  readonly tokenizer: Tokenizer;
  /** Folder of the model. */
  readonly folder: string;
  /** The model's name, and what its input may have. */
  readonly family: { readonly name: string; readonly inputs?: readonly string[] };
  /** Whether a part of the data is to decide while it trains. */
  readonly validates: boolean;
}

type WithEncoder = ReadOptions & {
  readonly encoder: RowEncoder;
  /** Is called with what was made of rows that can be read; how many of them have no sample is known once they are. */
  readonly onSource?: (source: CountedSource) => void;
};

type CountedSource = ReturnType<typeof sampleSource>;

/**
 * Makes batches of text or rows.
 *
 * @param opened What was opened
 * @param options Tokenizer, model, flags
 * @returns The batches
 */
export async function readData(opened: OpenedData, options: ReadOptions): Promise<TrainData> {
  return "corpus" in opened.data
    ? await readText({ ...opened, data: opened.data }, options)
    : await readRows({ ...opened, data: opened.data }, options);
}

type Text = OpenedData & { readonly data: { readonly corpus: Corpus } };

async function readText(
  { data, validation, sets = new Map() }: Text,
  options: ReadOptions,
): Promise<TrainData> {
  using encoder = await encoderFor([validation, ...sets.values()], options);
  const { flags, tokenizer, validates } = options, evaluated = flags["eval-tokens"] ?? Infinity;
  const { train, heldOut } = validation === null
    ? await splitCorpus(data.corpus, flags["held-out"])
    : { train: data.corpus, heldOut: null };
  // What decides when to stop is not what the run is judged by.
  const parts = validates ? await splitCorpus(train) : { train, heldOut: null };
  const tokens = await stage(`tokenizing  ${flags.data.join(", ")}`, async (say) => {
    const pack = (corpus: Corpus, what: string) =>
      packCorpus(tokenizer, corpus, {
        onProgress: ({ done, total }) => say(`${what}, ${Math.floor(100 * done / total)} %`),
      });
    return {
      train: await pack(parts.train, "to train on"),
      validation: parts.heldOut && await pack(parts.heldOut, "to validate on"),
      heldOut: heldOut && await pack(heldOut, "held out"),
    };
  });
  const batches = tokenWindows(tokens.train, flags);
  const held = tokens.heldOut === null
    ? await heldFrom(validation!, { ...options, encoder })
    : tokenWindows(tokens.heldOut.subarray(0, evaluated), flags).all();
  const heldTokens = tokens.heldOut?.length ?? 0,
    watched = tokens.validation && tokenWindows(tokens.validation, flags).all();
  return {
    [Symbol.dispose]() {},
    batches,
    held,
    sets: await setBatches(sets, { ...options, encoder }),
    tokensPerStep: flags.batch * flags.length,
    watched: watched ?? undefined,
    epoch: batches.count / flags.batch,
    notes: [
      [
        "data",
        `${flags.data.join(", ")}, ${counted(batches.count, "window")} of ${
          counted(flags.length, "token")
        }, ${counted(held.length, "batch")} held out`,
      ],
      ...evaluated < heldTokens
        ? [
          [
            "evaluation",
            `first ${evaluated} of ${heldTokens} held-out tokens, as --eval-tokens says`,
          ] as const,
        ]
        : [],
    ],
  };
}

/** Batches of sets for evaluation while it trains. */
async function setBatches(
  sets: ReadonlyMap<string, OpenData>,
  options: WithEncoder,
): Promise<TrainData["sets"]> {
  const found: Record<string, readonly TokenBatch[]> = {};
  for (const [name, data] of sets) found[name] = await heldFrom(data, options);
  return found;
}

/** Batches of a file that judges the model. */
async function heldFrom(
  opened: OpenData,
  options: WithEncoder,
): Promise<readonly TokenBatch[]> {
  const { flags, tokenizer } = options, tokens = flags["eval-tokens"] ?? Infinity;
  if ("parts" in opened) return await heldRows(opened, options);
  const stream = await packCorpus(tokenizer, opened.corpus);
  return tokenWindows(stream.subarray(0, tokens), flags).all();
}

async function batchesOf(
  data: RowData,
  { encoder, ...options }: WithEncoder,
): Promise<RowBatches> {
  const { flags, tokenizer, family } = options, { pack, batch, length, seed } = flags;
  if (pack && !family.inputs?.includes("segments")) {
    throw new UsageError(`--pack needs a model that keeps documents apart: "${family.name}" does not`);
  }
  const sources = sourcesOf(data, { encoder, ...options }), [only] = sources;
  const mixed = sources.length === 1
    ? only
    : mixSources(sources.map((source, i) => ({ source, weight: data.parts[i].weight })), { seed });
  return await rowBatches(mixed, { length, batch, seed, pad: tokenizer.eos ?? 0, ...shapeOf(data, flags) });
}

/** Batches of rows that judge the model, of which there are as many in memory as {@link MOST_HELD} says. */
async function heldRows(data: RowData, options: WithEncoder): Promise<readonly TokenBatch[]> {
  const { flags, tokenizer } = options, { batch, length } = flags;
  const tokens = Math.min(flags["eval-tokens"] ?? Infinity, MOST_HELD);
  const source = joinSources(sourcesOf(data, options));
  return await evaluationBatches(source, {
    length,
    batch,
    tokens,
    pad: tokenizer.eos ?? 0,
    ...shapeOf(data, flags),
  });
}

function sourcesOf({ parts }: RowData, { encoder, flags, onSource }: WithEncoder): SampleSource[] {
  const skipBadRows = flags["skip-bad-rows"];
  return parts.map(({ rows }) => {
    const source = sampleSource(rows, { encode: encoder.encode, skipBadRows });
    onSource?.(source);
    return source;
  });
}

/** Text alone is a stream; all else keeps its rows. */
function shapeOf(
  { parts }: RowData,
  flags: DataFlags,
): Required<Pick<RowBatchesOptions, "pack" | "windows" | "long">> {
  const onlyText = parts.every(({ rows }) => rows.kind === "text");
  const { pack, long } = flags;
  return {
    pack,
    windows: onlyText && isStream(flags),
    long: long === "auto" ? onlyText ? "split" : "cutEnd" : long,
  };
}

/** Opens what encodes rows: in this thread where there are so few that to start another takes longer. */
async function encoderFor(
  opened: readonly (OpenData | null)[],
  { flags, folder }: ReadOptions,
): Promise<RowEncoder> {
  const rows = opened.flatMap((data) =>
    data !== null && "parts" in data ? data.parts.map(({ rows }) => rows) : []
  );
  const bytes = rows.reduce((n, { blocks }) => n + blocks.reduce((m, block) => m + block.bytes, 0), 0);
  const file = flags["chat-template"] ?? undefined, now = new Date(`${flags.date}T12:00`);
  if (rows.some(({ kind }) => kind === "chat") && await loadChatTemplate(folder, { file, now }) === null) {
    throw new InputError(
      `Cannot train on conversations as "${folder}" must have a chat template: it has none; name one with --chat-template FILE`,
    );
  }
  const most = Math.max(1, Math.min(navigator.hardwareConcurrency - 1, 8));
  const workers = flags.workers ?? Math.min(most, Math.floor(bytes / FOR_A_WORKER));
  const loss = flags.loss === "auto" ? undefined : flags.loss;
  return await openEncoder(folder, { chatTemplate: file, loss, now, workers });
}

type Parts = OpenedData & { readonly data: RowData };

/** Holds out rows of each part: a tenth, where no share is given. */
function splitParts(
  { parts }: RowData,
  share = 0.1,
): { readonly train: RowData; readonly heldOut: RowData } {
  const split = parts.map(({ rows, ...part }) => ({ part, ...splitRows(rows, Math.round(1 / share)) }));
  return {
    train: { parts: split.map(({ part, train }) => ({ ...part, rows: train })) },
    heldOut: { parts: split.map(({ part, heldOut }) => ({ ...part, rows: heldOut })) },
  };
}

async function readRows(
  { data, validation, sets = new Map() }: Parts,
  options: ReadOptions,
): Promise<TrainData> {
  using stack = new DisposableStack();
  const encoder = stack.use(await encoderFor([data, validation, ...sets.values()], options)),
    made: CountedSource[] = [];
  const given = { ...options, encoder, onSource: (source: CountedSource) => void made.push(source) };
  const { flags, validates } = options, count = data.parts.reduce((n, { rows }) => n + rows.count, 0);
  const split = validation === null ? splitParts(data, flags["held-out"]) : { train: data, heldOut: null };
  // What decides when to stop is not what the run is judged by.
  const parts = validates ? splitParts(split.train) : { train: split.train, heldOut: null };
  return await stage(`tokenizing  ${flags.data.join(", ")}`, async (say) => {
    say(counted(count, "row"));
    const batches = await batchesOf(parts.train, given), { first } = batches;
    const held = split.heldOut === null
      ? await heldFrom(validation!, given)
      : await heldRows(split.heldOut, given);
    const watched = parts.heldOut && await heldRows(parts.heldOut, given);
    const opened = stack.move();
    return {
      [Symbol.dispose]: () => opened.dispose(),
      batches,
      held,
      sets: await setBatches(sets, { ...options, encoder }),
      tokensPerStep: Math.round(first.tokens / (batches.steps ?? Math.ceil(first.rows / flags.batch))),
      watched: watched ?? undefined,
      epoch: batches.steps,
      notes: [
        ...notesOf(parts.train),
        ["rows", rowsNote(batches, flags)],
        ...leftOut(batches, { data: parts.train, flags, made }),
        ["held out", counted(held.length, "batch")],
      ],
    };
  });
}

/** What each file is, and its share of a mixture. */
function notesOf({ parts }: RowData): (readonly [string, string])[] {
  const total = parts.reduce((n, { weight }) => n + weight, 0);
  return parts.map(({ name, rows, weight }) => {
    const share = parts.length === 1 ? "" : `, ${(100 * weight / total).toFixed(1)} % of the rows of a batch`;
    return ["data", `${name}, ${counted(rows.count, "row")} of kind ${rows.kind}${share}`];
  });
}

/** Rows that the run does not learn from, as far as is known before it begins. */
function leftOut(
  { first, steps }: RowBatches,
  { data: { parts: [part, ...others] }, flags, made }: {
    readonly data: RowData;
    readonly flags: DataFlags;
    readonly made: readonly CountedSource[];
  },
): (readonly [string, string])[] {
  const skipped = made.reduce((n, source) => n + source.unusable(), 0);
  const whole = steps !== null && others.length === 0 && first.samples < part.rows.count;
  const cut = whole && flags.long !== "split" ? part.rows.count - made[0].unusable() - first.samples : 0;
  return [
    ...skipped > 0 ? [["skipped", `${counted(skipped, "row")} of which no tokens can be made`] as const] : [],
    ...cut > 0
      ? [
        [
          "left out",
          `${counted(cut, "row")} without a token to learn within ${counted(flags.length, "token")}`,
        ] as const,
      ]
      : [],
  ];
}

function rowsNote({ first, steps }: RowBatches, { pack, length }: DataFlags): string {
  const rows = pack ? `${first.samples} packed in ${first.rows}` : `${first.rows}`;
  const part = steps === null ? ", in the first buffer" : "";
  return `${rows} of at most ${counted(length, "token")}, ${
    counted(first.tokens, "token")
  }, ${first.learned} of them learned${part}`;
}
