/**
 * Requests to a hub: with its token, retries and limits, and its refusals as errors.
 *
 * @module
 */

import { DataError, FirnError, HubError } from "../errors.ts";
import { shorten } from "../json_rules.ts";
import type { Hub } from "./settings.ts";
import { type Question, refusal, unreachable } from "./refusal.ts";

/** Requests until one is given up. */
const TRIES = 6;

/** Milliseconds until a hub that does not answer is asked again: to a question, and to what it has to work on. */
const SILENCE = 30_000, WORK = 600_000;

/** Bytes a second that an upload has at least. */
const SLOWEST = 20_000;

/** Seconds that a hub may ask to wait. */
const LONGEST_WAIT = 120;

/** Bytes of an answer that is no file. */
const MOST_BYTES = 2 ** 26;

/** Requests of one piece of work, such as the pages of a list of files. */
const MOST_REQUESTS = 20_000;

/** What passes: too many requests, and a hub that is down for a while. */
const PASSING: readonly number[] = [408, 429, 500, 502, 503, 504];

/**
 * Asks, and asks again while the hub is busy or cannot be reached.
 *
 * @param hub The hub
 * @param request Address, and what `fetch` takes
 * @param question What is asked, for errors
 * @returns The answer, whose status is one of success
 * @throws {HubError} When the hub refuses, or cannot be reached
 */
export async function ask(
  hub: Hub,
  { url, init = {} }: { readonly url: string; readonly init?: RequestInit },
  question: Question,
): Promise<Response> {
  checkAddress(url, question);
  const headers = new Headers(init.headers);
  headers.delete("Authorization");
  // The token is for the hub alone, not for where its answers lead.
  if (hub.token !== null && url.startsWith(`${hub.endpoint}/`)) {
    headers.set("Authorization", `Bearer ${hub.token}`);
  }
  const again = ["GET", "HEAD", "PUT"].includes(init.method ?? "GET");
  for (let tried = 1;; tried++) {
    let answer: Response;
    try {
      answer = await answerTo(url, { ...init, headers });
    } catch (error) {
      const failure = unreachable(error, { hub, url, question });
      // What may have been done is not done again.
      if (!(failure instanceof HubError) || !again || tried >= TRIES) throw failure;
      await pause(hub.retryDelay * 2 ** (tried - 1));
      continue;
    }
    if (answer.ok) return answer;
    const failure = await refusal(answer, { hub, url, question });
    if (!PASSING.includes(answer.status) || (!again && answer.status !== 429 && answer.status !== 503)) {
      throw failure;
    }
    if (tried >= TRIES) throw failure;
    await pause(waitOf(answer) ?? hub.retryDelay * 2 ** (tried - 1));
  }
}

/**
 * A `fetch` for `@huggingface/hub`: every answer is of success, is JSON and has a limited size.
 *
 * @param hub The hub
 * @param question What is asked, for errors
 * @returns The function
 */
export function fetchFrom(hub: Hub, question: Question): typeof fetch {
  let count = 0;
  return async (input, init) => {
    if (++count > MOST_REQUESTS) {
      throw new DataError(
        `Cannot ${question.action} as a hub must come to an end: it leads on after ${MOST_REQUESTS} requests; ` +
          "check HF_ENDPOINT",
      );
    }
    const url = input instanceof Request ? input.url : String(input);
    const { answer, bytes } = await askAll(hub, { url, init, limit: MOST_BYTES }, question);
    return new Response(bytes.length === 0 ? null : bytes, {
      status: answer.status,
      headers: answer.headers,
    });
  };
}

/**
 * Uses `@huggingface/hub`; what it makes of an answer that it does not expect becomes an error that a person can act on.
 *
 * @param question What is asked
 * @param work Calls it
 * @returns What it returns
 * @throws {DataError} When the answer is not one of a hub
 */
export async function understood<T>({ action }: Question, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FirnError || !(error instanceof Error)) throw error;
    throw new DataError(
      `Cannot ${action} as the answer must be one of a hub: ${
        shorten(error.message)
      }; check HF_ENDPOINT, or try again later`,
      { cause: error },
    );
  }
}

/** Waits for the head of an answer, but not for ever. */
async function answerTo(url: string, init: RequestInit): Promise<Response> {
  const controller = new AbortController(), { body } = init;
  const limit = body == null ? SILENCE : WORK + 1000 * (body instanceof Blob ? body.size : 0) / SLOWEST;
  const timer = setTimeout(
    () => controller.abort(new DOMException("it does not answer", "TimeoutError")),
    Math.min(limit, 2 ** 31 - 1),
  );
  const { signal } = init;
  const stop = (): void => controller.abort(signal!.reason);
  signal?.addEventListener("abort", stop);
  try {
    return await fetch(url, { ...init, signal: controller.signal });
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Asks for an answer that fits into memory, and asks again where a connection breaks in the middle of it.
 *
 * @param hub The hub
 * @param request Address, what `fetch` takes, bytes of the answer at most, and milliseconds without any
 * @param question What is asked, for errors
 * @returns The answer and its body
 * @throws {HubError} When the hub refuses, or cannot be reached
 * @throws {DataError} When there are more bytes
 */
export async function askAll(
  hub: Hub,
  { url, init = {}, limit, silence = SILENCE }: {
    readonly url: string;
    readonly init?: RequestInit;
    readonly limit: number;
    readonly silence?: number;
  },
  question: Question,
): Promise<{ readonly answer: Response; readonly bytes: Uint8Array<ArrayBuffer> }> {
  for (let tried = 1;; tried++) {
    const answer = await ask(hub, { url, init }, question);
    try {
      return { answer, bytes: await bytesOf(answer, { limit, silence, question }) };
    } catch (error) {
      const failure = unreachable(error, { hub, url, question });
      if (!(failure instanceof HubError) || (init.method ?? "GET") !== "GET" || tried >= TRIES) throw failure;
      await pause(hub.retryDelay * 2 ** (tried - 1));
    }
  }
}

/** Reads a body that must not be larger than a limit, nor pause for longer than `silence`. */
async function bytesOf(
  answer: Response,
  { limit, silence, question }: {
    readonly limit: number;
    readonly silence: number;
    readonly question: Question;
  },
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [], reader = answer.body?.getReader();
  let size = 0, isSilent = false;
  while (reader !== undefined) {
    const timer = setTimeout(() => {
      isSilent = true;
      reader.cancel().catch(() => {});
    }, silence);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (isSilent) throw new DOMException("it stops in the middle of its answer", "TimeoutError");
    if (done) break;
    size += value.length;
    if (size > limit) {
      await reader.cancel();
      throw new DataError(
        `Cannot ${question.action} as an answer may have ${
          limit.toLocaleString("en-US")
        } bytes: it has more; ` +
          "check HF_ENDPOINT",
      );
    }
    chunks.push(value);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** Refuses an address that a hub gave and that is none of the web. */
function checkAddress(url: string, { action }: Question): void {
  if (/^https?:$/.test(URL.parse(url)?.protocol ?? "")) return;
  throw new DataError(
    `Cannot ${action} as an address of a hub must begin with https:// or http://: got ${
      JSON.stringify(url.slice(0, 80))
    }; check HF_ENDPOINT`,
  );
}

/** Milliseconds that a busy hub asks to wait; null when it does not say. */
function waitOf({ headers }: Response): number | null {
  const seconds = Number(
    headers.get("Retry-After") ?? /\bt=(\d+)/.exec(headers.get("RateLimit") ?? "")?.[1] ?? NaN,
  );
  return seconds >= 0 ? 1000 * Math.min(seconds, LONGEST_WAIT) : null;
}

/** Waits. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
