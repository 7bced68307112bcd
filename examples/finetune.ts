/**
 * Fine-tunes a Hugging Face checkpoint on text with GradES, and shows what freezing saved.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/finetune.ts --help
 * ```
 *
 * @module
 */

import { DataError, free, freeState, type Gpu, type Model, nextTokenLoss } from "@firn/train";
import { loadTokenizer } from "@firn/train/data";
import { loadAdapter } from "@firn/train/hub";
import { rankBatches } from "@firn/train/ranks";
import { change, counted, type Quality } from "@firn/train/report";
import { lossMetrics } from "@firn/train/evaluation";
import { HELD_OUT } from "./evaluation_flags.ts";
import { bestFile, NO_STORE, runEvaluations } from "./evaluation_run.ts";
import { configText } from "./config.ts";
import { checkFlags, FLAGS, type Planned, type Sized, USAGE } from "./finetune_flags.ts";
import {
  loadSubject,
  type Plan,
  planOf,
  runOf,
  type Subject,
  trainingOf,
  withBatch,
  withSteps,
} from "./finetune_plan.ts";
import { runMain } from "./flags.ts";
import { openShown } from "./gpu.ts";
import { helpOf } from "./help.ts";
import { shortName } from "./hub.ts";
import { distilled, pairObjective } from "./objective_flags.ts";
import { trainPairs } from "./pairs_run.ts";
import { freezingRows } from "./savings.ts";
import { saveTrained } from "./save_trained.ts";
import { loadShown } from "./load_model.ts";
import { adapterLine, hiddenParams, isLora, storageOf } from "./lora_flags.ts";
import { perplexity } from "./perplexity.ts";
import { validateEvery } from "./policies.ts";
import { showPlan } from "./shown_plan.ts";
import { survivingRun } from "./lost_run.ts";
import { print } from "./print.ts";
import type { OpenedData } from "./open_data.ts";
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
import { commonFacts, type Joined, onRanks, wholeBatch } from "./ranks.ts";
import type { TaskKind } from "./recommend.ts";
import { readRun, type RunRequest } from "./saved_flags.ts";
import { showBatches } from "./show_batches.ts";
import { readData, type ReadOptions, type TrainData } from "./train_data.ts";

const WORSE =
  "held-out text is predicted worse than before: lower --lr, take fewer --steps, or give more text";

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  await survivingRun(args, runOnce);
}

async function runOnce(args: readonly string[]): Promise<void> {
  const request = await readRun(args, {
    command: "finetune",
    table: FLAGS,
    rate: "lr",
    beside: ["model", "data", "validation", "chat-template", "policy", "adapter", "evaluate-on"],
    check: checkFlags,
  });
  if (request.help) return print(helpOf(USAGE, FLAGS, request.help));
  await onRanks((joined) => finetune(request, joined), request.values);
}

async function finetune(request: RunRequest<typeof FLAGS>, joined: Joined | null): Promise<void> {
  const began = performance.now();
  const asked = await planOf(request, joined), { checkpoint } = request, shows = asked.flags["show-batch"];
  if (shows !== null) return await showData(asked, shows);

  await using gpu = await openShown(asked.flags);
  if (pairObjective(asked.flags) !== null) return await trainPairs(gpu, { plan: asked, request, began });
  const loading = performance.now(), subject = await loadSubject(gpu, asked), { base } = subject;
  const loaded = performance.now(), made = await sizedData(gpu, { asked, subject, joined }), { sized } = made;
  const { folder } = sized;
  using data = made.data;
  const plan = withSteps(sized, data), { flags } = plan;
  const loss = await distilled(gpu, { base, flags });
  const training = trainingOf(gpu, { plan, base, data, loss });
  const toml = configText("finetune", { table: FLAGS, flags, ranks: joined?.ranks.size });
  await joined?.agree(factsOf(gpu, { plan, request, toml, base, data }));
  printSetup({ plan, base, data });
  if (flags["dry-run"]) {
    return await showPlan(gpu, {
      ...{ plan, subject, data, training, toml, began },
      loss: nextTokenLoss(base),
      samples: flags["no-sample"] ? 0 : 2,
      loadMs: loaded - loading,
    });
  }

  const follows = joined?.follows ?? false;
  const measure = async (model: Model): Promise<Quality & { readonly perplexity: number }> => ({
    perplexity: await perplexity(gpu, model, data.held),
    ...!flags["no-sample"] &&
      { sample: await continueText(gpu, model, { ...subject, ...flags }) },
  });
  await using run = await openRun(gpu, {
    ...await runOf(plan),
    checkpoint,
    before: () => measure(base),
    toml,
  });
  const before = follows ? NaN : printBefore(run);
  const evaluations = runEvaluations(gpu, {
    training,
    flags,
    sets: { [HELD_OUT]: data.held, ...data.sets },
    metrics: lossMetrics(nextTokenLoss(base)),
    store: follows ? NO_STORE : bestFile(gpu, { training, folder: run.folder }),
    ...!follows && {
      write: (params, prompt) =>
        continueText(gpu, { ...base, params }, { ...subject, ...flags, prompt, quiet: true }),
    },
  });
  const last = await trainRun(gpu, run, {
    evaluations,
    command: "finetune",
    request,
    flags,
    policyHash: plan.policyHash,
    joined,
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
  if (follows) return; // Rank 0 saves and judges what all have made.
  const { saved: state, told } = await evaluations?.finish(last) ?? { saved: last, told: last };
  const saved = await saveTrained(gpu, run, { subject, training, state, flags }), prefix = training.prefix();
  training[Symbol.dispose]();
  free(base.params);
  free(hiddenParams(base));
  freeState(state);
  // What is judged is what was saved.
  const judged = await loadShown(gpu, isLora(flags) ? folder : saved, { storage: storageOf(flags) });
  const after = await measure(isLora(flags) ? await loadAdapter(gpu, judged, saved) : judged);

  const worse = after.perplexity > before,
    costs = [
      ...costRows(gpu, { training, state: told, began, flops: gflopRow }),
      ...freezingRows(run.log.lines, { ...flags, kind: kindOf(flags, data), prefix }),
    ];
  await finishRun(run, {
    state: told,
    training,
    after,
    title: `${shortName(flags.model)} on ${flags.data.join(", ")}`,
    summary: [...costs, ...worse ? [["Worse than before", WORSE] as const] : []],
  });
  printAfter({ before, after, costs, saved });
}

/** What the study calls such a run. */
function kindOf(flags: Planned, { epoch }: Pick<TrainData, "epoch">): TaskKind {
  const { steps, accumulate } = flags, epochs = epoch === null ? null : steps * accumulate / epoch;
  return { trains: isLora(flags) ? "lora" : "full", predicts: "causal", steps, epochs };
}

/** What all ranks must have in common. */
function factsOf(
  gpu: Gpu,
  { plan: { policyHash }, request: { checkpoint }, toml, base, data }: {
    readonly plan: Plan<Planned>;
    readonly request: RunRequest<typeof FLAGS>;
    readonly toml: string;
    readonly base: Model;
    readonly data: TrainData;
  },
): Readonly<Record<string, string>> {
  return {
    ...commonFacts(gpu, base.params),
    flags: toml,
    policy: policyHash ?? "",
    data: data.batches.fingerprint,
    step: `${checkpoint?.step ?? 0}`,
  };
}

/** The size of batches, and the data in such batches. */
async function sizedData(
  gpu: Gpu,
  { asked, subject, joined }: {
    readonly asked: Plan;
    readonly subject: Subject;
    readonly joined: Joined | null;
  },
): Promise<{ readonly sized: Plan<Sized>; readonly data: TrainData }> {
  const { base, base: { family } } = subject, { folder, opened } = asked;
  const readIn = async (sized: Plan<Sized>): Promise<TrainData> => {
    const { flags } = sized, validates = flags.validate !== null || flags.policy === "earlyStopping";
    return await readShare(opened, { joined, read: { ...subject, folder, family, flags, validates } });
  };
  const sized = withBatch(gpu, { plan: asked, base }), data = await readIn(sized);
  const { count } = data.batches, isFull = count === null || wholeBatch(sized.flags.batch, joined) <= count;
  if (asked.flags.batch !== "auto" || isFull) return { sized, data };
  // There are fewer than fit: a batch of all has none twice.
  data[Symbol.dispose]();
  const fewer = withBatch(gpu, { plan: asked, base, available: count });
  return { sized: fewer, data: await readIn(fewer) };
}

/** The data of this rank: its share of batches that all make together. */
async function readShare(
  opened: OpenedData,
  { joined, read }: { readonly joined: Joined | null; readonly read: ReadOptions },
): Promise<TrainData> {
  if (joined === null) return await readData(opened, read);
  const { flags } = read, { ranks } = joined;
  const whole = await readData(opened, {
    ...read,
    flags: { ...flags, batch: wholeBatch(flags.batch, joined) },
  });
  return {
    ...whole,
    batches: rankBatches(whole.batches, ranks),
    [Symbol.dispose]: () => whole[Symbol.dispose](),
  };
}

/** Prints batches and ends. The model is not needed for it. */
async function showData({ flags: { batch, ...given }, folder, opened }: Plan, count: number): Promise<void> {
  // That it is a number is checked with the flags.
  const flags = { ...given, batch: batch as number };
  const tokenizer = await loadTokenizer(folder), family = { name: "", inputs: ["segments"] };
  using data = await readData(opened, { tokenizer, folder, family, flags, validates: false });
  for (const [name, text] of data.notes) print(`${name.padEnd(11)} ${text}`);
  await showBatches(data.batches, { count, tokenizer });
}

function printSetup(
  { plan: { flags, policy, why }, base, data }: {
    readonly plan: Plan<Planned>;
    readonly base: Model;
    readonly data: TrainData;
  },
): void {
  print(`model       ${flags.model}, ${base.family.name}`);
  for (const note of base.notes ?? []) print(`note        ${note}`);
  if (base.adapter !== undefined) print(`adapter     ${adapterLine(base)}`);
  for (const [name, text] of data.notes) print(`${name.padEnd(11)} ${text}`);
  if (data.watched !== undefined) {
    print(
      `validation  ${counted(data.watched.length, "batch")}, every ${counted(validateEvery(flags)!, "step")}`,
    );
  }
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
