/**
 * Threads of Node, as the workers of other platforms.
 *
 * @module
 */

import type * as workerThreads from "node:worker_threads";
import { nodeProcess } from "./node.ts";

/** A thread that answers messages. */
export interface Thread<Question, Answer> {
  onmessage: ((event: { readonly data: Answer }) => void) | null;
  /** Called when its program fails. */
  onerror: ((event: { readonly message: string; preventDefault(): void }) => void) | null;
  postMessage(question: Question): void;
  terminate(): void;
}

/** What a thread has of its surroundings. */
export interface ThreadScope<Question, Answer> {
  onmessage: ((event: { readonly data: Question }) => void) | null;
  postMessage(answer: Answer, transfer: ArrayBuffer[]): void;
}

const threadsOfNode = (): typeof workerThreads | null =>
  nodeProcess()?.getBuiltinModule("node:worker_threads") as typeof workerThreads | undefined ?? null;

/**
 * Starts a thread of Node.
 *
 * @param program Its module
 * @returns The thread; null where this is not Node
 */
export function nodeThread<Question, Answer>(program: URL): Thread<Question, Answer> | null {
  const threads = threadsOfNode();
  if (threads === null) return null;
  const worker = new threads.Worker(program);
  const thread: Thread<Question, Answer> = {
    onmessage: null,
    onerror: null,
    postMessage: (question) => worker.postMessage(question),
    terminate: () => void worker.terminate(),
  };
  worker.on("message", (data: Answer) => thread.onmessage?.({ data }));
  worker.on("error", ({ message }: Error) => thread.onerror?.({ message, preventDefault() {} }));
  return thread;
}

/** The surroundings of this thread. */
export function threadScope<Question, Answer>(): ThreadScope<Question, Answer> {
  const port = threadsOfNode()?.parentPort;
  if (port == null) return globalThis as unknown as ThreadScope<Question, Answer>;
  return {
    set onmessage(handler: ((event: { readonly data: Question }) => void) | null) {
      port.on("message", (data: Question) => handler?.({ data }));
    },
    postMessage: (answer, transfer) => port.postMessage(answer, transfer),
  };
}
