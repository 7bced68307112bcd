/**
 * The page of a run while it trains.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { WatchAnswer, WatchRequest } from "./watch_worker.ts";

/** A page that is served. */
export interface WatchedRun extends AsyncDisposable {
  /** Its address. */
  readonly url: string;
}

/**
 * Serves the page of a run from a thread of its own.
 *
 * @param log Its log
 * @param options The port on this machine, 0 for any that is free
 * @returns The page; once it is disposed of, a page that is open has seen the last line of the log
 * @throws {InputError} When the port is taken, or Deno may not open it
 */
export async function watchedRun(
  log: string,
  { port }: { readonly port: number },
): Promise<WatchedRun> {
  const worker = new Worker(new URL("./watch_worker.ts", import.meta.url), { type: "module" });
  const ask = (request: WatchRequest): Promise<WatchAnswer> =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }: MessageEvent<WatchAnswer>) => resolve(data);
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(`The thread of the page failed: ${event.message}`));
      };
      worker.postMessage(request);
    });
  const answer = await ask({ log, port });
  if (answer === "done" || "error" in answer) {
    worker.terminate();
    throw new InputError(
      answer === "done" ? "Cannot serve the page of the run as its thread ended" : answer.error,
    );
  }
  return {
    url: answer.url,
    async [Symbol.asyncDispose]() {
      await ask("end");
      worker.terminate();
    },
  };
}
