/**
 * Requests for text that wait for each other: those that wait at a time become one batch.
 *
 * @module
 */

import {
  defineGeneration,
  type GenerationState,
  type Sampling,
  textDecoder,
  type TokenText,
} from "@firn/train";
import { type Reader, turn } from "./prompting.ts";

/** A text to be continued. */
export interface TextRequest {
  /** Ids of the prompt. */
  readonly ids: readonly number[];
  /** How tokens are chosen. */
  readonly sampling: Sampling;
  /** Most tokens to add. */
  readonly maxTokens: number;
  /** Texts that end it. */
  readonly stop: readonly string[];
  /** Called with each piece of text. */
  onText(text: string): void;
  /** Called once, at the end. */
  onEnd(end: TextEnd): void;
  /** Called in place of {@link onEnd} when the batch fails. */
  onError(error: unknown): void;
  /** Whether nobody waits for it any more. */
  cancelled(): boolean;
}

/** How a text ended. */
export interface TextEnd {
  /** A token or a text that ends it, or the most tokens. */
  readonly reason: "stop" | "length";
  /** Tokens that were added. */
  readonly tokens: number;
}

/** Requests that are worked on, batch by batch. */
export interface RequestQueue extends Disposable {
  /** Adds requests. */
  add(requests: readonly TextRequest[]): void;
  /** Requests in the batch that is worked on. */
  readonly working: number;
}

/** Tokens of a sequence that the cache has room for at first: each growth compiles kernels anew. */
const EXPECTED = 1024;
/** Milliseconds in which requests that come together join one batch. */
const GATHER = 5;
/** Tokens that are read at once when they come fast, and how many milliseconds that may take. */
const AT_ONCE = 8, OFTEN = 50;

/** A request of a batch, and what it has so far. */
interface Row {
  readonly request: TextRequest;
  readonly text: TokenText;
  tokens: number;
  done: boolean;
}

/**
 * Makes a queue.
 *
 * @param reader The model
 * @param options `most`: requests of a batch
 * @returns The queue, empty
 */
export function requestQueue(
  { gpu, model, tokenizer }: Reader,
  { most }: { readonly most: number },
): RequestQueue {
  const expected = Math.min(EXPECTED, model.maxLength);
  const generation = defineGeneration(gpu, model, { stop: tokenizer.stop, expected });
  const waiting: TextRequest[] = [];
  let working = 0, closed = false, active = false;
  async function work(): Promise<void> {
    active = true;
    while (waiting.length > 0 && !closed) {
      await new Promise((resolve) => setTimeout(resolve, GATHER));
      const requests = waiting.splice(0, most).filter((request) => !request.cancelled());
      if (requests.length === 0) continue;
      working = requests.length;
      try {
        await run(requests);
      } catch (error) {
        requests.forEach((request) => request.onError(error));
      }
      working = 0;
    }
    active = false;
  }
  async function run(requests: readonly TextRequest[]): Promise<void> {
    const rows = requests.map((request): Row => ({
      request,
      text: textDecoder(tokenizer, { before: request.ids, stop: request.stop }),
      tokens: 0,
      done: false,
    }));
    // Batches of few sizes have to be compiled; what fills one up is not looked at.
    const size = 2 ** Math.ceil(Math.log2(rows.length)), fill = Array(size - rows.length).fill(null);
    const prompts = [...requests.map(({ ids }) => ids), ...fill.map(() => [requests[0].ids[0]])];
    const sampling = [
      ...requests.map((request) => request.sampling),
      ...fill.map(() => requests[0].sampling),
    ];
    let state = await generation.init(prompts, { sampling }), count = 1;
    while (!rows.every(({ done }) => done)) {
      const start = performance.now();
      state = await generation.next(state, count);
      count = performance.now() - start < OFTEN / 2 ? Math.min(2 * count, AT_ONCE) : 1;
      rows.forEach((row, r) => hand(row, state.sequences[r]));
      await turn();
    }
  }
  return {
    add(requests) {
      waiting.push(...requests);
      if (!active) void work();
    },
    get working() {
      return working;
    },
    [Symbol.dispose]() {
      closed = true;
      generation[Symbol.dispose]();
    },
  };
}

/** Hands new tokens to the one who waits for them. */
function hand(row: Row, { added, ended }: GenerationState["sequences"][number]): void {
  const { request, text } = row;
  if (row.done) return;
  if (request.cancelled()) {
    row.done = true;
    return;
  }
  for (const id of added.slice(0, request.maxTokens - row.tokens)) {
    row.tokens++;
    const piece = text.add([id]);
    if (piece !== "") request.onText(piece);
    if (text.stopped) break;
  }
  const full = row.tokens >= request.maxTokens;
  if (!text.stopped && !ended && !full) return;
  row.done = true;
  const rest = text.end();
  if (rest !== "") request.onText(rest);
  request.onEnd({ reason: text.stopped || ended && !full ? "stop" : "length", tokens: row.tokens });
}
