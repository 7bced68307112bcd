/**
 * Requests for text that share passes over the weights: one that comes while others are worked on joins them at the next token.
 *
 * @module
 */

import {
  defineGeneration,
  type GenerationState,
  type Sampling,
  textDecoder,
  type TokenText,
} from "@firn/train/infer";
import { type ToldText, toldText } from "./openai_logprobs.ts";
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
  /** Called with each piece of text, and with what is told of its tokens, if it was asked for. */
  onText(text: string, told: readonly ToldText[]): void;
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
  /** The prompt, and what was generated. */
  ids: readonly number[];
  readonly text: TokenText;
  /** What is told of tokens whose text is held back. */
  told: readonly ToldText[];
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
  /** A row of the batch for each place; null where nothing is worked on. */
  let rows: readonly (Row | null)[] = [], closed = false, active = false;
  const busy = (): readonly Row[] => rows.flatMap((row) => row === null || row.done ? [] : [row]);
  async function work(): Promise<void> {
    active = true;
    await new Promise((resolve) => setTimeout(resolve, GATHER));
    while (!closed && (waiting.length > 0 || busy().length > 0)) {
      try {
        await run();
      } catch (error) {
        busy().forEach(({ request }) => request.onError(error));
      }
      rows = [];
    }
    active = false;
  }
  /** Requests that have a place now; others wait on. */
  function admit(): boolean {
    const news: Row[] = [], left = busy();
    while (waiting.length > 0 && left.length + news.length < most) {
      const request = waiting.shift()!;
      if (!request.cancelled()) news.push(rowOf(request));
    }
    if (news.length === 0) return false;
    // Batches of few sizes have to be compiled; what fills one up is not looked at.
    const size = Math.max(rows.length, 2 ** Math.ceil(Math.log2(left.length + news.length)));
    rows = Array.from({ length: size }, (_, i) => {
      const row = rows[i] ?? null;
      return row === null || row.done ? news.shift() ?? null : row;
    });
    return true;
  }
  const rowOf = (request: TextRequest): Row => ({
    request,
    ids: request.ids,
    text: textDecoder(tokenizer, { before: request.ids, stop: request.stop }),
    told: [],
    tokens: 0,
    done: false,
  });
  /** Reads the prompts of all places. Those that were there before are in the cache. */
  function begin(from?: GenerationState): Promise<GenerationState> {
    const [some] = busy();
    return generation.init(rows.map((row) => row?.ids ?? [some.ids[0]]), {
      sampling: rows.map((row) => (row ?? some).request.sampling),
      generated: rows.map((row) => row === null ? 0 : row.ids.length - row.request.ids.length),
      from,
    });
  }
  async function run(): Promise<void> {
    if (!admit()) return;
    let state = await begin(), count = 1;
    while (busy().length > 0) {
      const start = performance.now();
      state = await generation.next(state, count);
      count = performance.now() - start < OFTEN / 2 ? Math.min(2 * count, AT_ONCE) : 1;
      rows.forEach((row, r) => row !== null && hand(row, { sequence: state.sequences[r], tokenizer }));
      await turn();
      if (closed) return;
      if (admit()) state = await begin(state);
    }
  }
  return {
    add(requests) {
      waiting.push(...requests);
      if (!active) void work();
    },
    get working() {
      return busy().length;
    },
    [Symbol.dispose]() {
      closed = true;
      generation[Symbol.dispose]();
    },
  };
}

/** Hands new tokens to the one who waits for them. */
function hand(
  row: Row,
  { sequence: { added, ended, told }, tokenizer }: {
    readonly sequence: GenerationState["sequences"][number];
    readonly tokenizer: Reader["tokenizer"];
  },
): void {
  const { request, text } = row,
    say = (piece: string): void => {
      if (piece === "") return;
      request.onText(piece, row.told);
      row.told = [];
    };
  if (row.done) return;
  if (request.cancelled()) {
    row.done = true;
    return;
  }
  for (const [i, id] of added.slice(0, request.maxTokens - row.tokens).entries()) {
    if (told !== undefined) {
      row.told = [...row.told, toldText(told[i], { ...tokenizer, before: row.ids.at(-1) })];
    }
    row.tokens++;
    row.ids = [...row.ids, id];
    say(text.add([id]));
    if (text.stopped) break;
  }
  const full = row.tokens >= request.maxTokens;
  if (!text.stopped && !ended && !full) return;
  row.done = true;
  say(text.end());
  request.onEnd({ reason: text.stopped || ended && !full ? "stop" : "length", tokens: row.tokens });
}
