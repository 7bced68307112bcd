/**
 * One process of a run, which may be killed.
 *
 * @module
 */

import { startDeno, startProgram } from "../examples/process.ts";

/** When a process is killed, and how. */
export interface Kill {
  readonly signal: "SIGKILL" | "SIGTERM" | "SIGINT";
  /** After how many changes of its folder; 0 for its start. */
  readonly changes: number;
  /** And how many milliseconds later. */
  readonly wait: number;
}

/** How a process ended. */
export interface Ended {
  /** It was killed, or ended by the signal; false when it was done before. */
  readonly killed: boolean;
  /** It did not end in time. */
  readonly hung: boolean;
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Milliseconds that it took. */
  readonly took: number;
  /** Changes of its folder. */
  readonly changes: number;
}

/** A run of a minute is no run of a few steps. */
const HANGS_AFTER = 60_000;

const CODES: Readonly<Record<Kill["signal"], number>> = { SIGKILL: 137, SIGTERM: 143, SIGINT: 130 };

/**
 * Starts a run and kills it.
 *
 * @param args Its arguments
 * @param options `command`: its command; `place`: the folder in which all its files are; `launcher`: whether `./firn` starts it; `kill`: when;
 * never when absent
 * @returns How it ended
 */
export async function attempt(
  args: readonly string[],
  { command, place, launcher, kill }: {
    readonly command: string;
    readonly place: string;
    readonly launcher: boolean;
    readonly kill?: Kill;
  },
): Promise<Ended> {
  using watcher = Deno.watchFs(place);
  const began = performance.now();
  const process = launcher
    ? startProgram(["./firn", command, ...args], place)
    : startDeno(["--allow-read", "--allow-write", `examples/${command}.ts`, ...args], place);
  let alive = true, hung = false, changes = 0, timer: ReturnType<typeof setTimeout> | undefined;
  const send = (signal: Deno.Signal): void => {
    if (alive) process.kill(signal);
  };
  const onChange = (): void => {
    if (kill === undefined || changes < kill.changes || timer !== undefined) return;
    timer = setTimeout(send, kill.wait, kill.signal);
  };
  onChange();
  const watched = (async () => {
    for await (const _ of watcher) changes++, onChange();
  })();
  const limit = setTimeout(() => (hung = true, send("SIGKILL")), HANGS_AFTER);
  const { code, signal, stdout, stderr } = await process.output().finally(() => alive = false);
  clearTimeout(limit), clearTimeout(timer), watcher.close();
  await watched;
  const text = new TextDecoder();
  return {
    killed: kill !== undefined && !hung && (signal === kill.signal || code === CODES[kill.signal]),
    hung,
    code,
    stdout: text.decode(stdout),
    stderr: text.decode(stderr),
    took: performance.now() - began,
    changes,
  };
}
