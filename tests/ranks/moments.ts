/**
 * Moments of a run of ranks, and its processes.
 *
 * @module
 */

import type { Draw } from "../torture/draw.ts";

/** What a run does from its start to its end. */
export const PHASES = ["start-up", "compile", "first step", "exchange", "look", "checkpoint", "end"] as const;

/** One of them. */
export type Phase = typeof PHASES[number];

/** Milliseconds after which a rank starts at the earliest, and within which it is up. */
const STARTS = 1500, STARTED = 3000;

/** What shows that a phase began, by the path of a file that changed, and the milliseconds that the phase may take. */
const BEGINS: Readonly<Record<Phase, { readonly shown: RegExp | null; readonly most: number }>> = {
  "start-up": { shown: null, most: STARTED },
  "compile": { shown: /metrics\.jsonl$/, most: 1500 },
  "first step": { shown: /checkpoint\.safetensors$/, most: 800 },
  "exchange": { shown: /checkpoint\.safetensors$/, most: 1500 },
  "look": { shown: /metrics\.jsonl$/, most: 5 },
  "checkpoint": { shown: /checkpoint/, most: 5 },
  "end": { shown: /\/model/, most: 1200 },
};

/**
 * Waits until a phase of a run began.
 *
 * @param phase The phase
 * @param options What draws; changes of files, until the run ends
 * @returns Milliseconds to wait further, and whether a rank is to be stopped first, so that the others wait in an exchange
 */
export async function waitFor(
  phase: Phase,
  { draw, events, out }: {
    readonly draw: Draw;
    readonly events: AsyncIterable<Deno.FsEvent>;
    /** The folder of the run. */
    readonly out: string;
  },
): Promise<{ readonly wait: number; readonly stops: boolean }> {
  const { shown, most } = BEGINS[phase], wait = draw(most), stops = phase === "exchange";
  if (shown === null) return { wait: STARTS + wait, stops };
  // The log changes at looks after it began; any of some checkpoints is taken.
  let left = phase === "look" ? 4 + draw(3) : phase === "checkpoint" ? 1 + draw(20) : 1;
  for await (const { paths } of events) {
    left -= paths.filter((path) => path.startsWith(out) && shown.test(path)).length;
    if (left <= 0) break;
  }
  return { wait, stops };
}

/** A process of a run. */
export interface Marked {
  readonly pid: number;
  /** Its rank; null for what starts ranks. */
  readonly rank: number | null;
  /** Whether it is the one that the launcher started, not one of its own children. */
  readonly leads: boolean;
}

/**
 * Finds the processes of a run by a variable of their environment.
 *
 * @param mark Its value, which no other run has
 * @returns The processes, in the order of their ranks
 */
export async function marked(mark: string): Promise<Marked[]> {
  const found: { readonly pid: number; readonly rank: number | null; readonly parent: number }[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const [environment, stat] = await Promise.all(
      ["environ", "stat"].map((file) => Deno.readTextFile(`/proc/${name}/${file}`).catch(() => "")),
    );
    if (!environment.includes(mark)) continue;
    const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (state === "Z") continue;
    const rank = /(?:^|\0)(?:OMPI_COMM_WORLD_RANK|PMI_RANK)=(\d+)/.exec(environment)?.[1];
    found.push({ pid: Number(name), rank: rank === undefined ? null : Number(rank), parent: Number(parent) });
  }
  const ranks = new Map(found.map(({ pid, rank }) => [pid, rank]));
  return found.map(({ pid, rank, parent }) => ({ pid, rank, leads: (ranks.get(parent) ?? null) === null }))
    .sort((a, b) => (a.rank ?? -1) - (b.rank ?? -1));
}
