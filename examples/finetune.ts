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
  adamW,
  chain,
  clipByGlobalNorm,
  cosine,
  DataError,
  defineTraining,
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
import {
  type Corpus,
  loadTokenizer,
  packCorpus,
  splitCorpus,
  type Tokenizer,
  type TokenWindows,
  tokenWindows,
} from "@firn/train/data";
import { companionFiles, saveModel } from "@firn/train/hub";
import { change, type Quality } from "@firn/train/report";
import {
  helpOf,
  oneOf,
  positive,
  runMain,
  share,
  text,
  toggle,
  UsageError,
  type Values,
  whole,
} from "./flags.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { loadShown } from "./load_model.ts";
import { checkOutput, nextFree } from "./output.ts";
import { perplexity } from "./perplexity.ts";
import { PRETRAINED_RATE, rateOf } from "./model_card.ts";
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
import { openText } from "./text.ts";

const FLAGS = {
  model: text("DIR", "Hugging Face folder of the model", "examples/models/sotu"),
  data: text("NAME|FILE", "moby-dick, sotu, or a .txt or .jsonl file", "moby-dick"),
  steps: whole("optimizer steps", 120),
  batch: whole("sequences in a batch", 8),
  length: whole("tokens in a sequence", 64, 2),
  lr: positive(
    `largest learning rate, after warm-up; what the model's card recommends when absent, else ${PRETRAINED_RATE}`,
    null,
  ),
  precision: oneOf(
    ["f32", "f16"],
    "how intermediate values are stored; f16 saves memory where batches are large (135 M, 8 × 512 tokens: " +
      "2.8 GiB, not 4.4), none where they are small (8 × 64); weights and Adam's moments stay f32",
    "f32",
  ),
  policy: POLICY,
  tau: positive("threshold of gradES", 30),
  alpha: share("share of the steps in which gradES freezes nothing", 0.5),
  metric: oneOf(["gradNorm", "gradDelta", "weightDelta"], "what gradES compares with tau", "gradNorm"),
  seed: whole("seed of batches and samples", 0, 0),
  prompt: text("TEXT", "beginning of the generated samples", "The whale"),
  "no-sample": toggle("generate no samples before and after"),
  "eval-tokens": whole(
    "most tokens of the held-out text that perplexity is computed on; all when absent",
    null,
    2,
  ),
  out: text("DIR", "output folder, new or empty; out/finetune-N when absent", null),
  validate: VALIDATE,
  ...RUN_FLAGS,
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn finetune [flags]
       deno run --allow-read --allow-write examples/finetune.ts [flags]

Fine-tunes a model on text, the last tenth held out, and writes the model, metrics.jsonl and report.html.
Traffic is what the kernels of a step read and write by plan; device memory is the most that buffers took at a
time, for weights, Adam's moments and intermediate values.`;

type Flags = Omit<Values<typeof FLAGS>, "lr"> & { readonly lr: number };

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
    beside: ["model", "data", "policy"],
  });
  if (request.help) return print(helpOf(USAGE, FLAGS));
  const began = performance.now();
  const plan = await planOf(request), { flags, policy } = plan, { checkpoint } = request;

  await using gpu = await openShown(flags);
  const subject = await loadSubject(gpu, plan), { base } = subject;
  const data = await readData(subject, plan);
  const training = trainingOf(gpu, { plan, base, data });
  printSetup({ plan, base, data });

  const measure = async (model: Model): Promise<Quality & { readonly perplexity: number }> => ({
    perplexity: await perplexity(gpu, model, data.held),
    ...!flags["no-sample"] && { sample: await continueText(gpu, model, { ...subject, ...flags }) },
  });
  await using run = await openRun(gpu, {
    out: plan.out,
    model: flags.model,
    checkpoint,
    lookEvery: plan.lookEvery,
    config: { ...flags, policy: policy?.name ?? "none" },
    before: () => measure(base),
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
    tokens: flags.batch * flags.length,
    facts: tokenFacts,
  });
  await saveTrained(gpu, run, { subject, state });
  training[Symbol.dispose]();
  free(base.params);
  freeState(state);
  // What is judged is what was saved.
  const after = await measure(await loadShown(gpu, `${run.folder}/model`));

  const worse = after.perplexity > before, costs = costRows(gpu, { training, state, began, flops: gflopRow });
  await finishRun(run, {
    state,
    training,
    after,
    title: `${flags.model} on ${flags.data}`,
    summary: [...costs, ...worse ? [["Worse than before", WORSE] as const] : []],
    ...flags.policy === "gradES" && { threshold: { signal: flags.metric, tau: flags.tau } },
  });
  printAfter(run, { before, after, costs });
}

/** What is known before a device is opened. */
interface Plan {
  readonly flags: Flags;
  /** Why the learning rate is what it is. */
  readonly why: string;
  readonly policy: FreezePolicy | undefined;
  readonly policyHash: string | null;
  readonly out: string;
  readonly corpus: Corpus;
  /** Steps between looks. */
  readonly lookEvery: number;
  /** Most tokens of the held-out text that are evaluated. */
  readonly evaluated: number;
}

/** Refuses what can be seen to be wrong from the flags, the folders and the text alone. */
async function planOf({ values, checkpoint, newRate, policyHash }: RunRequest<typeof FLAGS>): Promise<Plan> {
  const evaluated = values["eval-tokens"] ?? Infinity;
  if (evaluated < values.length) {
    throw new UsageError(`--eval-tokens must fill a sequence of --length ${values.length}: got ${evaluated}`);
  }
  const { rate, why } = await rateOf(values.model, values.lr);
  const flags: Flags = { ...values, lr: rate };
  const { policy, hash } = await policyOf(flags.policy, { ...flags, hash: policyHash });
  const resumed = checkpoint !== null, out = flags.out ?? await nextFree("out/finetune");
  await checkOutput(out, { resumed, model: flags.model });
  if (resumed) print(`resume      ${out}: reads ${flags.model}, ${flags.data}`);
  return {
    flags,
    why: resumed && !newRate ? "that of the run" : why,
    policy,
    policyHash: hash,
    out,
    corpus: await stage(`reading     ${flags.data}`, () => openText(flags.data)),
    lookEvery: Math.min(10, flags.steps),
    evaluated,
  };
}

/** The model that is trained, and what goes with it. */
interface Subject {
  readonly base: Model;
  readonly tokenizer: Tokenizer;
  /** Files that go along into the folder of the trained model. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

async function loadSubject(gpu: Gpu, { flags }: Plan): Promise<Subject> {
  const base = await loadShown(gpu, flags.model);
  const tokenizer = await loadTokenizer(flags.model, { model: base });
  if (flags.length > base.maxLength) {
    throw new InputError(
      `Cannot train on ${flags.length} tokens as "${flags.model}" allows ${base.maxLength}: lower --length`,
    );
  }
  return { base, tokenizer, files: await companionFiles(flags.model) };
}

/** What the model is trained on, and what it is judged by. */
interface Data {
  readonly batches: TokenWindows;
  readonly held: readonly TokenBatch[];
  /** Held-out tokens, evaluated or not. */
  readonly heldTokens: number;
  readonly validation: { readonly batches: readonly TokenBatch[]; readonly every: number } | undefined;
}

async function readData({ tokenizer }: Subject, { flags, corpus, evaluated }: Plan): Promise<Data> {
  const { train, heldOut } = await splitCorpus(corpus), every = validateEvery(flags);
  // What decides when to stop is not what the run is judged by.
  const parts = every === null ? { train, heldOut: null } : await splitCorpus(train);
  const tokens = await stage(`tokenizing  ${flags.data}`, async (say) => {
    const pack = (corpus: Corpus, what: string) =>
      packCorpus(tokenizer, corpus, {
        onProgress: ({ done, total }) => say(`${what}, ${Math.floor(100 * done / total)} %`),
      });
    return {
      train: await pack(parts.train, "to train on"),
      validation: parts.heldOut && await pack(parts.heldOut, "to validate on"),
      heldOut: await pack(heldOut, "held out"),
    };
  });
  return {
    batches: tokenWindows(tokens.train, flags),
    held: tokenWindows(tokens.heldOut.subarray(0, evaluated), flags).all(),
    heldTokens: tokens.heldOut.length,
    validation: every === null
      ? undefined
      : { batches: tokenWindows(tokens.validation!, flags).all(), every },
  };
}

function trainingOf(
  gpu: Gpu,
  { plan: { flags, policy, lookEvery }, base, data }: {
    readonly plan: Plan;
    readonly base: Model;
    readonly data: Data;
  },
): Training<object, TokenBatch> {
  const { steps, lr } = flags;
  return defineTraining(gpu, nextTokenLoss(base), {
    optimizer: chain(
      clipByGlobalNorm(1),
      adamW({ learningRate: cosine({ peak: lr, warmup: Math.ceil(steps / 20), steps }) }),
    ),
    policy,
    steps,
    lookEvery,
    precision: flags.precision,
    validation: data.validation,
    data: data.batches.fingerprint,
  });
}

function printSetup(
  { plan: { flags, policy, evaluated, why }, base, data: { batches, held, heldTokens, validation } }: {
    readonly plan: Plan;
    readonly base: Model;
    readonly data: Data;
  },
): void {
  print(`model       ${flags.model}, ${base.family.name}`);
  for (const note of base.notes ?? []) print(`note        ${note}`);
  print(
    `data        ${flags.data}, ${batches.count} windows of ${flags.length} tokens, ${held.length} batches held out`,
  );
  if (evaluated < heldTokens) {
    print(`evaluation  first ${evaluated} of ${heldTokens} held-out tokens, as --eval-tokens says`);
  }
  if (validation) print(`validation  ${validation.batches.length} batches, every ${validation.every} steps`);
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

async function saveTrained(
  gpu: Gpu,
  { folder }: Run,
  { subject: { base, files }, state }: {
    readonly subject: Subject;
    readonly state: TrainingState<object>;
  },
): Promise<void> {
  const model = { ...base, params: state.params }, to = `${folder}/model`;
  await stage(`saving      ${to}`, () => saveModel(gpu, model, { folder: to, files }));
}

function printAfter(
  { folder }: Run,
  { before, after, costs }: {
    readonly before: number;
    readonly after: Quality & { readonly perplexity: number };
    readonly costs: Summary;
  },
): void {
  print();
  if (after.sample !== undefined) print(`sample      ${quoted(after.sample)}\n`);
  printSummary([["Perplexity", change(before, after.perplexity, 2)], ...costs]);
  if (after.perplexity > before) print(`${"worse".padEnd(15)} ${WORSE}`, { color: "red" });
  print(`${"written".padEnd(15)} ${folder}/model, metrics.jsonl, report.html`);
}

if (import.meta.main) await runMain(main, "finetune");
