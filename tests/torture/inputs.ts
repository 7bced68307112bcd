/**
 * Damaged inputs of every format, loaded in processes that may hang, die or fill the memory.
 *
 * @module
 */

import { startDeno, startProgram } from "../examples/process.ts";
import { FORMATS } from "./formats/mod.ts";
import type { Format } from "./formats/types.ts";
import { type Outcome, READY } from "./load_inputs.ts";
import type { Failure, Row } from "./tally.ts";

/** Processes at a time, and inputs of one process. */
const WORKERS = 2, BATCH = 60;

/** Milliseconds until a process that starts, and one that loads, hangs. */
const START = 60_000, LOAD = 15_000;

/** Memory of a process that is too much. */
const TOO_MUCH = 2 ** 30;

/** What to load. */
export interface InputOptions {
  readonly seed: number;
  /** Time at which nothing else is begun, as `performance.now()` counts. */
  readonly until: number;
  /** Share of the inputs of a full run. */
  readonly share: number;
  readonly folder: string;
}

interface Batch {
  readonly format: Format;
  readonly from: number;
  readonly to: number;
}

/**
 * Loads damaged inputs.
 *
 * @param options How many, and until when
 * @returns A row of the table for each format
 */
export async function loadInputs({ seed, until, share, folder }: InputOptions): Promise<Row[]> {
  const batches = FORMATS.flatMap((format) => {
    const count = Math.ceil(format.count * share), parts = Math.ceil(count / BATCH);
    return Array.from({ length: parts }, (_, i): Batch => ({
      format,
      from: i * BATCH,
      to: Math.min(count, (i + 1) * BATCH),
    }));
  });
  const outcomes = new Map<Format, Outcome[]>(FORMATS.map((format) => [format, []]));
  let next = 0;
  await Promise.all(Array.from({ length: WORKERS }, async () => {
    while (next < batches.length && performance.now() < until) {
      const batch = batches[next++];
      outcomes.get(batch.format)!.push(...await loadBatch(batch, { seed, folder }));
    }
  }));
  return [...outcomes].map(([{ name }, of]) => rowOf(name, of));
}

function rowOf(part: string, outcomes: readonly Outcome[]): Row {
  const failures = outcomes.flatMap(({ kind, number, detail }): Failure[] =>
    kind === "refused" || kind === "harmless" ? [] : [{ column: kind, part, number, detail }]
  );
  const refused = outcomes.filter(({ kind }) => kind === "refused").length;
  return { part, tried: `${outcomes.length} inputs, ${refused} refused`, kills: 0, failures };
}

/** Loads a batch. Where a process ends early, another goes on behind the input that ended it. */
async function loadBatch(
  { format, from, to }: Batch,
  { seed, folder }: { readonly seed: number; readonly folder: string },
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (let at = from; at < to; at = from + outcomes.length) {
    const place = await Deno.makeTempDir({ dir: folder });
    const args = [seed, format.name, at, to, place].map(String);
    const { done, end } = await loadSome(args, place);
    outcomes.push(...done);
    if (end !== null && from + outcomes.length < to) {
      outcomes.push({ number: from + outcomes.length, ...end });
    }
    await Deno.remove(place, { recursive: true });
  }
  return outcomes;
}

/** Loads inputs in one process, until all are done or it has to be ended. */
async function loadSome(
  args: readonly string[],
  place: string,
): Promise<{ readonly done: readonly Outcome[]; readonly end: Omit<Outcome, "number"> | null }> {
  const script = "tests/torture/load_inputs.ts";
  const process = startDeno(["--allow-read", "--allow-write", script, ...args], place);
  const done: Outcome[] = [];
  let end: Omit<Outcome, "number"> | null = null;
  const stop = (reason: Omit<Outcome, "number">): void => {
    end ??= reason;
    process.kill("SIGKILL");
  };
  const stderr = new Response(process.stderr).text();
  const watched = watchMemory(process.pid, (bytes) => stop({ kind: "over1GB", detail: `${bytes} bytes` }));
  let timer = setTimeout(stop, START, { kind: "hangs", detail: "it did not start" }), ready = false;
  for await (const line of linesOf(process.stdout)) {
    clearTimeout(timer);
    if (ready) done.push(JSON.parse(line));
    ready ||= line === READY;
    timer = setTimeout(stop, LOAD, { kind: "hangs", detail: `it took more than ${LOAD / 1000} s` });
  }
  clearTimeout(timer);
  const { code } = await process.status;
  await watched;
  if (!ready) throw new Error(`files of ${args[1]} that are whole did not load: ${await stderr}`);
  return { done, end: end ?? (code === 0 ? null : { kind: "raw", detail: `it died: ${await stderr}` }) };
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

/** Follows the largest memory that a process ever had, until it ends. */
async function watchMemory(pid: number, tooMuch: (bytes: number) => void): Promise<void> {
  const loop = `while s=$(grep VmHWM "/proc/$0/status" 2>&-); do echo "$s"; sleep 0.1; done`;
  const process = startProgram(["sh", "-c", loop, String(pid)], "/tmp");
  for await (const line of linesOf(process.stdout)) {
    const bytes = 1024 * Number(/\d+/.exec(line)?.[0] ?? 0);
    if (bytes > TOO_MUCH) tooMuch(bytes);
  }
  await process.status;
}
