/**
 * A line of progress that redraws itself on a terminal and is printed now and then elsewhere.
 *
 * @module
 */

import { printable } from "@firn/train/report";

/** Prints progress and, between its updates, ordinary lines. */
export interface Progress {
  /** Shows how far a run is; `facts` follow the bar. */
  update(step: number, facts: readonly string[]): void;
  /** Prints a line that stays. */
  say(line: string): void;
  /** Ends the progress line. */
  end(): void;
}

/** Where a line is drawn: `Deno.stdout`, `Deno.stderr`. */
export type Stream = Pick<typeof Deno.stdout, "isTerminal" | "writeSync">;

const WIDTH = 24;

/**
 * Makes a progress line.
 *
 * @param steps Steps in all
 * @param options `first`: step the run starts after. `to`: where the line is drawn; standard output when absent
 * @returns The line; it knows the time left from the pace so far
 */
export function progress(
  steps: number,
  { first = 0, to = Deno.stdout }: { readonly first?: number; readonly to?: Stream } = {},
): Progress {
  const live = to.isTerminal(), encoder = new TextEncoder();
  const started = performance.now();
  let shown = "", tenth = -1;
  const write = (text: string): void => {
    to.writeSync(encoder.encode(text));
  };
  return {
    update(step, facts) {
      const done = Math.round(WIDTH * step / steps);
      const left = step === first
        ? "?"
        : clock((performance.now() - started) / (step - first) * (steps - step));
      const bar = "█".repeat(done) + "░".repeat(WIDTH - done);
      shown = printable([`${bar} ${step}/${steps}`, ...facts, `ETA ${left}`].join("  "));
      if (live) write(`\r\x1b[K${shown}`);
      else if (Math.floor(10 * step / steps) > tenth) {
        tenth = Math.floor(10 * step / steps);
        write(`${shown}\n`);
      }
    },
    say(line) {
      if (live) write(`\r\x1b[K${printable(line)}\n${shown}`);
      else write(`${printable(line)}\n`);
    },
    end() {
      if (live) write("\n");
    },
  };
}

/** Minutes and seconds of milliseconds, `"1:05"`. */
export function clock(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
