/**
 * Scaling to several GPUs of this machine, beside DistributedDataParallel of PyTorch:
 *
 * ```sh
 * ./firn deno run -A tests/bench/ranks.ts --torch
 * ```
 *
 * One GPU takes the steps first, Firn on the first and PyTorch at the same time on the second; then all take them, Firn's ranks by
 * `mpirun` and PyTorch's by torchrun. A row is printed as soon as it is measured, and the table at the end. Needs MPI; `--seconds` says
 * how long all of it may take, the most important jobs come first.
 *
 * @module
 */

import { InputError } from "@firn/train";
import { pciGpus } from "../../core/host/pci_gpus.ts";
import { helpOf } from "../../examples/help.ts";
import { oneOf, readFlags, runMain, text, toggle, type Values, whole } from "../../examples/flags.ts";
import { print, printError } from "../../examples/print.ts";
import {
  HEAD,
  type Job,
  JOBS,
  jobsOfOne,
  jobsOfTwin,
  type Measured,
  rowOf,
  someOf,
  TINY,
} from "./ranks_jobs.ts";
import { programOf } from "./own_gpu.ts";
import type { Question } from "./ranks_rank.ts";
import { SHAPES } from "./shapes.ts";

const FLAGS = {
  gpu: oneOf(["deno", "dawn"], "implementation of WebGPU", "dawn"),
  gpus: text<string | null>("N,...", "numbers of GPUs beside one; all of this machine when absent", null),
  seconds: whole("how long all of it may take", 300),
  turn: whole("milliseconds that a measurement lasts at least", 1500),
  jobs: text<string | null>(
    "1,4-6",
    "numbers of the jobs; one number alone is how many; all when absent",
    null,
  ),
  variants: text<string | null>(
    "FILE",
    "products as they were measured, such as .firn/tune.json; what it lacks is measured by the GPU that is alone",
    null,
  ),
  torch: toggle("measure PyTorch, too"),
  tiny: toggle("the smallest jobs, to try the command"),
};

/** Shares of the time: one GPU, all GPUs, PyTorch on all. */
const SHARES = { one: 0.3, all: 0.5, torch: 0.2 } as const;

/** What is measured, and what was. */
interface Run {
  readonly flags: Values<typeof FLAGS>;
  readonly jobs: readonly Job[];
  readonly counts: readonly number[];
  readonly seen: Measured[];
}

/** Runs a program; each line of JSON that it prints is a measurement, all else is for a person. */
async function follow(
  words: readonly string[],
  { run: { seen }, env = {}, seconds }: {
    readonly run: Run;
    readonly env?: Record<string, string>;
    readonly seconds: number;
  },
): Promise<void> {
  const [program, ...args] = words,
    child = new Deno.Command(program, {
      args,
      env,
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
  // It begins no job later; the one under way may take as long as this.
  const late = setTimeout(() => child.kill("SIGTERM"), 1e3 * seconds + 30e3);
  for await (const line of linesOf(child.stdout)) {
    if (!line.startsWith("{")) {
      print(line);
      continue;
    }
    const measured: Measured = JSON.parse(line);
    seen.push(measured);
    if (measured.by === "Firn") print(rowOf(measured, seen));
    else {print(
        `  ${measured.by}, ${measured.gpus} GPUs, ${measured.ms.toFixed(1)} ms: ${
          JSON.stringify(measured.job)
        }`,
      );}
  }
  const { success, code } = await child.status;
  clearTimeout(late);
  if (!success) printError(`${program} ended with status ${code}`);
}

async function* linesOf(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncIterable<string> {
  let rest = "";
  for await (const text of bytes.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}

/** A rank, or one process alone. */
function denoWords(question: Question): string[] {
  return [...programOf(import.meta.resolve("./ranks_rank.ts")), JSON.stringify(question)];
}

/** How `mpirun` is started; a rank has threads, so that it is bound to no core. */
async function mpiWords(size: number): Promise<string[]> {
  const { stdout } = await new Deno.Command("mpirun", { args: ["--version"] }).output();
  const own = /HYDRA/.test(new TextDecoder().decode(stdout))
    ? []
    : ["--oversubscribe", "--bind-to", "none", ...Deno.uid() === 0 ? ["--allow-run-as-root"] : []];
  return ["mpirun", "-n", `${size}`, ...own];
}

function questionOf({ flags, jobs, counts }: Run, ranked: boolean, seconds: number): Question {
  const { turn, gpu, variants } = flags;
  return {
    jobs: ranked ? jobs : jobsOfOne(jobs),
    totals: counts,
    ranked,
    seconds,
    turn,
    gpu,
    variants,
  };
}

function twinWords({ flags, jobs }: Run, gpus: number, seconds: number): string[] {
  const path = new URL("ranks_twin.py", import.meta.url).pathname;
  const question = { jobs: jobsOfTwin(jobs), shapes: SHAPES, seconds, turn: flags.turn };
  const many = ["-m", "torch.distributed.run", "--nproc-per-node", `${gpus}`, "--master-addr", "127.0.0.1"];
  return ["python3", ...gpus > 1 ? many : [], path, JSON.stringify(question)];
}

async function measureAll(run: Run): Promise<void> {
  const { flags, counts } = run,
    each = (share: number): number => Math.round(flags.seconds * share / counts.length);
  const one = Math.round(flags.seconds * SHARES.one), last = pciGpus().length - 1;
  await Promise.all([
    follow(denoWords(questionOf(run, false, one)), { run, seconds: one }),
    // On another GPU than Firn, which takes the first.
    flags.torch && follow(twinWords(run, 1, one), {
      ...{ run, seconds: one },
      env: { CUDA_DEVICE_ORDER: "PCI_BUS_ID", CUDA_VISIBLE_DEVICES: `${Math.max(0, last)}` },
    }),
  ]);
  for (const size of counts) {
    const seconds = each(flags.torch ? SHARES.all : SHARES.all + SHARES.torch);
    const words = [...await mpiWords(size), ...denoWords(questionOf(run, true, seconds))];
    await follow(words, { run, seconds });
    if (!flags.torch) continue;
    await follow(twinWords(run, size, each(SHARES.torch)), { run, seconds: each(SHARES.torch) });
  }
}

async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf("usage: ./firn deno run -A tests/bench/ranks.ts [flags]", FLAGS));
  const counts = flags.gpus === null ? [pciGpus().length] : flags.gpus.split(",").map(Number);
  if (counts.some((n) => !(Number.isInteger(n) && n > 1))) {
    throw new InputError(
      `Cannot measure scaling as there must be several GPUs: got ${
        counts.join(", ")
      }; name how many ranks by --gpus 2, which then share one`,
    );
  }
  const all = flags.tiny ? TINY : JOBS, jobs = flags.jobs === null ? all : someOf(all, flags.jobs);
  if (jobs.length === 0) {
    throw new InputError(
      `Cannot measure as --jobs must name some of ${all.length}, as 1,4-6: got ${flags.jobs}; leave it out for all`,
    );
  }
  const run: Run = { flags, jobs, counts, seen: [] };
  HEAD.forEach((line) => print(line));
  await measureAll(run);
  print("");
  const own = run.seen.filter(({ by }) => by === "Firn");
  for (const line of [...HEAD, ...own.map((one) => rowOf(one, run.seen))]) print(line);
}

if (import.meta.main) await runMain(main, "ranks");
