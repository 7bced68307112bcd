/**
 * Fine-tunes a Hugging Face checkpoint on text with GradES, and shows what freezing saved.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/finetune.ts --help
 * ```
 *
 * @module
 */

import {
  DataError,
  defineTraining,
  flatten,
  free,
  freeState,
  type FreezePolicy,
  type Gpu,
  InputError,
  type Model,
  nextTokenLoss,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadTokenizer, type Tokenizer } from "@firn/train/data";
import { companionFiles, loadAdapter, saveAdapter, saveModel } from "@firn/train/hub";
import { change, type Quality } from "@firn/train/report";
import {
  oneOf,
  positive,
  runMain,
  share,
  text,
  toggle,
  topic,
  UsageError,
  type Values,
  whole,
} from "./flags.ts";
import { batchFlags, checkBatch, chooseBatch, tokensOf } from "./batch_flags.ts";
import { helpOf } from "./help.ts";
import { configText } from "./config.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { locateModel, MODEL, shortName } from "./hub.ts";
import { loadShown } from "./load_model.ts";
import {
  adapterLine,
  adaptModel,
  checkLora,
  hiddenParams,
  isLora,
  LORA_FLAGS,
  storageOf,
} from "./lora_flags.ts";
import {
  checkGroups,
  checkOptimizer,
  OPTIMIZER_FLAGS,
  optimizerOf,
  regularizationOf,
} from "./optimizer_flags.ts";
import { OBSERVE_FLAGS } from "./observe_flags.ts";
import { checkOutput, nextFree } from "./output.ts";
import { perplexity } from "./perplexity.ts";
import { licenseOf, PRETRAINED_RATE, rateOf } from "./model_card.ts";
import { POLICY, policyOf, VALIDATE, validateEvery } from "./policies.ts";
import { print } from "./print.ts";
import { stage } from "./progress.ts";
import {
  costRows,
  finishRun,
  gflopRow,
  openRun,
  printSummary,
  type Run,
  type Summary,
  tokenFacts,
  trainRun,
} from "./run.ts";
import { continueText, quoted } from "./sample.ts";
import { readRun, RUN_FLAGS, type RunRequest } from "./saved_flags.ts";
import { DATA_FLAGS, today } from "./data_flags.ts";
import { MAX_SHARD_SIZE, shardOptions } from "./shard_size.ts";
import { showBatches } from "./show_batches.ts";
import { openData, type OpenedData, readData, type TrainData } from "./train_data.ts";

/** The flags of the command. */
export const FLAGS = {
  ...topic("training", {
    model: MODEL,
    steps: whole("optimizer steps", 120),
    ...batchFlags("sequences", 8),
    length: whole("tokens in a sequence", 64, 2),
    lr: positive(
      `largest learning rate, after warm-up; what the model's card recommends when absent, else ${PRETRAINED_RATE}`,
      null,
    ),
    seed: whole("seed of batches and samples", 0, 0),
  }),
  ...DATA_FLAGS,
  ...OPTIMIZER_FLAGS,
  ...LORA_FLAGS,
  ...topic("memory", {
    precision: oneOf(
      ["f32", "f16"],
      "how intermediate values are stored; f16 saves memory where batches are large (135 M, 8 × 512 tokens: " +
        "2.8 GiB, not 4.4), none where they are small (8 × 64); weights and Adam's moments stay f32",
      "f32",
    ),
  }),
  ...topic("freezing", {
    policy: POLICY,
    tau: positive("threshold of gradES", 30),
    alpha: share("share of the steps in which gradES freezes nothing", 0.5),
    metric: oneOf(["gradNorm", "gradDelta", "weightDelta"], "what gradES compares with tau", "gradNorm"),
    validate: VALIDATE,
  }),
  ...topic("evaluation", {
    prompt: text("TEXT", "beginning of the generated samples", "The whale"),
    "sample-every": whole("steps between samples that are printed while it trains; none when absent", null),
    "no-sample": toggle("generate no samples before and after"),
  }),
  ...topic("run", {
    out: text("DIR", "output folder, new or empty; out/finetune-N when absent", null),
    "max-shard-size": MAX_SHARD_SIZE,
  }),
  ...RUN_FLAGS,
  ...OBSERVE_FLAGS,
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn finetune [flags]
       deno run --allow-read --allow-write examples/finetune.ts [flags]

Fine-tunes a model on text or rows, a tenth held out, and writes the model, metrics.jsonl, report.html,
and run.toml, which --config takes to do the run again. With --lora, the model stays as it is, and what
is written is an adapter of PEFT; ./firn merge makes a model of both.
Traffic is what the kernels of a step read and write by plan; device memory is the most that buffers took
at a time, for weights, Adam's moments and intermediate values.`;

type Flags = Omit<Values<typeof FLAGS>, "lr"> & { readonly lr: number };
/** Flags once the size of batches is known. */
type Sized = Flags & { readonly batch: number };

const WORSE =
  "held-out text is predicted worse than before: lower --lr, take fewer --steps, or give more text";

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const request = await readRun(args, {
    command: "finetune",
    table: FLAGS,
    rate: "lr",
    beside: ["model", "data", "validation", "chat-template", "policy", "adapter"],
    check: checkFlags,
  });
  if (request.help) return print(helpOf(USAGE, FLAGS, request.help));
  const began = performance.now();
  const asked = await planOf(request), { checkpoint } = request, shows = asked.flags["show-batch"];
  if (shows !== null) return await showData(asked, shows);

  await using gpu = await openShown(asked.flags);
  const subject = await loadSubject(gpu, asked), { base } = subject;
  const plan = withBatch(gpu, { plan: asked, base }), { flags, policy } = plan;
  const { family } = base, { folder, opened } = plan, every = validateEvery(flags);
  using data = await readData(opened, { ...subject, folder, family, flags, every });
  const training = trainingOf(gpu, { plan, base, data });
  printSetup({ plan, base, data });

  const measure = async (model: Model): Promise<Quality & { readonly perplexity: number }> => ({
    perplexity: await perplexity(gpu, model, data.held),
    ...!flags["no-sample"] && { sample: await continueText(gpu, model, { ...subject, ...flags }) },
  });
  await using run = await openRun(gpu, {
    out: plan.out,
    model: plan.folder,
    checkpoint,
    lookEvery: plan.lookEvery,
    observe: flags,
    config: {
      ...flags,
      data: flags.data.join(", "),
      policy: policy?.name ?? "none",
      license: await licenseOf(plan.folder),
    },
    before: () => measure(base),
    toml: configText("finetune", { table: FLAGS, flags }),
  });
  const before = printBefore(run);
  const state = await trainRun(gpu, run, {
    command: "finetune",
    request,
    flags,
    policyHash: plan.policyHash,
    training,
    params: base.params,
    batches: data.batches,
    tokens: data.tokensPerStep,
    facts: tokenFacts,
    ...flags["sample-every"] !== null && {
      watch: {
        every: flags["sample-every"],
        show: (params) => continueText(gpu, { ...base, params }, { ...subject, ...flags, quiet: true }),
      },
    },
  });
  const saved = await saveTrained(gpu, run, { subject, training, state, flags });
  training[Symbol.dispose]();
  free(base.params);
  free(hiddenParams(base));
  freeState(state);
  // What is judged is what was saved.
  const judged = await loadShown(gpu, isLora(flags) ? folder : saved, { storage: storageOf(flags) });
  const after = await measure(isLora(flags) ? await loadAdapter(gpu, judged, saved) : judged);

  const worse = after.perplexity > before, costs = costRows(gpu, { training, state, began, flops: gflopRow });
  await finishRun(run, {
    state,
    training,
    after,
    title: `${shortName(flags.model)} on ${flags.data.join(", ")}`,
    summary: [...costs, ...worse ? [["Worse than before", WORSE] as const] : []],
    ...flags.policy === "gradES" && { threshold: { signal: flags.metric, tau: flags.tau } },
  });
  printAfter({ before, after, costs, saved });
}

/** What is known before a device is opened. */
interface Plan<F = Flags> {
  readonly flags: F;
  /** Folder of the model. */
  readonly folder: string;
  /** Why the learning rate is what it is. */
  readonly why: string;
  readonly policy: FreezePolicy | undefined;
  readonly policyHash: string | null;
  readonly out: string;
  readonly opened: OpenedData;
  /** Steps between looks. */
  readonly lookEvery: number;
}

/** Refuses flags that do not go together. */
function checkFlags(values: Values<typeof FLAGS>): void {
  const evaluated = values["eval-tokens"] ?? Infinity;
  if (evaluated < values.length) {
    throw new UsageError(`--eval-tokens must fill a sequence of --length ${values.length}: got ${evaluated}`);
  }
  checkLora(values);
  checkOptimizer(values);
  checkBatch(values);
}

/** Refuses what can be seen to be wrong from the folders and the text alone. */
async function planOf({ values, checkpoint, newRate, policyHash }: RunRequest<typeof FLAGS>): Promise<Plan> {
  const { name, folder } = await locateModel(values.model);
  const { rate, why } = await rateOf(folder, values.lr);
  const flags: Flags = { ...values, model: name, lr: rate, date: values.date ?? today() };
  const { policy, hash } = await policyOf(flags.policy, { ...flags, hash: policyHash });
  const resumed = checkpoint !== null, out = flags.out ?? await nextFree("out/finetune");
  await checkOutput(out, { resumed, model: folder });
  if (resumed) print(`resume      ${out}: reads ${flags.model}, ${flags.data.join(", ")}`);
  return {
    flags,
    folder,
    why: resumed && !newRate ? "that of the run" : why,
    policy,
    policyHash: hash,
    out,
    opened: await openData(flags),
    lookEvery: Math.min(10, flags.steps),
  };
}

/** The model that is trained, and what goes with it. */
interface Subject {
  readonly base: Model;
  readonly tokenizer: Tokenizer;
  /** Files that go along into the folder of the trained model. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

async function loadSubject(gpu: Gpu, { flags, folder }: Plan): Promise<Subject> {
  const loaded = await loadShown(gpu, folder, { storage: storageOf(flags) });
  const base = await adaptModel(gpu, loaded, { flags, seed: flags.seed, name: flags.model });
  checkGroups(flags, [...flatten(base.params).keys()].filter((path) => base.trainable?.(path) ?? true));
  const tokenizer = await loadTokenizer(folder, { model: base });
  if (flags.length > base.maxLength) {
    throw new InputError(
      `Cannot train on ${flags.length} tokens as "${flags.model}" allows ${base.maxLength}: lower --length`,
    );
  }
  return { base, tokenizer, files: await companionFiles(folder) };
}

/** The plan with the size of batches that was asked for, or that fits. */
function withBatch(
  gpu: Gpu,
  { plan, base }: { readonly plan: Plan; readonly base: Model },
): Plan<Sized> {
  const { flags } = plan, params = base.params;
  const chosen = chooseBatch<object, TokenBatch>(flags, {
    params,
    batchOf: (size) => tokensOf(size, flags),
    trainingOf: (accumulate) => trainingOf(gpu, { plan: { ...plan, flags: { ...flags, accumulate } }, base }),
  });
  return { ...plan, flags: { ...flags, ...chosen } };
}

/** Prints batches and ends. The model is not needed for it. */
async function showData({ flags: { batch, ...given }, folder, opened }: Plan, count: number): Promise<void> {
  if (batch === "auto") throw new UsageError("--show-batch needs the size of a batch: --batch N");
  const flags = { ...given, batch };
  const tokenizer = await loadTokenizer(folder), family = { name: "", inputs: ["segments"] };
  using data = await readData(opened, { tokenizer, folder, family, flags, every: null });
  for (const [name, text] of data.notes) print(`${name.padEnd(11)} ${text}`);
  await showBatches(data.batches, { count, tokenizer });
}

function trainingOf(
  gpu: Gpu,
  { plan: { flags, policy, lookEvery }, base, data }: {
    readonly plan: Plan;
    readonly base: Model;
    /** Absent where only memory is planned. */
    readonly data?: TrainData;
  },
): Training<object, TokenBatch> {
  return defineTraining(gpu, nextTokenLoss(base, regularizationOf(flags)), {
    optimizer: optimizerOf(flags),
    policy,
    steps: flags.steps,
    lookEvery,
    accumulate: flags.accumulate,
    memory: flags.memory ?? undefined,
    nonFinite: flags["on-nan"],
    precision: flags.precision,
    validation: data?.validation,
    data: data?.batches.fingerprint,
  });
}

function printSetup(
  { plan: { flags, policy, why }, base, data }: {
    readonly plan: Plan;
    readonly base: Model;
    readonly data: TrainData;
  },
): void {
  print(`model       ${flags.model}, ${base.family.name}`);
  for (const note of base.notes ?? []) print(`note        ${note}`);
  if (base.adapter !== undefined) print(`adapter     ${adapterLine(base)}`);
  for (const [name, text] of data.notes) print(`${name.padEnd(11)} ${text}`);
  print(`policy      ${policy?.name ?? "none"}`);
  print(`rate        ${flags.lr}, ${why}`);
}

/** Prints what the model was like before the first step; returns its perplexity. */
function printBefore({ folder, start: { perplexity, sample } }: Run): number {
  if (perplexity === undefined) {
    throw new DataError(
      `Cannot resume as the first line of "${folder}/metrics.jsonl" must have a perplexity: it was changed`,
    );
  }
  print(`perplexity  ${perplexity.toFixed(2)} before`);
  if (sample !== undefined) print(`sample      ${quoted(sample)}`);
  print();
  return perplexity;
}

/** Saves the model, or the adapter alone; returns where. */
async function saveTrained(
  gpu: Gpu,
  { folder }: Run,
  { subject: { base, files }, training, state, flags }: {
    readonly subject: Subject;
    readonly training: Pick<Training<object, never>, "withWeights">;
    readonly state: TrainingState<object>;
    readonly flags: Flags;
  },
): Promise<string> {
  const isAdapter = base.adapter !== undefined, to = `${folder}/${isAdapter ? "adapter" : "model"}`;
  const options = { folder: to, files, ...shardOptions(flags["max-shard-size"]) };
  const save = (params: object): Promise<void> =>
    isAdapter
      ? saveAdapter(gpu, { ...base, params }, { folder: to })
      : saveModel(gpu, { ...base, params }, options);
  await stage(`saving      ${to}`, () => training.withWeights(state, save));
  return to;
}

function printAfter(
  { before, after, costs, saved }: {
    readonly before: number;
    readonly after: Quality & { readonly perplexity: number };
    readonly costs: Summary;
    readonly saved: string;
  },
): void {
  print();
  if (after.sample !== undefined) print(`sample      ${quoted(after.sample)}\n`);
  printSummary([["Perplexity", change(before, after.perplexity, 2)], ...costs]);
  if (after.perplexity > before) print(`${"worse".padEnd(15)} ${WORSE}`, { color: "red" });
  print(`${"written".padEnd(15)} ${saved}, metrics.jsonl, report.html`);
}

if (import.meta.main) await runMain(main, "finetune");
