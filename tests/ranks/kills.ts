/**
 * Kills a rank of a run at random moments of its life, with a signal that none can catch. All processes must end within ten
 * seconds, with a status that is not 0 and a line that names the signal; the run must go on to the bits of one that nobody killed.
 *
 * ```sh
 * ./firn deno run -A tests/ranks/kills.ts --seed 1 --kills 20
 * ```
 *
 * It takes the `mpirun` of PATH, and about twenty seconds a kill on two idle cores.
 *
 * @module
 */

import { readFlags, runMain, whole } from "../../examples/flags.ts";
import { helpOf } from "../../examples/help.ts";
import { print } from "../../examples/print.ts";
import { type Draw, drawFrom } from "../torture/draw.ts";
import { contentOf, differenceOf, progressOf } from "../torture/run_folder.ts";
import { makeModel, TEXT } from "../torture/small_model.ts";
import { type Marked, marked, type Phase, PHASES, waitFor } from "./moments.ts";

const FLAGS = {
  seed: whole("what is random follows from it", 1, 0),
  kills: whole("how many", 20),
};

const USAGE = `usage: ./firn deno run -A tests/ranks/kills.ts [flags]

Kills a rank of two at random moments, lets the run go on, and prints a table. The exit status is 1 when anything failed.`;

/** Seconds within which all processes must have ended. */
const SOON = 10;
/** Kills of one run, before it is left alone. */
const KILLS_A_RUN = 4;
/** What a launcher says of a process that a signal ended. */
const NAMED = /signal 9|SIGKILL|EXIT CODE: 9\b|Killed/;

const ARGS = "--batch 2 --length 8 --lr 0.02 --steps 24 --checkpoint 3 --no-sample --no-tune " +
  "--metric gradDelta --tau 0.4 --alpha 0.3";

/** One run of two ranks, and how it ended. */
interface Ended {
  readonly code: number;
  readonly text: string;
  /** Milliseconds that it took. */
  readonly took: number;
  /** What was killed; null when the run had ended before. */
  readonly kill: { readonly rank: number; readonly phase: Phase; readonly endedMs: number } | null;
}

/** Where the files of a run are. */
interface Place {
  readonly folder: string;
  readonly out: string;
}

/** Runs two ranks, and kills one of them. */
async function run(
  { folder, out }: Place,
  { args, kill }: {
    readonly args: readonly string[];
    readonly kill?: { readonly draw: Draw; readonly phase: Phase };
  },
): Promise<Ended> {
  const mark = crypto.randomUUID(), began = performance.now();
  await Deno.mkdir(folder, { recursive: true });
  using watcher = Deno.watchFs(folder);
  const process = new Deno.Command("./firn", {
    args: ["ranks", "2", "finetune", ...args],
    cwd: new URL("../../", import.meta.url),
    env: { FIRN_MARK: mark, NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let alive = true;
  const output = process.output().finally(() => {
    alive = false;
    watcher.close();
  });
  let killed: Ended["kill"] = null;
  if (kill !== undefined) {
    const victim = await victimOf({ mark, ...kill, events: watcher, out, isAlive: () => alive });
    if (victim !== null && send(victim.pid, "SIGKILL")) {
      const at = performance.now();
      while ((await marked(mark)).length > 0 && performance.now() - at < 4000 * SOON) await pause(50);
      killed = { rank: victim.rank!, phase: kill.phase, endedMs: performance.now() - at };
      for (const { pid } of await marked(mark)) send(pid, "SIGKILL");
    }
  }
  const { code, stdout, stderr } = await output, text = new TextDecoder();
  return {
    code,
    text: text.decode(stdout) + text.decode(stderr),
    took: performance.now() - began,
    kill: killed,
  };
}

/** Waits for a random moment of a phase; null when the run ends before. */
async function victimOf(
  { mark, draw, phase, events, out, isAlive }: {
    readonly mark: string;
    readonly draw: Draw;
    readonly phase: Phase;
    readonly events: AsyncIterable<Deno.FsEvent>;
    readonly out: string;
    readonly isAlive: () => boolean;
  },
): Promise<Marked | null> {
  const { wait, stops } = await waitFor(phase, { draw, events, out });
  await pause(wait);
  const all = isAlive() ? (await marked(mark)).filter(({ rank, leads }) => rank !== null && leads) : [];
  if (all.length < 2) return null;
  const [victim, other] = draw(2) === 0 ? all : all.toReversed();
  if (stops) { // The other then waits for it in an exchange.
    send(victim.pid, "SIGSTOP");
    await pause(1500);
    if (draw(2) === 0) {
      send(victim.pid, "SIGCONT");
      return isAlive() ? other : null;
    }
  }
  return isAlive() ? victim : null;
}

/** Sends a signal; false where the process has ended. */
function send(pid: number, signal: Deno.Signal): boolean {
  try {
    Deno.kill(pid, signal);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What must not be seen of a run with a rank that was killed. */
function faultOf({ code, text, kill }: Ended): string | null {
  if (kill === null) {
    return code === 0 ? null : `exit ${code} of a run that nobody killed: ${text.slice(-800)}`;
  }
  if (kill.endedMs > 1000 * SOON) return `processes ended after ${(kill.endedMs / 1000).toFixed(1)} s`;
  if (code === 0) return "exit status 0";
  if (!NAMED.test(text)) return `nothing names the signal: ${text.slice(-800)}`;
  return /^ {4}at /m.test(text) ? `a stack: ${text.slice(-800)}` : null;
}

async function main(): Promise<void> {
  const { values: { seed, kills }, help } = readFlags(Deno.args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  const root = await Deno.makeTempDir({ prefix: "firn-kills-" }), draw = drawFrom(seed, 0);
  await makeModel(`${root}/base`);
  await Deno.writeTextFile(`${root}/text.txt`, TEXT);
  const args = [...ARGS.split(" "), "--model", `${root}/base`, "--data", `${root}/text.txt`];
  const start = (folder: string): Place => ({ folder, out: `${folder}/out` });
  const first = start(`${root}/whole`), whole = await run(first, { args: [...args, "--out", first.out] });
  if (whole.code !== 0) throw new Error(`a run that nobody killed failed: ${whole.text}`);
  const expected = await contentOf(first.out), failures: string[] = [], ends: number[] = [];
  for (let number = 0, done = 0, missed = 0; done < kills && missed < kills + 5; number++) {
    const place = start(`${root}/run-${number}`);
    for (let own = 0; failures.length === 0;) {
      const progress = await progressOf(place.out);
      if (progress === "finished") break;
      if (progress === "lost") failures.push(`run ${number} has trained and left no checkpoint`);
      if (progress === "clean") await Deno.remove(place.out, { recursive: true }).catch(() => {});
      const phase = PHASES[(done + missed) % PHASES.length], kill = own < KILLS_A_RUN && done < kills;
      const ended = await run(place, {
        args: progress === "clean" ? [...args, "--out", place.out] : ["--resume", place.out],
        ...kill && { kill: { draw, phase } },
      });
      const fault = faultOf(ended);
      if (fault !== null) failures.push(`run ${number}, ${phase}: ${fault}`);
      if (kill && ended.kill === null) missed++;
      if (ended.kill === null) continue;
      const { rank, endedMs } = ended.kill, seconds = (endedMs / 1000).toFixed(1);
      own++, done++, ends.push(endedMs);
      print(
        `${String(done).padStart(3)}  rank ${rank}  ${phase.padEnd(12)} ${seconds} s, exit ${ended.code}`,
      );
    }
    const difference = failures.length > 0 ? null : differenceOf(await contentOf(place.out), expected);
    if (difference !== null) failures.push(`run ${number} has other bits: ${difference}`);
    if (failures.length > 0) break;
  }
  const stray = await straysIn();
  if (stray.length > 0) failures.push(`folders of ranks stay: ${stray.join(", ")}`);
  for (const failure of failures) print(failure);
  const slowest = Math.max(0, ...ends) / 1000;
  print(`${ends.length} kills, all ended within ${slowest.toFixed(1)} s, ${failures.length} failures`);
  if (failures.length > 0 || ends.length < kills) {
    print(`files are kept in ${root}`);
    Deno.exit(1);
  }
  await Deno.remove(root, { recursive: true });
}

/** Folders that a killed rank left. */
async function straysIn(): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(new URL("../../.firn", import.meta.url))).catch(
    () => [],
  );
  return entries.map(({ name }) => name).filter((name) => name.startsWith("rank-"));
}

if (import.meta.main) await runMain(main, "kills");
