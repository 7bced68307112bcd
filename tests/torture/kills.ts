/**
 * Real runs, killed at random instants of their whole life and continued. The final model, its companions and the log
 * must be those of a run that nobody killed.
 *
 * @module
 */

import { attempt, type Ended, type Kill } from "./attempt.ts";
import { type Draw, drawFrom, oneOf } from "./draw.ts";
import { contentOf, differenceOf, progressOf } from "./run_folder.ts";
import { makeModel, TEXT } from "./small_model.ts";
import type { Failure, Row } from "./tally.ts";

/** Runs at a time. */
const WORKERS = 2;

/** Kills of one run, before it is left alone. */
const KILLS_A_RUN = 5;

/** Milliseconds that no run takes whose shaders are compiled. */
const SLOW = 4_000;

/** A run, and what it saves. */
interface Recipe {
  readonly command: string;
  /** Its arguments; `@` is the folder of the files. */
  readonly args: string;
}

const finetune = (args: string): Recipe => ({
  command: "finetune",
  args: `--model @/base --data @/text.txt --batch 2 --length 8 --lr 0.02 --prompt ab ${args}`,
});

/** Runs that differ in what is saved: frozen sets, best weights, a checkpoint after each step, a tokenizer of its own. */
const RECIPES: readonly Recipe[] = [
  finetune("--steps 36 --checkpoint 3 --metric gradDelta --tau 0.4 --alpha 0.3"),
  finetune("--steps 30 --checkpoint 4 --policy earlyStopping"),
  finetune("--steps 24 --checkpoint 1 --policy snr"),
  {
    command: "pretrain",
    args: "--data @/text.txt --vocab 258 --hidden 8 --layers 1 --heads 2 --kv-heads 1 --mlp 16 " +
      "--length 8 --batch 2 --steps 24 --checkpoint 3",
  },
];

/** Takes several times as long, as it reads and tests 10,000 digits: only where time is not short. */
const DIGITS: Recipe = { command: "digits", args: "--steps 24 --batch 8 --checkpoint 2 --policy snr" };

/** A run that nobody killed. */
interface Whole {
  readonly command: string;
  readonly args: readonly string[];
  readonly content: ReadonlyMap<string, string>;
  readonly took: number;
  readonly changes: number;
}

/** When to stop. */
export interface KillOptions {
  readonly seed: number;
  /** Kills to reach. */
  readonly kills: number;
  /** Time at which no other run is begun, as `performance.now()` counts. */
  readonly until: number;
  /** Whether slow runs are killed too. */
  readonly slow: boolean;
  /** A folder for all files. */
  readonly folder: string;
}

/**
 * Kills runs.
 *
 * @param options How many, and until when
 * @returns The row of the table
 */
export async function killRuns({ seed, kills, until, slow, folder }: KillOptions): Promise<Row> {
  await makeModel(`${folder}/base`);
  await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
  const recipes = slow ? [...RECIPES, DIGITS] : RECIPES;
  const whole = await Promise.all(recipes.map((recipe) => undisturbed(recipe, folder)));
  let done = 0, runs = 0;
  const failures: Failure[] = [];
  await Promise.all(Array.from({ length: WORKERS }, async () => {
    while (done < kills && performance.now() < until) {
      const number = runs++;
      const one = await killRun(whole[number % whole.length], {
        draw: drawFrom(seed, number),
        folder,
        number,
      });
      done += one.kills;
      failures.push(...one.failures.map((failure) => ({ ...failure, part: "kills", number })));
    }
  }));
  return { part: "runs, killed", tried: `${runs} runs`, kills: done, failures };
}

async function undisturbed({ command, args: text }: Recipe, folder: string): Promise<Whole> {
  const place = await Deno.makeTempDir({ dir: folder }), args = text.replaceAll("@", folder).split(" ");
  const run = (out: string): Promise<Ended> =>
    attempt([...args, "--out", out], { command, place, launcher: false });
  const first = await run(`${place}/first`);
  // The first run may have compiled shaders, which the driver keeps on the disk: then it says nothing of the time of others.
  const { code, stderr, took, changes } = first.took > SLOW ? await run(`${place}/second`) : first;
  if (code !== 0) throw new Error(`a run that nobody killed failed: ${stderr}`);
  return { command, args, content: await contentOf(`${place}/first`), took, changes };
}

type Found = Pick<Failure, "column" | "detail">;

/** One run: killed again and again, then left alone and compared. */
async function killRun(
  whole: Whole,
  { draw, folder, number }: { readonly draw: Draw; readonly folder: string; readonly number: number },
): Promise<{ readonly kills: number; readonly failures: readonly Found[] }> {
  const place = `${folder}/run-${number}`, out = `${place}/out`, history: string[] = [whole.command];
  const failures: Found[] = [];
  const fail = (column: Failure["column"], seen: string): void => {
    failures.push({ column, detail: `${history.join("; ")}: ${seen}` });
  };
  await Deno.mkdir(place);
  let kills = 0, reached = 0;
  while (failures.length === 0) {
    const progress = await progressOf(out);
    if (progress === "lost") fail("lost", "the run has trained and left no checkpoint");
    if (progress === "lost" || progress === "finished") break;
    if (progress === "clean") await Deno.remove(out, { recursive: true }).catch(() => {});
    const launcher = draw(6) === 0, kill = killOf(draw, whole);
    const args = progress === "clean" ? [...whole.args, "--out", out] : ["--resume", out];
    const ended = await attempt(args, {
      command: whole.command,
      place,
      launcher,
      ...kills < KILLS_A_RUN && { kill },
    });
    history.push(
      `${progress}${launcher ? ", ./firn" : ""}, ${ended.killed ? shown(kill) : `exit ${ended.code}`}`,
    );
    if (ended.killed) kills++;
    const fault = faultOf(ended, { reached, progress });
    if (fault !== null) fail(...fault);
    reached = Math.max(reached, stepOf(ended));
  }
  if (failures.length === 0) {
    const difference = differenceOf(await contentOf(out), whole.content);
    if (difference !== null) fail("torn", difference);
  }
  if (failures.length === 0) await Deno.remove(place, { recursive: true });
  return { kills, failures };
}

/** Half of the kills come at any time, half shortly after a change of the folder: in the middle of a save. */
function killOf(draw: Draw, { took, changes }: Whole): Kill {
  const signal = oneOf(draw, ["SIGKILL", "SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGINT"] as const);
  const share = draw(10_000) / 10_000;
  return draw(2) === 0
    ? { signal, changes: 0, wait: Math.round(share * took) }
    : { signal, changes: 1 + Math.floor(share * changes), wait: draw(4) };
}

const shown = ({ signal, changes, wait }: Kill): string =>
  `${signal} after ${changes > 0 ? `${changes} changes and ` : ""}${wait} ms`;

/** The step from which a process went on, and at which it saved at a signal. */
function stepOf({ stdout, stderr }: Ended): number {
  const steps = [/^resumed +at step (\d+)/m.exec(stdout), /step (\d+) is saved/.exec(stderr)];
  return Math.max(0, ...steps.map((found) => Number(found?.[1] ?? 0)));
}

/** What must not be seen of a process, whether it was killed or not. */
function faultOf(
  ended: Ended,
  { reached, progress }: { readonly reached: number; readonly progress: string },
): readonly [Failure["column"], string] | null {
  const { hung, killed, code, stdout, stderr } = ended;
  if (hung) return ["hangs", "it did not end"];
  if (/^ {4}at /m.test(stderr)) return ["raw", stderr];
  if (!killed && code !== 0) return [progress === "resumable" ? "lost" : "raw", stderr];
  if (stdout.includes("resumed ") && stepOf({ ...ended, stderr: "" }) < reached) {
    return ["lost", `it had saved step ${reached}, and went on from step ${stepOf(ended)}`];
  }
  return null;
}
