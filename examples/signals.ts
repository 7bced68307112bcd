/**
 * SIGINT and SIGTERM: a run finishes its step, saves and says how to go on.
 *
 * @module
 */

import { FirnError } from "@firn/train";
import { printError } from "./print.ts";

/** What a process exits with after a signal: 128 and its number. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 } as const;

type SignalName = keyof typeof EXIT_CODES;

/** A signal stopped a run, which can go on. */
export class InterruptedError extends FirnError {
  override name = "InterruptedError";
  /** What the process exits with. */
  readonly code: number;

  /** Names the signal, and how to go on. */
  constructor(by: SignalName, mend: string) {
    super(`stopped by ${by}; ${mend}`);
    this.code = EXIT_CODES[by];
  }
}

/** Signals are caught until it is disposed of. */
export interface SignalCatcher extends Disposable {
  /** The signal that came; null when none did. */
  caught(): SignalName | null;
}

/**
 * Catches SIGINT and SIGTERM: the first is for the run to notice, the second exits at once.
 *
 * @param name The command, before what is printed
 * @returns Which signal came
 */
export function catchSignals(name: string): SignalCatcher {
  let first: SignalName | null = null;
  // Windows has no SIGTERM.
  const names: readonly SignalName[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  const handlers = names.map((by) => {
    const handler = (): void => {
      if (first !== null) Deno.exit(EXIT_CODES[by]);
      first = by;
      printError(`\n${name}: ${by}: finishes the step and saves; a second signal exits at once`);
    };
    Deno.addSignalListener(by, handler);
    return [by, handler] as const;
  });
  return {
    caught: () => first,
    [Symbol.dispose]: () => handlers.forEach(([by, handler]) => Deno.removeSignalListener(by, handler)),
  };
}
