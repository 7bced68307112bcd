/**
 * The thread that serves the page of a run, so that the run never waits for a plot, nor the page for a step.
 *
 * @module
 */

import { serveWatch } from "./watch.ts";

/** What the run says to the thread. */
export type WatchRequest = { readonly log: string; readonly port: number } | "end";

/** What the thread says: where the page is, why there is none, or that it may be stopped. */
export type WatchAnswer = { readonly url: string } | { readonly error: string } | "done";

/** How long a page that is open is waited for, so that it sees the end. */
const PATIENCE = 5000;

/** What a thread has that a window has not. */
const thread = self as unknown as {
  onmessage: (event: MessageEvent<WatchRequest>) => void;
  postMessage(answer: WatchAnswer): void;
};
let lastAsked = -Infinity;

thread.onmessage = async ({ data }) => {
  if (data !== "end") {
    try {
      const { url } = serveWatch(data.log, { port: data.port, onAsked: () => lastAsked = performance.now() });
      thread.postMessage({ url });
    } catch (error) {
      thread.postMessage({ error: error instanceof Error ? error.message : String(error) });
    }
    return;
  }
  // A page asks every two seconds; one that is closed does not.
  const from = performance.now();
  const isOpen = (): boolean => from - lastAsked < PATIENCE;
  while (isOpen() && lastAsked < from + 1 && performance.now() < from + PATIENCE) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  thread.postMessage("done");
};
