/**
 * What moves on the screen: a line that redraws itself on a terminal and is printed now and then elsewhere.
 *
 * @module
 */

import type { Component, OnProgress, TrainingState } from "@firn/train";
import { printable } from "@firn/train/report";

/** Prints progress and, between its updates, ordinary lines. */
export interface Progress {
  /** Shows how far a run is; `facts` follow the bar. */
  update(step: number, facts: readonly string[]): void;
  /** Moves the bar on a terminal; the facts stay. */
  move(step: number): void;
  /** Prints a line that stays. */
  say(line: string): void;
  /** Ends the progress line. */
  end(): void;
}

/** How progress is shown; `auto`: a bar on a terminal, lines elsewhere. */
export type Display = "auto" | "bar" | "lines" | "none";

/** Where a line is drawn: `Deno.stdout`, `Deno.stderr`. */
export type Stream = Pick<typeof Deno.stdout, "isTerminal" | "writeSync">;

const WIDTH = 24;

/** Empties the line of a terminal. */
const ERASE = "\r\x1b[K";

/** Milliseconds between two lines of a stage where they stay. */
const STAGE_EVERY = 10_000;

/**
 * Makes a progress line.
 *
 * @param steps Steps in all
 * @param options `first`: step the run starts after. `to`: where the line is drawn; standard output when absent. `display`: how;
 * `auto` when absent
 * @returns The line; it knows the time left from the pace so far
 */
export function progress(
  steps: number,
  { first = 0, to = Deno.stdout, display = "auto" }: {
    readonly first?: number;
    readonly to?: Stream;
    readonly display?: Display;
  } = {},
): Progress {
  const live = display === "bar" || display === "auto" && to.isTerminal(), encoder = new TextEncoder();
  const started = performance.now();
  let shown = "", tenth = -1, known: readonly string[] = [], pace = NaN;
  const write = (text: string): void => {
    to.writeSync(encoder.encode(text));
  };
  const draw = (step: number): void => {
    const left = Number.isFinite(pace) ? clock(pace * (steps - step)) : "?";
    shown = printable(
      [`${barOf(Math.round(WIDTH * step / steps))} ${step}/${steps}`, ...known, `ETA ${left}`].join("  "),
    );
    if (live) write(`${ERASE}${shown}`);
  };
  return {
    update(step, facts) {
      known = facts;
      // Steps are queued: only where something was read is it known how long they take.
      pace = (performance.now() - started) / (step - first);
      draw(step);
      if (live || display === "none" || Math.floor(10 * step / steps) <= tenth) return;
      tenth = Math.floor(10 * step / steps);
      write(`${shown}\n`);
    },
    move: draw,
    say(line) {
      if (live) write(`${ERASE}${printable(line)}\n${shown}`);
      else write(`${printable(line)}\n`);
    },
    end() {
      if (live) write("\n");
    },
  };
}

/**
 * Shows a stage of a run while it lasts: a line that redraws itself and is gone afterwards on a terminal, lines elsewhere.
 *
 * @param text What is done: its name in 12 columns, and to what
 * @param work Does it; it is handed a function that shows how far it is
 * @param options `to`: where the line is drawn; standard output when absent
 * @returns What the work returns
 */
export async function stage<T>(
  text: string,
  work: (say: (fact: string) => void) => T | Promise<T>,
  { to = Deno.stdout }: { readonly to?: Stream } = {},
): Promise<T> {
  const live = to.isTerminal(), encoder = new TextEncoder();
  let last = performance.now();
  const draw = (fact = ""): void => {
    const line = printable(fact === "" ? text : `${text}: ${fact}`);
    to.writeSync(encoder.encode(live ? ERASE + line : `${line}\n`));
  };
  draw();
  try {
    return await work((fact) => {
      if (!live && performance.now() - last < STAGE_EVERY) return;
      last = performance.now();
      draw(fact);
    });
  } finally {
    if (live) to.writeSync(encoder.encode(ERASE));
  }
}

/**
 * Shows a transfer of bytes as a bar.
 *
 * @param say Shows a fact, as {@link stage} hands it out
 * @returns Takes how many bytes are there, of how many
 */
export function transferBar(
  say: (fact: string) => void,
): (progress: { readonly done: number; readonly total: number }) => void {
  const began = performance.now();
  let first: number | null = null;
  return ({ done, total }) => {
    // What was there already says nothing of the pace.
    first ??= done;
    const share = total === 0 ? 1 : Math.max(0, Math.min(1, done / total)), cells = Math.round(WIDTH * share);
    const left = done > first ? (performance.now() - began) / (done - first) * (total - done) : NaN;
    const eta = Number.isFinite(left) ? clock(left) : "?";
    say(`${barOf(cells)} ${(done / 1e6).toFixed(1)} of ${megabytes(total)}  ETA ${eta}`);
  };
}

/** A bar of which some cells are filled. */
const barOf = (cells: number): string => "█".repeat(cells) + "░".repeat(WIDTH - cells);

/**
 * Shows a stage with a bar of bytes on a terminal, and one plain line elsewhere.
 *
 * @param text What is done: its name in 12 columns, and to what
 * @param work Does it; it is handed a function that is told how many bytes are done
 * @param options `to`: where the line is drawn; standard output when absent
 * @returns What the work returns
 */
export async function byteStage<T>(
  text: string,
  work: (onProgress: OnProgress) => Promise<T>,
  { to = Deno.stdout }: { readonly to?: Stream } = {},
): Promise<T> {
  return await stage(text, (say) => work(to.isTerminal() ? transferBar(say) : () => {}), { to });
}

/** Steps a second of the milliseconds of a step, or seconds a step where that is below one. */
export function rateText(milliseconds: number): string {
  const second = 1000 / milliseconds;
  return second >= 1 ? `${second.toPrecision(3)} steps/s` : `${(1 / second).toPrecision(3)} s/step`;
}

/** The share of the elements of all components that are frozen. */
export function frozenText(
  training: { readonly components: () => readonly Pick<Component, "path" | "size">[] },
  state: { readonly frozen: readonly string[] },
): string {
  const components = training.components(), frozen = new Set(state.frozen);
  const total = (list: typeof components): number => list.reduce((n, { size }) => n + size, 0);
  const share = total(components.filter(({ path }) => frozen.has(path))) / total(components);
  return `frozen ${(100 * share).toFixed(0)} %`;
}

/** Bytes for people. */
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Minutes and seconds of milliseconds, `"1:05"`. */
export function clock(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** A line about training that took fewer steps than it was to. */
export function endedText(
  { step, ending }: Pick<TrainingState<object>, "step" | "ending">,
  steps: number,
): string {
  return `ended       after step ${step} of ${steps}${
    ending?.reason === "frozen" ? ", as all is frozen" : ""
  }`;
}
