/**
 * Encoding in workers, so that the thread that feeds the device does not wait for it.
 *
 * @module
 */

import { DataError, InputError } from "../../errors.ts";
import { nodeThread, type Thread } from "../../host/thread.ts";
import type { Example, ExampleKind } from "../rows/example.ts";
import { encoderFiles, encoderOf, type EncoderOptions } from "./encoder_files.ts";
import type { Answer, Question } from "./encoder_worker.ts";
import type { Sample } from "./sample.ts";
import { encodeHere, type EncodeRows } from "./sample_source.ts";

/** Options of {@link openEncoder}. */
export interface OpenEncoderOptions extends EncoderOptions {
  /** Workers; with 0 this thread encodes. 1 when absent. */
  readonly workers?: number;
}

/** What encodes rows. Its workers end when it is disposed of. */
export interface RowEncoder extends Disposable {
  /** Encodes rows. */
  readonly encode: EncodeRows;
}

/** Workers that are of use at most. */
const MOST_WORKERS = 64;

/**
 * Opens what encodes examples as a checkpoint does, in workers.
 *
 * @param folder The checkpoint: a folder, or a GGUF file
 * @param options Which tokens are learned, the template of conversations, how many workers
 * @returns What encodes rows
 * @throws {NotFoundError} When the folder has no `tokenizer.json`
 * @throws {DataError} When a file is damaged
 * @throws {InputError} When there are to be workers and the machine has none
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openEncoder } from "@firn/train/data";
 *
 * using encoder = await openEncoder("examples/models/sotu", { workers: 1 });
 * const example = { kind: "text", text: "Peace" } as const;
 * const [sample] = await encoder.encode([{ example, file: "a.jsonl", unit: "line", line: 1 }]);
 * assertEquals(typeof sample === "object" && [...sample.learned], [1, 1, 1]);
 * ```
 */
export async function openEncoder(
  folder: string,
  { workers = 1, ...options }: OpenEncoderOptions = {},
): Promise<RowEncoder> {
  if (!(Number.isSafeInteger(workers) && workers >= 0 && workers <= MOST_WORKERS)) {
    throw new InputError(
      `Cannot open workers as "workers" must be from 0 to ${MOST_WORKERS}: got ${workers}`,
    );
  }
  const files = await encoderFiles(folder, options);
  if (workers === 0) {
    return { encode: encodeHere<ExampleKind>(await encoderOf(files)), [Symbol.dispose]() {} };
  }
  const opened = Array.from({ length: workers }, () => openWorker());
  const close = (): void => opened.forEach((worker) => worker[Symbol.dispose]());
  try {
    await Promise.all(opened.map(({ ask }) => ask({ files })));
  } catch (error) {
    close();
    throw error;
  }
  return {
    encode: async (rows) => {
      const free = opened.reduce((a, b) => b.waiting() < a.waiting() ? b : a);
      return await free.ask({ examples: rows.map(({ example }) => example as Example) });
    },
    [Symbol.dispose]: close,
  };
}

interface OpenWorker extends Disposable {
  /** Questions without an answer. */
  waiting(): number;
  ask(question: Question): Promise<readonly (Sample | string)[]>;
}

function startWorker():
  | Pick<Worker, "terminate" | "postMessage" | "onmessage" | "onerror">
  | Thread<Question, Answer> {
  // Bundlers look for this very expression.
  if (typeof Worker !== "undefined") {
    return new Worker(new URL("./encoder_worker.ts", import.meta.url), { type: "module" });
  }
  const thread = nodeThread<Question, Answer>(new URL("./encoder_worker.ts", import.meta.url));
  if (thread !== null) return thread;
  throw new InputError(
    'Cannot open workers as this machine has none: encode in this thread, with "workers" 0',
  );
}

function openWorker(): OpenWorker {
  const worker = startWorker();
  const open: { resolve(samples: readonly (Sample | string)[]): void; reject(error: unknown): void }[] = [];
  worker.onmessage = ({ data }: { readonly data: Answer }) => {
    const { resolve, reject } = open.shift()!;
    if ("samples" in data) resolve(data.samples);
    else reject(data.told ? new DataError(data.error) : new Error(data.error));
  };
  worker.onerror = (event: { readonly message: string; preventDefault(): void }) => {
    event.preventDefault();
    open.splice(0).forEach(({ reject }) => reject(new Error(`A worker failed: ${event.message}`)));
  };
  return {
    waiting: () => open.length,
    ask(question) {
      const { promise, resolve, reject } = Promise.withResolvers<readonly (Sample | string)[]>();
      open.push({ resolve, reject });
      worker.postMessage(question);
      return promise;
    },
    [Symbol.dispose]: () => worker.terminate(),
  };
}
