/**
 * Where a training step spends its time, or one of generation with `--model`: `deno task profile [flags]`
 *
 * Prints the time of a step and how much of it the device is busy, its memory, and each kernel and family of kernels
 * with time, share and nearness to the roofline.
 *
 * @module
 */

import type { Cost, Gpu, KernelTime, Precision } from "@firn/train";
import { oneOf, readFlags, runMain, text, toggle, type Values, whole } from "../../examples/flags.ts";
import { helpOf } from "../../examples/help.ts";
import { GPU_FLAGS } from "../../examples/gpu.ts";
import { locateModel } from "../../examples/hub.ts";
import { print, printError } from "../../examples/print.ts";
import { hostFileSystem } from "@firn/train/data";
import { loadModel, type Storage } from "@firn/train/hub";
import { allocationsOn, comparedWithPlan, type Memory, type Planned, plannedOf } from "./allocated.ts";
import { dataWaitOf } from "./data_wait.ts";
import { openClock, settle } from "./timestamps.ts";
import { machineOf, openBenchDevice, SOFTWARE } from "./machine.ts";
import { idleWait, median, turn, warm } from "./measure.ts";
import { checkOutput } from "./output.ts";
import { measurePeaks } from "./peaks.ts";
import { generationLine, profileOfGeneration } from "./profile_generation.ts";
import { familyOf, type Group, groupBy, onMatrixUnits, type Peaks } from "./roofline.ts";
import { type Shape, SHAPES, workOf } from "./shapes.ts";

const FLAGS = {
  shape: oneOf(Object.keys(SHAPES) as (keyof typeof SHAPES)[], "which model", "sotu"),
  batch: whole("sequences in a batch", 8),
  length: whole("tokens in a sequence", 64, 2),
  steps: whole("steps to time, three times over", 10),
  precision: oneOf(["f32", "f16", "f32x3"], "how values are stored between kernels, and multiplied", "f32"),
  data: text("FILE", "rows to train on too, which tells how long a step waits for its batch", null),
  model: text("DIR|NAME", "a step of generation by this model in place of one of training", null),
  storage: oneOf<Storage>(["file", "f32", "int8", "nf4"], "how the device stores that model", "file"),
  launches: toggle("print each launch of a step of generation, in order"),
  rows: whole("kernels to print", 30),
  json: text("FILE", "file for everything that was measured; --json=- prints it instead", null),
  ...GPU_FLAGS,
};

/** Milliseconds of a step, seen from three sides. */
export interface StepTimes {
  /** The first step: compiling, and whatever else is done once. */
  readonly first: number;
  /** Wall time of a replayed step. */
  readonly wall: number;
  /** Between the device's clock before and after a step that waited in its queue, so that no host holds it up. */
  readonly busy: number;
  /** Sum over kernels, each with the clock read around it, which keeps neighbours apart and so takes longer. */
  readonly kernels: number;
}

/** Milliseconds of a step in which the device idles. */
export interface Idle {
  /** For the host: wall time less what the device takes when nothing holds it up. */
  readonly host: number;
  /**
   * Between kernels, at least: what the device takes less the sum over kernels, which is too large. 0 where that sum is the
   * larger one, so that nothing is known.
   */
  readonly between: number;
  /** Both, as a share of the wall time. */
  readonly share: number;
}

/** How long the device idles in a step. */
export function idleOf({ wall, busy, kernels }: Omit<StepTimes, "first">): Idle {
  const host = Math.max(0, wall - busy), between = Math.max(0, Math.min(wall, busy) - kernels);
  return { host, between, share: (host + between) / wall };
}

/** Everything that a profile finds. */
export interface Profile {
  readonly times: StepTimes;
  readonly idle: Idle;
  readonly peaks: Peaks;
  readonly planned: Planned;
  readonly memory: Memory;
  readonly cost: Cost;
  readonly parameters: number;
  readonly kernels: readonly Group[];
  readonly families: readonly Group[];
}

/** Profiles training of a shape. */
export async function profileOf(
  gpu: Gpu,
  { steps, ...size }: {
    readonly shape: Shape;
    readonly batch: number;
    readonly length: number;
    readonly steps: number;
    readonly precision?: Precision;
  },
): Promise<Profile> {
  const { peaks, occupy } = await measurePeaks(gpu);
  const allocations = allocationsOn(gpu);
  const { training, batch, parameters, ...made } = await allocations.during(() => workOf(gpu, size));
  let { state } = made;
  const runner = {
    async step() {
      state = await training.next(state, batch);
    },
    settle: () => settle(gpu),
  };
  const first = await turn({ ...runner, step: () => allocations.during(runner.step) }, 1);
  const planned = plannedOf(state, batch), memory = allocations.memory(planned);
  const idle = await idleWait(runner);
  await warm(runner, 300, idle);
  const walls: number[] = [], busy: number[] = [];
  using clock = openClock(gpu);
  for (let i = 0; i < 3; i++) {
    walls.push(await turn(runner, steps, idle) / steps);
    occupy(50);
    clock.mark(0);
    await runner.step();
    clock.mark(1);
    busy.push(await clock.read());
  }
  await training.profile(state);
  const rows = await training.profile(state);
  const matrixFlops = rows.some(({ name }) => onMatrixUnits(name)) ? peaks.matrixFlops : 0;
  const times = { first, wall: median(walls), busy: median(busy), kernels: total(rows) };
  return {
    times,
    idle: idleOf(times),
    peaks: { ...peaks, matrixFlops },
    planned,
    memory,
    cost: state.cost!,
    parameters,
    kernels: groupBy(rows, { peaks, key: ({ name }) => name }),
    families: groupBy(rows, { peaks, key: ({ name }) => familyOf(name) }),
  };
}

const total = (rows: readonly (KernelTime | Group)[]): number =>
  rows.reduce((ms, r) => ms + r.milliseconds, 0);

type Tables = "parameters" | "kernels" | "families";

/** The lines before the tables. */
export function heading({ times, idle, peaks, planned, memory, cost }: Omit<Profile, Tables>): string[] {
  const { first, wall, busy, kernels } = times;
  const rate = cost.matmulFlops / wall * 1e3, peak = Math.max(peaks.flops, peaks.matrixFlops);
  return [
    `peaks   ${(peaks.flops / 1e12).toFixed(2)} TFLOP/s (multiply-adds in registers), ${
      peaks.matrixFlops > 0 ? `${(peaks.matrixFlops / 1e12).toFixed(1)} on matrix units, ` : ""
    }${(peaks.bytes / 1e9).toFixed(0)} GB/s (copy)`,
    `memory  ${gib(memory.planned)} GiB planned: weights, moments and readings ${gib(planned.state)}, ` +
    `intermediate values ${gib(planned.values)}, constants and batch ${gib(planned.inputs)}`,
    `        ${memory.planned} bytes planned, ${memory.peak} allocated at the peak: ${
      comparedWithPlan(memory)
    }`,
    `step    ${wall.toFixed(2)} ms, ${cost.launches} launches, products at ${
      (rate / 1e12).toFixed(2)
    } TFLOP/s, ${(100 * rate / peak).toFixed(0)} % of the peak; first step ${(first / 1e3).toFixed(1)} s`,
    `device  ${busy.toFixed(2)} ms by its clock for a step that waits in its queue, ${
      kernels.toFixed(2)
    } ms for kernels clocked one by one, which stretches them`,
    `idle    ${(100 * idle.share).toFixed(1)} % of a step or more: ${idle.host.toFixed(2)} ms for the host ` +
    "(wall time less a queued step), " +
    (idle.between > 0
      ? `${idle.between.toFixed(2)} ms or more between kernels (a queued step less its kernels)`
      : "between kernels unknown (their clocks take as long as the gaps)"),
    "        the rest: kernels, and gaps that their clocks hide",
  ];
}

/** Time and bytes of all kernels. */
interface Totals {
  readonly ms: number;
  readonly bytes: number;
}

function totalsOf(groups: readonly Group[]): Totals {
  return { ms: total(groups), bytes: groups.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** A table with a row for each group: shares are of all kernels, `roof` is the share of the attainable speed. */
function tableOf(title: string, groups: readonly Group[], { ms: all, bytes: moved }: Totals): string[] {
  const cells = groups.map(({ name, count, milliseconds: ms, flops, bytes, attainable }) => [
    name.slice(0, 70),
    String(count),
    ms.toFixed(3),
    (100 * ms / all).toFixed(1),
    (flops / ms / 1e9).toFixed(2),
    (bytes / ms / 1e6).toFixed(0),
    (100 * bytes / moved).toFixed(1),
    (100 * attainable / ms).toFixed(0),
    (ms - attainable).toFixed(3),
  ]);
  const lines = [[title, "count", "ms", "%", "TFLOP/s", "GB/s", "bytes %", "roof %", "ms above"], ...cells];
  return lines.map(([name, ...numbers]) => name.padEnd(70) + numbers.map((n) => n.padStart(10)).join(""));
}

const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(2);

async function main(): Promise<void> {
  const { values: flags, help } = readFlags(Deno.args, FLAGS);
  if (help) return print(helpOf("usage: ./firn profile [flags]", FLAGS));
  const { shape, batch, length, steps, precision } = flags;
  const say = flags.json === "-" ? printError : print;
  const named = flags.model === null ? null : await locateModel(flags.model, { to: Deno.stderr });
  if (flags.json !== null && flags.json !== "-") await checkOutput(flags.json);
  await using gpu = await openBenchDevice(flags);
  const machine = machineOf(gpu);
  const driver = machine.driver === null ? "" : `, driver ${machine.driver}`;
  say(`${gpu.name}${driver}, Deno ${Deno.version.deno}`);
  if (gpu.software) say(SOFTWARE);
  if (named !== null) {
    const generation = await generationProfile(gpu, { folder: named.folder, flags, say });
    return await writeJson(flags.json, { software: gpu.software, machine, batch, length, ...generation });
  }
  const found = await profileOf(gpu, { shape: SHAPES[shape], batch, length, steps, precision });
  const all = totalsOf(found.families);
  say(`${shape}, ${(found.parameters / 1e6).toFixed(1)} M parameters, B ${batch}, T ${length}, ${precision}`);
  for (const line of heading(found)) say(line);
  if (flags.data !== null) {
    const { wall, waited } = await dataWaitOf(gpu, { ...flags, shape: SHAPES[shape], file: flags.data });
    say(
      `data    ${(100 * waited / wall).toFixed(1)} % of a step of ${
        wall.toFixed(2)
      } ms is waited for its rows, which are ` +
        "read, tokenized in a worker and cut while the device trains",
    );
  }
  say("");
  for (const line of tableOf("family", found.families, all)) say(line);
  say("");
  for (const line of tableOf("kernel", found.kernels.slice(0, flags.rows), all)) say(line);
  await writeJson(flags.json, { software: gpu.software, machine, shape, batch, length, precision, ...found });
}

async function writeJson(path: string | null, found: object): Promise<void> {
  if (path === null) return;
  const json = JSON.stringify(found, null, 2);
  if (path === "-") print(json);
  else await hostFileSystem().write(path, json);
}

/** Profiles a step of generation, and prints what was found. */
async function generationProfile(
  gpu: Gpu,
  { folder, flags, say }: {
    readonly folder: string;
    readonly flags: Values<typeof FLAGS>;
    readonly say: (line: string) => void;
  },
) {
  const model = await loadModel(gpu, folder, flags);
  const found = await profileOfGeneration(gpu, model, flags),
    { launches, byName, families } = found,
    totals = totalsOf(families);
  say(`${folder}, B ${flags.batch}, ${flags.length} tokens before, weights as ${flags.storage}`);
  say(generationLine(found, flags.batch));
  for (const [title, groups] of [["family", families], ["kernel", byName.slice(0, flags.rows)]] as const) {
    say("");
    for (const line of tableOf(title, groups, totals)) say(line);
  }
  if (flags.launches) {
    say("");
    for (const [i, { name, milliseconds }] of launches.entries()) {
      say(`${String(i + 1).padStart(6)} ${milliseconds.toFixed(3).padStart(10)} ms  ${name}`);
    }
  }
  return found;
}

if (import.meta.main) await runMain(main, "profile");
