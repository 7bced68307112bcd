/**
 * Freeze policies beside honest baselines, like for like: quality against time, over several seeds.
 *
 * ```sh
 * ./firn deno run --allow-read --allow-write tests/bench/policies.ts --help
 * ```
 *
 * @module
 */

import { type Gpu, InputError, type Model, type Signal, sizeOf } from "@firn/train";
import { modelParams } from "@firn/train/models";
import { hostFileSystem, loadTokenizer } from "@firn/train/data";
import { loadModel, newModel } from "@firn/train/hub";
import { earlyStopping } from "@firn/train/policies";
import {
  positive,
  readFlags,
  runMain,
  share,
  text,
  toggle,
  UsageError,
  type Values,
  whole,
} from "../../examples/flags.ts";
import { helpOf } from "../../examples/help.ts";
import { GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { claimFolder } from "../../examples/output.ts";
import { print } from "../../examples/print.ts";
import { locateModel, MODEL } from "../../examples/hub.ts";
import { openText } from "../../examples/text.ts";
import { machineOf, SOFTWARE } from "./machine.ts";
import { readRows, readSpam } from "../../examples/labelled_text.ts";
import { readIntents } from "./policies_data.ts";
import { type Candidate, candidateOf, POLICIES } from "./policies_list.ts";
import { drawPolicies } from "./policies_plot.ts";
import { type Run, type Runner, runnerOf, validateEvery } from "./policies_run.ts";
import { fittingSteps, probe, study, type Threshold } from "./policies_study.ts";
import { summarise, tableLines } from "./policies_table.ts";
import { labelTask, type Task, type TaskOptions, textTask } from "./policies_tasks.ts";

const FLAGS = {
  model: MODEL,
  task: text("NAME|FILE", "lm, spam, intents, or a .jsonl file of rows with text and label", "lm"),
  data: text("NAME|FILE|DIR", "text of lm [moby-dick], as in finetune; folder of intents", null),
  policies: text("NAMES", `with commas: ${POLICIES.join(", ")}, or paths of modules`, "gradES,snr,prefix"),
  seeds: whole("runs of each, with seeds 0, 1, ...: at least 3 to report", 3),
  steps: whole("planned optimizer steps, T", 200),
  batch: whole("sequences in a batch", 16),
  length: whole("tokens in a sequence", 64, 2),
  lr: positive("largest learning rate: 5 % warm-up, then a cosine to 0", 1e-3),
  alpha: share("share of the steps in which gradES freezes nothing; a baseline stops there", 0.5),
  look: whole("steps between looks", 10),
  watch: whole("most batches in a validation", 16),
  fresh: toggle("start from random weights, drawn by the seed, not from those of the model"),
  limit: whole("seconds for all runs: their steps are cut down to fit; no limit when 0", 0, 0),
  out: text("DIR", "output folder, new or empty", "out/policies"),
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn deno run --allow-read --allow-write tests/bench/policies.ts [flags]

Trains a model under each policy and beside it, seed by seed: full length; stopped at alpha T; alpha T steps with a
schedule of their own; early stopping; and for each policy a random twin, which freezes as many at the same times, a
run of as many FLOPs, and one of as many steps. Writes results.json after each run, then table.txt and plot.svg.`;

type Flags = Values<typeof FLAGS>;

async function taskOf(flags: Flags, options: TaskOptions): Promise<Task> {
  const { task, data } = flags;
  if (task === "lm") return await textTask(await openText(data ?? "moby-dick"), options);
  if (task === "spam") return labelTask(await readSpam(), options);
  if (/\.jsonl$/i.test(task)) return labelTask(await readRows(task), options);
  if (task !== "intents") {
    throw new UsageError(`--task must be lm, spam, intents or a .jsonl file: got "${task}"`);
  }
  if (data === null) throw new UsageError("--task intents needs its folder: --data DIR");
  return labelTask(await readIntents(data), options);
}

/** The model of a seed: always the same, or a new one. */
function modelsOf(gpu: Gpu, base: Model, fresh: boolean): (seed: number) => Promise<Model> {
  const made = new Map<number, Promise<Model>>();
  return (seed) => {
    if (!fresh) return Promise.resolve(base);
    if (!made.has(seed)) made.set(seed, newModel(gpu, { source: base.source, seed }));
    return made.get(seed)!;
  };
}

async function main(): Promise<void> {
  const { values: flags, help } = readFlags(Deno.args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  const names = flags.policies.split(",").filter((name) => name !== "");
  if (names.length === 0) throw new UsageError("--policies needs at least one");
  const candidates: Candidate[] = [];
  for (const name of names) candidates.push(await candidateOf(name));
  if (flags.steps < 2 * flags.look) {
    throw new UsageError(`--steps must be at least two looks, ${2 * flags.look}: got ${flags.steps}`);
  }

  await using gpu = await openDevice(flags);
  const machine = machineOf(gpu);
  const located = await locateModel(flags.model);
  const base = await loadModel(gpu, located.folder),
    tokenizer = await loadTokenizer(located.folder, { model: base });
  if (flags.length > base.maxLength) {
    throw new InputError(
      `Cannot train on ${flags.length} tokens as "${flags.model}" allows ${base.maxLength}: lower --length`,
    );
  }
  const task = await taskOf(flags, { ...flags, gpu, model: base, tokenizer });
  const folder = await claimFolder(flags.out, { resumed: false });
  const say = (line: string): void => {
    print(line);
    printed.push(line);
  };
  const printed: string[] = [];
  say(`${gpu.name}, ${Object.entries(machine.versions).map((pair) => pair.join(" ")).join(", ")}`);
  if (gpu.software) say(SOFTWARE);
  const parameters = [...modelParams(base).values()].reduce((n, { shape }) => n + sizeOf(shape), 0);
  say(
    `model     ${flags.model}, ${(parameters / 1e6).toFixed(2)} M parameters${flags.fresh ? ", fresh" : ""}`,
  );
  say(`task      ${flags.task}${flags.data === null ? "" : ` on ${flags.data}`}`);
  for (const line of task.about) say(`          ${line}`);
  say(
    `training  ${flags.steps} steps of ${flags.batch} x ${flags.length}, AdamW, clipping, rate ${flags.lr}`,
  );

  const modelOf = modelsOf(gpu, base, flags.fresh);
  const { params } = await modelOf(0);
  const start = await task.test(params);
  say(`before    loss ${start.loss.toFixed(4)}${percent(start.accuracy)} on the test part`);
  const runner = runnerOf({ gpu, task, modelOf, learningRate: flags.lr, lookEvery: flags.look });
  const runs: Run[] = [], signals = new Set<Signal>(candidates.flatMap(({ thresholds }) => thresholds));
  let thresholds: readonly Threshold[] = [], ended: string | null = "interrupted";
  const save = () =>
    hostFileSystem().write(
      `${folder}/results.json`,
      JSON.stringify({
        flags,
        steps,
        machine,
        about: task.about,
        parameters,
        start,
        thresholds,
        ended,
        summaries: summarise(runs),
        runs,
      }),
    );
  // The plain training is compiled first, so that what all others share is not counted as theirs.
  const began = performance.now(), spent = () => (performance.now() - began) / 1000;
  await runner.run({ label: "warm-up", steps: flags.look, seed: 0, once: true });
  say(`warm-up   ${spent().toFixed(1)} s, not counted: tuning, compiling, first kernels`);
  const steps = flags.limit === 0
    ? flags.steps
    : await fit(runner, { flags, left: () => flags.limit - spent() });
  if (steps < flags.steps) {
    say(`steps     ${steps} in place of ${flags.steps}, to end within ${flags.limit} s`);
  }
  const options = { ...flags, steps, lookEvery: flags.look };
  thresholds = await probe(runner, [...signals], options);
  for (const { signal, tau, step, over, below, of } of thresholds) {
    say(
      `threshold tau = ${tau} of ${signal}: ${below} of ${of} matrices read less on average in the ${over} steps up to ` +
        `${step} of a probe run on seed 0, before any result was seen`,
    );
  }
  await save();
  const limit = flags.limit === 0 ? null : flags.limit - spent();
  ended = await study(runner, {
    ...options,
    limit,
    candidates,
    async onRun(run) {
      runs.push(run);
      print(
        `seed ${run.seed}  ${run.label.padEnd(28)} ${run.steps} steps  ${run.total.toFixed(2)} s  ` +
          `loss ${run.test.loss.toFixed(4)}${percent(run.test.accuracy)}  frozen ${run.frozen}`,
      );
      await save();
    },
  }, thresholds);
  if (runs.length === 0) throw new InputError(`Cannot compare as no run was made: ${ended}; raise --limit`);
  await save();
  say("");
  for (const line of tableLines(summarise(runs))) say(line);
  say("");
  for (const line of notes({ ...flags, steps }, runs)) say(line);
  if (ended !== null) say(`incomplete: ${ended}`);
  await hostFileSystem().write(`${folder}/table.txt`, `${printed.join("\n")}\n`);
  const title = `${flags.task}, ${(parameters / 1e6).toFixed(1)} M parameters, ${gpu.name}`;
  await hostFileSystem().write(`${folder}/plot.svg`, await drawPolicies(runs, title));
  print(`written   ${folder}/results.json, table.txt, plot.svg`);
}

/** Steps that fit into the time left, from the pace of a short run after one in which kernels are compiled. */
async function fit(
  runner: Runner,
  { flags, left }: { readonly flags: Flags; readonly left: () => number },
): Promise<number> {
  const { look, policies, limit: _, ...planned } = flags;
  await runner.run({ label: "pace", steps: look, seed: 0, once: true });
  const before = left();
  const { stepping, steps } = await runner.run({ label: "pace", steps: 10 * look, seed: 0, once: true });
  return fittingSteps({
    ...planned,
    policies: policies.split(",").length,
    lookEvery: look,
    limit: left(),
    perStep: stepping / steps,
    // A full run has twice as many validations.
    perRun: 2 * (before - left() - stepping),
  });
}

const percent = (accuracy: number | null): string =>
  accuracy === null ? "" : `  accuracy ${(100 * accuracy).toFixed(2)} %`;

/** What the columns mean. */
function notes({ steps, look, seeds }: Flags, runs: readonly Run[]): string[] {
  const warmUps = runs.map(({ warmUp }) => warmUp);
  return [
    "loss, accuracy: test part, mean (least..greatest) over seeds; to full: mean of the differences seed by seed.",
    "seconds: wall time of the steps with their looks, of changes of the frozen set, and, for early stopping alone, of its " +
    `validations (every ${
      validateEvery(steps, look)
    } steps; ${earlyStopping().name}). Not in the seconds: the first ` +
    `step of each configuration (${Math.min(...warmUps).toFixed(2)}..${
      Math.max(...warmUps).toFixed(2)
    } s), validation of all others, the test.`,
    "changes: planning, compiling and recording, in the seconds. compiling: of these, shaders that the process had not seen: " +
    "once for each, by whichever run is the first to need it; next to nothing where the driver keeps them.",
    "TFLOP: by the plans; rows of the head that have no label count in full there, and take no time.",
    ...seeds < 3 ? ["fewer than 3 seeds: not to be reported."] : [],
  ];
}

if (import.meta.main) await runMain(main, "policies");
