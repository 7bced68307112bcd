/**
 * The study of what freezing is worth: real weights, eight tasks, arms with rates of their own, five seeds.
 *
 * One command that goes on where it stopped: each finished run is a line of a file, and none is made twice.
 *
 * ```sh
 * deno run -A tests/bench/study.ts --help
 * ```
 *
 * @module
 */

import { type Gpu, openGpu, type Precision } from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import {
  oneOf,
  positive,
  readFlags,
  runMain,
  text,
  toggle,
  UsageError,
  type Values,
} from "../../examples/flags.ts";
import { helpOf } from "../../examples/help.ts";
import { print, printError } from "../../examples/print.ts";
import { machineOf } from "./machine.ts";
import { measureCache } from "./study_cache.ts";
import { compileClock, openPowerMeter } from "./study_clocks.ts";
import { keptText } from "./study_columns.ts";
import { readData } from "./study_data.ts";
import { f32Beside, readF32 } from "./study_f32.ts";
import { startOnOwnGpu } from "./own_gpu.ts";
import { estimateLines } from "./study_estimate.ts";
import { joinKept, openBehind, readKept, type RunsOf } from "./study_kept.ts";
import { checkAlike, joinLines, openLines, type StudyLine } from "./study_lines.ts";
import { freshOf, modelsIn, openSubject, type Subject, type SubjectSource } from "./study_models.ts";
import { BREADTH, PLAN, type StudyPlan, type StudyTask } from "./study_plan.ts";
import { primary } from "./study_policies.ts";
import { prepare } from "./study_prepare.ts";
import { SCRATCH } from "./study_scratch.ts";
import { readCache, writeReport } from "./study_report.ts";
import { bestRate, makeRuns } from "./study_run.ts";
import type { StudyLab } from "./study_train.ts";
import { TINY, TINY_BREADTH, TINY_SCRATCH, tinySources } from "./study_tiny.ts";

/** Where runs go when nothing else is said. */
const OUT = "out/study";
/** What the repository has of the study: no place for tiny runs. */
const KEPT = "tests/bench/study_runs.jsonl", DOCUMENT = "tests/bench/STUDY.md";

const FLAGS = {
  data: text("DIR", "folder of study.ts --prepare, with the folders of both models", "out/study/data"),
  out: text(
    "DIR",
    `folder of finished runs, ${OUT} when absent; --keep, --report and --estimate join several, with commas between them`,
    null,
  ),
  tasks: text<string | null>(
    "A,B",
    "tasks that are run, in this order, each finished before the next; all when absent",
    null,
  ),
  arms: text<string | null>("A,B", "arms that are run; all of the part when absent", null),
  seeds: text<string | null>("N,N", "seeds of final runs; all of the part when absent", null),
  tuned: text<string | null>(
    "FILE",
    "kept runs, of any precision, whose rates and tau are taken: final runs alone are made; in f32 the file beside --kept is read in its place",
    null,
  ),
  device: text<string | null>(
    "ADDRESS",
    "PCI address of the GPU, on a machine with several: a process with --tasks and --out of its own for each",
    null,
  ),
  seconds: positive("seconds of the process at which all runs must have ended", 500),
  part: oneOf<"core" | "breadth" | "scratch">(
    ["core", "breadth", "scratch"],
    "what is run: the core, more policies, or models trained from nothing",
    "core",
  ),
  gpu: oneOf<"auto" | "deno" | "dawn">(["auto", "deno", "dawn"], "implementation of WebGPU", "auto"),
  precision: oneOf<Precision>(["f32", "f16", "f32x3"], "how values are stored in training", "f32"),
  "cache-prefix": toggle("times training of several epochs with the lower half frozen and cached, and ends"),
  tiny: toggle("random models of a few parameters: shows that it runs"),
  kept: text("FILE", "runs that the repository keeps", KEPT),
  keep: toggle("adds the runs in --out to --kept, and ends"),
  "from-kept": toggle(
    "goes on behind the runs in --kept, by a GPU of their kind: none of them is made again",
  ),
  estimate: toggle(
    "tells how long the runs that are left will take, by those in --out or else in --kept, and ends",
  ),
  report: toggle(
    "writes what the runs in --out or else in --kept, which must be in f16, and those in f32 beside --kept show into --document, with the plot, and ends",
  ),
  document: text("FILE", "what --report writes into", DOCUMENT),
  prepare: text("DIR", "writes --data from instruction1100 and banking77 in this folder, and ends", null),
};

const USAGE = `usage: deno run -A tests/bench/study.ts [flags]

Makes the runs of the study that DIR/lines.jsonl does not have yet, until the time is over.`;

type Flags = Values<typeof FLAGS>;

/** Where models and data of a task come from. */
function sourcesIn(gpu: Gpu, folder: string): (task: StudyTask) => Promise<SubjectSource> {
  const modelOf = modelsIn(gpu, folder);
  return async (task) => ({
    task,
    load: modelOf(task.model),
    fresh: freshOf(gpu, task),
    data: await readData(folder, task.data, task),
    memory: task.model === "smollm2" ? (await readData(folder, "sotu")).test : null,
  });
}

/** Opens each task once. */
function subjectsOf(
  gpu: Gpu,
  sourceOf: (task: StudyTask) => Promise<SubjectSource>,
): (task: StudyTask) => Promise<Subject> {
  const opened = new Map<string, Promise<Subject>>();
  return (task) => {
    if (!opened.has(task.name)) {
      opened.set(task.name, sourceOf(task).then((source) => openSubject(gpu, source)));
      opened.get(task.name)!.then(() => print(`${clock()} ${task.name} is open`), () => {});
    }
    return opened.get(task.name)!;
  };
}

/** Seconds of the process so far. */
function clock(): string {
  return `[${(performance.now() / 1000).toFixed(1)} s]`;
}

/** What a training came to, in a line. */
function said(
  lines: readonly StudyLine[],
  { all, opening, tuned }: { readonly all: number; readonly opening: number; readonly tuned: number },
): string {
  const [{ task, rate, seed, purpose, setup, compiling }] = lines;
  const arms = lines.map((line) =>
    `${line.arm} ${line.quality.toFixed(4)} in ${line.seconds.toFixed(2)} s of ${line.steps}`
  );
  return `${clock()} ${purpose} ${seed}  ${task}  ${rate}  ${arms.join(", ")}  ` +
    `(opening ${opening.toFixed(2)}, first step ${setup.toFixed(2)}, compiling later ${
      compiling.toFixed(2)
    }, all ${all.toFixed(2)} s; products measured in ${tuned.toFixed(2)} s so far)`;
}

/** The plan with the named tasks alone, in the order of the names. */
export function withTasks(plan: StudyPlan, names: string | null): StudyPlan {
  if (names === null) return plan;
  const tasks = [...new Set(names.split(","))].map((name) => {
    const task = plan.tasks.find((one) => one.name === name);
    if (task !== undefined) return task;
    throw new UsageError(
      `--tasks must be of ${plan.tasks.map(({ name }) => name).join(", ")}: got "${name}"`,
    );
  });
  return { ...plan, tasks };
}

/** The plan with the named arms alone, in its own order. */
export function withArms(plan: StudyPlan, names: string | null): StudyPlan {
  if (names === null) return plan;
  const wanted = names.split(","), odd = wanted.find((name) => plan.arms.every((arm) => arm !== name));
  if (odd === undefined) return { ...plan, arms: plan.arms.filter((arm) => wanted.includes(arm)) };
  throw new UsageError(`--arms must be of ${plan.arms.join(", ")}: got "${odd}"`);
}

/** The plan with the named final seeds alone, in its own order. */
export function withSeeds(plan: StudyPlan, names: string | null): StudyPlan {
  if (names === null) return plan;
  const seeds = plan.finalSeeds.map((seed) => `${seed}`), wanted = names.split(",");
  const odd = wanted.find((name) => !seeds.includes(name));
  if (odd !== undefined) throw new UsageError(`--seeds must be of ${seeds.join(", ")}: got "${odd}"`);
  return { ...plan, finalSeeds: plan.finalSeeds.filter((seed) => wanted.includes(`${seed}`)) };
}

/** The plan without tuning: rates and tau are those of other runs, all of whose arms must be tuned. */
export function withTuned(plan: StudyPlan, runs: RunsOf | null): StudyPlan {
  if (runs === null) return plan;
  const { lines, folder } = runs;
  for (const task of plan.tasks) {
    // Where arms have no tuning of their own, full training without one would leave them the middle rate.
    const needed = plan.untuned ? ["full"] : plan.arms;
    const arm = needed.find((arm) => bestRate(lines, { task, arm }) === null);
    if (arm === undefined) continue;
    throw new UsageError(
      `--tuned must have all tuning runs of the arms: "${folder}" lacks some of ${task.name}, ${arm}; leave it out by --tasks or --arms`,
    );
  }
  return { ...plan, tuned: lines };
}

/** Makes runs of a plan, in a folder that may have others, of the seeds of its part. */
async function runStudy(
  flags: Flags,
  { plan, finalSeeds }: { readonly plan: StudyPlan } & Pick<StudyPlan, "finalSeeds">,
): Promise<void> {
  const { device } = flags, out = flags.out ?? OUT;
  await using gpu = await openGpu({
    gpu: flags.gpu,
    tuneCache: `${out}/tune.json`,
    ...device !== null && { device },
  });
  await using power = openPowerMeter(device);
  const { adapter, driver, versions } = machineOf(gpu), { compiled, tuned } = compileClock(gpu);
  const lab: StudyLab = {
    ...plan,
    gpu,
    power,
    precision: flags.precision,
    compiled,
    versions: { adapter, driver, ...versions },
  };
  const sources = flags.tiny ? tinySources(gpu) : sourcesIn(gpu, flags.data);
  const subjectOf = subjectsOf(gpu, sources);
  const kept = flags["from-kept"] ? await keptOf(flags) : null;
  const file = kept === null ? await openLines(out) : await openBehind(out, kept);
  print(`${adapter}, ${flags.precision}, ${file.lines.length} runs are there`);
  checkAlike(file.lines, {
    folder: kept === null ? out : `${kept.folder},${out}`,
    plan: { ...plan, finalSeeds },
    primary: primary().name,
    precision: flags.precision,
    adapter,
  });
  if (flags["cache-prefix"]) {
    return await measureCache(lab, {
      tasks: plan.tasks,
      subjectOf,
      rateOf: (task) => bestRate(plan.tuned ?? file.lines, { task, arm: "full" }) ?? task.rates[1],
      out,
      seconds: flags.seconds,
      say: print,
    });
  }
  const whole = await makeRuns(lab, {
    plan,
    file,
    seconds: flags.seconds,
    subjectOf,
    onLines: (lines, seconds) => print(said(lines, { ...seconds, tuned: tuned() / 1000 })),
    onFailure: ({ task, arm, rate, seed }, error) => {
      const { message = error, stack } = error as Error;
      printError(`${clock()} failed: ${task.name}, ${arm}, rate ${rate}, seed ${seed}: ${stack ?? error}`);
      const date = new Date().toISOString(),
        line = { task: task.name, arm, rate, seed, error: `${message}`, date };
      Deno.writeTextFileSync(`${out}/failures.jsonl`, JSON.stringify(line) + "\n", { append: true });
    },
  });
  print(
    `${clock()} ${whole ? "all runs of the plan are finished" : "time is over: the same command goes on"}`,
  );
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  if (flags.prepare !== null) {
    const from = flags.prepare, out = flags.data;
    const [smollm2, minilm] = ["smollm2", "minilm"].map((name) => `${out}/${name}`);
    const data = { instruction: `${from}/instruction1100`, banking77: `${from}/banking77` };
    for (const line of await prepare({ ...data, smollm2, minilm, out })) print(line);
    return;
  }
  if (flags.tiny) checkTiny(flags);
  const [core, breadth] = flags.tiny ? [TINY, TINY_BREADTH] : [PLAN, BREADTH];
  if (flags.keep) return await keep(core, flags);
  if (flags.report) return await report(core, flags);
  const part = { core, breadth, scratch: flags.tiny ? TINY_SCRATCH : SCRATCH }[flags.part];
  const tuned = flags.tuned === null ? null : await readKept(flags.tuned);
  const chosen = withSeeds(withArms(withTasks(part, flags.tasks), flags.arms), flags.seeds);
  const plan = withTuned(chosen, tuned);
  if (flags.estimate) {
    const { folder, lines } = await runsOf(flags), { finalSeeds } = part;
    // Runs of another precision, such as those that are tuned, are none of these.
    if (tuned !== null) {
      checkTogether({ ...plan, finalSeeds }, { folder, lines, precision: flags.precision });
    }
    for (const line of estimateLines(plan, lines)) print(line);
    return;
  }
  const names = flags.tiny ? [] : (await hostFileSystem().list(flags.data)).map(({ name }) => name);
  const missing = flags.tiny ? undefined : plan.tasks.find(({ data }) => !names.includes(`${data}.json`));
  if (missing !== undefined) {
    throw new UsageError(
      `--data must be a folder of study.ts --prepare: "${flags.data}" has no ${missing.data}.json`,
    );
  }
  if (flags.device !== null) await startOnOwnGpu(import.meta.url, args, { ranked: false });
  await runStudy(flags, { plan, finalSeeds: part.finalSeeds });
}

/** Keeps tiny runs, which are no result, out of what the repository has of the study. */
function checkTiny({ keep, kept, report, document }: Flags): void {
  const refuse = (flag: string, file: string): never => {
    throw new UsageError(
      `${flag} must be another file than "${file}" with --tiny, as its runs are no result`,
    );
  };
  if (keep && [KEPT, f32Beside(KEPT)].includes(kept)) refuse("--kept", kept);
  if (report && document === DOCUMENT) refuse("--document", document);
}

/** The runs of all folders of a list. */
async function runsIn(list: string): Promise<RunsOf> {
  const parts = await Promise.all(
    list.split(",").map(async (folder) => {
      const { lines } = await openLines(folder, { make: false });
      return { folder, lines, cache: await readCache(folder) };
    }),
  );
  return { folder: list, lines: joinLines(parts), cache: parts.flatMap(({ cache }) => cache) };
}

/** The runs in --kept; of runs in f32 that take their rates from others those beside them, as far as there are any. */
async function keptOf({ kept, tuned, precision }: Flags): Promise<RunsOf> {
  return tuned !== null && precision === "f32"
    ? await readKept(f32Beside(kept), { make: true })
    : await readKept(kept);
}

/** The runs in --out, behind those in --kept where these are wanted, too; without --out those in --kept. */
async function runsOf(flags: Flags): Promise<RunsOf> {
  if (flags.out === null) return await keptOf(flags);
  const own = await runsIn(flags.out);
  if (!flags["from-kept"]) return own;
  const kept = await keptOf(flags);
  return { folder: `${kept.folder},${own.folder}`, ...joinKept(kept, own) };
}

/** Refuses runs that cannot stand in one table, from any GPU, and of any precision where none is said. */
function checkTogether(
  plan: StudyPlan,
  { folder, lines, precision = null }: {
    readonly folder: string;
    readonly lines: readonly StudyLine[];
    readonly precision?: Precision | null;
  },
): void {
  checkAlike(lines, { folder, plan, primary: primary().name, precision, adapter: null });
}

/** Adds runs to those that the repository keeps. */
async function keep(plan: StudyPlan, { out, kept }: Flags): Promise<void> {
  const before = await readKept(kept, { make: true }), own = await runsIn(out ?? OUT);
  const runs = joinKept(before, own);
  checkTogether(plan, { folder: `${kept},${own.folder}`, lines: runs.lines });
  await hostFileSystem().write(kept, keptText(runs));
  print(`${"written".padEnd(11)} ${kept}: ${runs.lines.length} runs, ${before.lines.length} of them before`);
}

/** Writes what the runs show. */
async function report(plan: StudyPlan, flags: Flags): Promise<void> {
  const { kept, document } = flags, { folder, lines, cache } = await runsOf({ ...flags, tuned: null });
  // The document has a part of its own for f32.
  checkTogether(plan, { folder, lines, precision: flags.tiny ? null : "f16" });
  const f32 = await readF32(plan, { kept, lines });
  await writeReport(plan, { lines, cache, f32, document });
  print(`${"written".padEnd(11)} ${document}: ${lines.length} runs, and ${f32.length} in f32`);
}

if (import.meta.main) await runMain(() => main(Deno.args), "study");
