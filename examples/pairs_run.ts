/**
 * Fine-tuning by pairs of answers: `finetune --dpo`, `--orpo`, `--kto`, `--reward`.
 *
 * @module
 */

import type { Gpu, Model, TokenBatch } from "@firn/train";
import { evaluateObjective, type FullPairBatch, type Objective, withReference } from "@firn/train/objectives";
import type { Metric, Metrics } from "@firn/train/evaluation";
import { rankBatches } from "@firn/train/ranks";
import { counted } from "@firn/train/report";
import { configText } from "./config.ts";
import { HELD_OUT } from "./evaluation_flags.ts";
import { bestFile, NO_STORE, runEvaluations } from "./evaluation_run.ts";
import { FLAGS, type Planned, type Sized } from "./finetune_flags.ts";
import { loadSubject, type Plan, runOf, type Subject, trainingOf, withSteps } from "./finetune_plan.ts";
import { shortName } from "./hub.ts";
import { referenceFolder } from "./machine.ts";
import { adapterLine } from "./lora_flags.ts";
import { pairObjective, pairObjectiveOf } from "./objective_flags.ts";
import { type Pairs, type PairTraining, pairTraining, readPairs } from "./pair_data.ts";
import { print } from "./print.ts";
import { stage } from "./progress.ts";
import { commonFacts, wholeBatch } from "./ranks.ts";
import { costRows, finishRun, gflopRow, openRun, printSummary, tokenFacts, trainRun } from "./run.ts";
import { continueText } from "./sample.ts";
import { freezingRows } from "./savings.ts";
import { saveTrained } from "./save_trained.ts";
import type { RunRequest } from "./saved_flags.ts";
import { showPlan } from "./shown_plan.ts";

type Judged = Readonly<Record<string, number>>;

/**
 * Trains a model by pairs.
 *
 * @param gpu The device
 * @param options What the command line asks for, and when the command began
 */
export async function trainPairs(
  gpu: Gpu,
  { plan: asked, request, began }: {
    readonly plan: Plan;
    readonly request: RunRequest<typeof FLAGS>;
    readonly began: number;
  },
): Promise<void> {
  const loading = performance.now(), subject = await loadSubject(gpu, asked), loaded = performance.now();
  const { base } = subject, sized = asked as Plan<Sized>;
  const all = await readPairs(sized.flags, { ...subject, folder: asked.folder });
  const { joined } = asked, follows = joined?.follows ?? false;
  // A run that is only asked about needs no more pairs than it tries.
  const isTrial = sized.flags["dry-run"],
    tried = isTrial ? TRIED * wholeBatch(sized.flags.batch, joined) : Infinity;
  const pairs = { ...all, train: all.train.slice(0, tried), held: all.held.slice(0, tried) };
  // The first time compiles, which does not take longer for more pairs.
  if (isTrial) await sharedPairs(gpu, { pairs, base, plan: sized, subject, warm: false });
  const asking = performance.now();
  const made = await sharedPairs(gpu, { pairs, base, plan: sized, subject });
  const referenceMs = performance.now() - asking;
  const whole = isTrial ? wholeOf(all, { plan: sized, subject }) : made;
  const plan = withSteps(sized, { epoch: whole.batches.steps }), { flags } = plan;
  const objective = pairObjectiveOf(base, flags);
  const training = trainingOf(gpu, {
    plan,
    base,
    loss: objective as Objective<object, TokenBatch>,
    data: { batches: made.batches, watched: undefined },
  });
  const toml = configText("finetune", { table: FLAGS, flags, ranks: joined?.ranks.size });
  await joined?.agree({
    ...commonFacts(gpu, base.params),
    flags: toml,
    policy: plan.policyHash ?? "",
    data: made.batches.fingerprint,
    step: `${request.checkpoint?.step ?? 0}`,
  });
  printSetup({ plan, base, notes: pairs.notes });
  if (isTrial) {
    const share = countOf(all) / countOf(pairs);
    return await showPlan(gpu, {
      ...{ plan, subject, training, toml, samples: 0, rows: 2, loadMs: loaded - loading },
      loss: objective as Objective<object, TokenBatch>,
      data: {
        ...{ batches: made.batches, held: made.held, sets: {}, watched: undefined },
        ...{ tokensPerStep: whole.tokensPerStep, epoch: whole.batches.steps },
      },
      judged: whole.held.length,
      // The reference is asked about all pairs.
      began: began - referenceMs * (share - 1),
    });
  }
  const judge = (params: object): Promise<Judged> => judged(gpu, { objective, params, made });
  let before: Judged | null = null;
  await using run = await openRun(gpu, {
    ...await runOf(plan),
    checkpoint: request.checkpoint,
    before: async () => qualityOf(before = await judge(base.params)),
    toml,
  });
  if (before !== null) await run.log.add([judgedLine(0, before)]);
  const first = before ?? firstJudged(run.log.lines);
  if (first !== null) printJudged("before", first);
  const evaluations = runEvaluations(gpu, {
    training,
    flags,
    sets: { [HELD_OUT]: made.held },
    metrics: metricsOf(objective) as Metrics<object, TokenBatch>,
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
    batches: made.batches,
    tokens: made.tokensPerStep,
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
  const after = await training.withWeights(state, judge);
  await run.log.add([judgedLine(told.step, after)]);
  const saved = await saveTrained(gpu, run, { subject, training, state, flags });
  const costs = [
    ...costRows(gpu, { training, state: told, began, flops: gflopRow }),
    ...freezingRows(run.log.lines, { ...flags, prefix: training.prefix() }),
  ];
  const won = first === null ? [] : [["Reward margin", marginText(first, after)] as const];
  await finishRun(run, {
    state: told,
    training,
    after: qualityOf(after),
    title: `${shortName(flags.model)} on ${flags.data.join(", ")}`,
    summary: [...won, ...costs],
  });
  print();
  printJudged("after", after);
  printSummary([...won, ...costs, ["Written", `${saved}, metrics.jsonl, report.html`]]);
}

/** Batches of which a run that is only asked about has pairs. */
const TRIED = 4;

const countOf = ({ train, held }: Pick<Pairs, "train" | "held">): number => train.length + held.length;

/** All batches, without what the reference finds of them. */
function wholeOf(
  pairs: Pairs,
  { plan: { flags, joined }, subject: { tokenizer, base: model } }: {
    readonly plan: Plan<Sized>;
    readonly subject: Subject;
  },
): PairTraining {
  return pairTraining(pairs, {
    flags: { ...flags, batch: wholeBatch(flags.batch, joined) },
    tokenizer,
    model,
  });
}

/** The share of this rank in batches of pairs. The reference is asked by rank 0 first, whose answers the others find on the disk. */
async function sharedPairs(
  gpu: Gpu,
  options: Parameters<typeof referred>[1],
): Promise<PairTraining> {
  const { plan, plan: { joined, flags } } = options;
  if (joined === null) return await referred(gpu, options);
  const own = { ...options, plan: { ...plan, flags: { ...flags, batch: wholeBatch(flags.batch, joined) } } };
  if (joined.follows) await joined.common("");
  const made = await referred(gpu, own);
  if (!joined.follows) await joined.common("");
  // First answers, then second ones.
  const { rank, size } = joined.ranks, mine = rankBatches(made.batches, { rank, size, blocks: 2 });
  return { ...made, batches: { ...mine, steps: made.batches.steps } };
}

/** Batches of pairs, with what the reference finds of them where the objective has one. */
async function referred(
  gpu: Gpu,
  { pairs, base, plan: { flags, out }, subject, warm = true }: {
    readonly pairs: Awaited<ReturnType<typeof readPairs>>;
    readonly base: Model;
    readonly plan: Plan<Sized>;
    readonly subject: Subject;
    /** Whether its kernels are compiled, or it does not matter; true when absent. */
    readonly warm?: boolean;
  },
): Promise<PairTraining> {
  const options = { flags, tokenizer: subject.tokenizer, model: base }, name = pairObjective(flags);
  if (name === "orpo" || name === "reward") return pairTraining(pairs, options);
  const { train, held } = pairs, all = [...train, ...held];
  const cache = flags["dry-run"] ? undefined : referenceFolder(out, Deno.build);
  const title = warm ? `reference   ${2 * all.length} answers` : "compiling   the reference";
  const known = await stage(title, (say) =>
    withReference(gpu, base, {
      pairs: all,
      batch: 2 * flags.batch,
      cache,
      onProgress: ({ done, total }) => say(`${done} of ${total} done`),
    }));
  return pairTraining({ train: known.slice(0, train.length), held: known.slice(train.length) }, options);
}

function judged(
  gpu: Gpu,
  { objective, params, made: { held } }: {
    readonly objective: Objective<object, FullPairBatch>;
    readonly params: object;
    readonly made: PairTraining;
  },
): Promise<Judged> {
  return stage(
    `evaluating  ${counted(held.length, "batch")} of held-out pairs`,
    (say) =>
      evaluateObjective(gpu, {
        objective,
        params,
        batches: held,
        onProgress: ({ done, total }) => say(`${done} of ${total} done`),
      }),
  );
}

/** What evaluations while it trains judge by: the loss, and what tells preferences apart. */
function metricsOf(objective: Objective<object, FullPairBatch>): Metrics<object, FullPairBatch> {
  const { names, compute } = objective.metrics;
  const watched = names.flatMap((name, i): [string, Metric<object, FullPairBatch>][] =>
    name === "rewards/accuracies" || name === "rewards/margins"
      ? [[name.slice("rewards/".length), {
        mean: Object.assign((params: object, batch: FullPairBatch) => compute(params, batch)[i], {
          count: objective.count,
        }),
        better: "higher",
      }]]
      : []
  );
  return { loss: { mean: objective, better: "lower" }, ...Object.fromEntries(watched) };
}

function qualityOf(found: Judged): { readonly accuracy?: number } {
  const accuracy = found["rewards/accuracies"];
  return accuracy === undefined ? {} : { accuracy };
}

function judgedLine(step: number, metrics: Judged) {
  return { kind: "evaluation", step, set: HELD_OUT, metrics } as const;
}

/** What a run that goes on found before its first step. */
function firstJudged(lines: readonly { readonly kind: string }[]): Judged | null {
  const found = lines.find((line): line is ReturnType<typeof judgedLine> =>
    line.kind === "evaluation" && (line as { set?: string; step?: number }).set === HELD_OUT
  );
  return found?.step === 0 ? found.metrics : null;
}

function marginText(before: Judged, after: Judged): string {
  // A margin has no zero that a share could be of: it is a difference of logarithms.
  const [a, b] = [before, after].map((found) => found["rewards/margins"]), gain = b - a;
  return `${a.toFixed(3)} → ${b.toFixed(3)} (${gain < 0 ? "" : "+"}${gain.toFixed(3)})`;
}

function printJudged(name: string, found: Judged): void {
  const values = Object.entries(found).map(([metric, value]) => `${metric} ${value.toFixed(3)}`);
  print(`${name.padEnd(11)} held-out ${values.join(", ")}`);
}

function printSetup(
  { plan: { flags, policy, why }, base, notes }: {
    readonly plan: Plan<Planned>;
    readonly base: Model;
    readonly notes: readonly (readonly [name: string, text: string])[];
  },
): void {
  print(`model       ${flags.model}, ${base.architecture}`);
  for (const note of base.notes ?? []) print(`note        ${note}`);
  if (base.adapter !== undefined) print(`adapter     ${adapterLine(base)}`);
  for (const [name, text] of notes) print(`${name.padEnd(11)} ${text}`);
  print(`objective   ${pairObjective(flags)}`);
  print(`policy      ${policy?.name ?? "none"}`);
  print(`rate        ${flags.lr}, ${why}`);
}
