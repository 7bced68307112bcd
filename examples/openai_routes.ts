/**
 * OpenAI's routes for chats and completions, as a function from requests to responses.
 *
 * @module
 */

import { FirnError, InputError } from "@firn/train";
import { defineGeneration } from "@firn/train/infer";
import type { ChatTemplate } from "@firn/train/data";
import { chatLogProbs, completionLogProbs, type ToldText } from "./openai_logprobs.ts";
import { type Asked, readRequest, refusedField, RequestError } from "./openai_request.ts";
import type { Reader } from "./prompting.ts";
import type { RequestQueue, TextEnd } from "./request_queue.ts";
import { printError } from "./print.ts";

/** What the routes answer with. */
export interface RoutesOptions extends Pick<Reader, "gpu" | "model" | "tokenizer"> {
  /** The name of the model in answers. */
  readonly name: string;
  /** The template of chats; null where the model has none. */
  readonly template: ChatTemplate | null;
  readonly queue: RequestQueue;
  /** Most tokens of an answer to a request that names no number. */
  readonly maxTokens: number;
}

/** Bytes that a body may have. */
const LARGEST = 2 ** 22;

type Handler = (request: Request) => Promise<Response>;
type Route = "chat" | "completion";

/**
 * Makes the routes: `/v1/chat/completions`, `/v1/completions`, `/v1/models`.
 *
 * @param options The model and its queue
 * @returns From a request to its response; it never throws
 */
export function openaiRoutes(options: RoutesOptions): Handler {
  return async (request) => {
    try {
      checkHost(request);
      return withOrigin(await respond(request, options), request);
    } catch (error) {
      return withOrigin(errorResponse(error), request);
    }
  };
}

async function respond(request: Request, options: RoutesOptions): Promise<Response> {
  const { pathname } = new URL(request.url), { method } = request;
  if (method === "OPTIONS") return new Response(null, { status: 204 });
  const route = ({ "/v1/chat/completions": "chat", "/v1/completions": "completion" } as const)[pathname];
  if (route === undefined && !pathname.startsWith("/v1/models")) {
    throw new RequestError(`there is no route ${pathname}`, { status: 404, code: "unknown_url" });
  }
  if (method !== (route === undefined ? "GET" : "POST")) {
    throw new RequestError(`${method} is not allowed for ${pathname}`, {
      status: 405,
      code: "method_not_allowed",
    });
  }
  if (route === undefined) return models(pathname, options);
  const { tokenizer, template } = options, body = await bodyOf(request);
  const asked = readRequest(body, { tokenizer, ...route === "chat" && { template } });
  return await answer(asked, { ...options, route, signal: request.signal });
}

function models(pathname: string, { name }: RoutesOptions): Response {
  const entry = { id: name, object: "model", created: 0, owned_by: "firn" };
  if (pathname === "/v1/models") return json({ object: "list", data: [entry] });
  const asked = pathname.slice("/v1/models/".length);
  if (asked === name || asked === encodeURIComponent(name)) return json(entry);
  throw new RequestError(`the model is called "${name}"`, {
    status: 404,
    param: "model",
    code: "model_not_found",
  });
}

/** Reads a body of JSON, up to a number of bytes. */
async function bodyOf(request: Request): Promise<unknown> {
  // A page of a stranger can send other types without being asked first.
  if (!/^application\/json\b/i.test(request.headers.get("content-type") ?? "")) {
    throw new RequestError("the body must be of type application/json", { status: 415 });
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    if (bytes > LARGEST) {
      throw new RequestError(`the body must have ${LARGEST} bytes at most`, { status: 413 });
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(
      new TextDecoder("utf-8", { fatal: true }).decode(await new Blob(chunks as BlobPart[]).bytes()),
    );
  } catch (error) {
    throw new RequestError(`the body must be JSON: ${(error as Error).message}`);
  }
}

interface AnswerOptions extends RoutesOptions {
  readonly route: Route;
  /** Tells that the client has gone. */
  readonly signal: AbortSignal;
}

/** What is known of an answer while it is made. */
interface Choice {
  text: string;
  told: readonly ToldText[];
  end: TextEnd | null;
}

/** A request that cannot be answered must not fail the others of its batch. */
function checkAsked(
  { prompts, sampling }: Pick<Asked, "prompts" | "sampling">,
  { gpu, model, tokenizer: { vocabSize }, route }: AnswerOptions,
): void {
  const param = route === "chat" ? "messages" : "prompt";
  if (prompts.some(({ length }) => length === 0)) {
    throw new RequestError(`"${param}" must have at least one token`, { param });
  }
  const bad = prompts.flat().find((token) => !(token >= 0 && token < vocabSize));
  if (bad !== undefined) {
    throw new RequestError(`ids of tokens must be from 0 to ${vocabSize - 1}: got ${bad}`, { param });
  }
  try {
    defineGeneration(gpu, model, sampling)[Symbol.dispose]();
  } catch (error) {
    throw error instanceof InputError ? refusedField(error) : error;
  }
}

async function answer(asked: Asked, options: AnswerOptions): Promise<Response> {
  const { model, queue } = options, { prompts, n, sampling, stop } = asked;
  const requests = prompts.flatMap((ids) => Array.from({ length: n }, (_, k) => ({ ids, k })));
  const longest = Math.max(...prompts.map(({ length }) => length));
  if (longest >= model.maxLength) {
    throw new RequestError(`the model reads ${model.maxLength} tokens at most: the prompt has ${longest}`, {
      code: "context_length_exceeded",
    });
  }
  checkAsked(asked, options);
  const choices = requests.map((): Choice => ({ text: "", told: [], end: null }));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const listeners: ((index: number, piece: string, told: readonly ToldText[]) => void)[] = [];
  let gone = false;
  const add = (): void =>
    queue.add(requests.map(({ ids, k }, index) => ({
      ids,
      stop,
      // The device takes 32 bits of a seed.
      sampling: { ...sampling, seed: (sampling.seed ?? 0) % 2 ** 32 + k },
      maxTokens: Math.min(asked.maxTokens ?? options.maxTokens, model.maxLength - ids.length),
      onText(piece: string, told: readonly ToldText[]) {
        listeners.forEach((listener) => listener(index, piece, told));
        choices[index].text += piece;
        choices[index].told = [...choices[index].told, ...told];
      },
      onEnd(end: TextEnd) {
        choices[index].end = end;
        listeners.forEach((listener) => listener(index, "", []));
        if (choices.every((choice) => choice.end !== null)) resolve();
      },
      onError: reject,
      cancelled: () => gone,
    })));
  const form = formOf(options, { prompts, choices, tells: sampling.logProbs !== undefined });
  if (!asked.stream) {
    options.signal.addEventListener("abort", () => {
      gone = true;
      reject(new RequestError("the client has gone", { status: 499 }));
    });
    add();
    await promise;
    return json(form.whole());
  }
  promise.catch(() => {});
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (value: unknown): void => {
        if (!gone) {
          controller.enqueue(
            encoder.encode(`data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`),
          );
        }
      };
      form.opening().forEach(send);
      listeners.push((index, piece, told) => send(form.piece(index, { piece, told })));
      promise.then(() => {
        if (asked.usage) send(form.usage());
        send("[DONE]");
      }, (error) => send(errorBody(error))).finally(() => {
        if (!gone) controller.close();
        gone = true;
      });
      add();
    },
    cancel() {
      gone = true;
    },
  });
  return new Response(body, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-cache" },
  });
}

/** The forms of answers of a route. */
function formOf({ route, name }: AnswerOptions, { prompts, choices, tells }: {
  readonly prompts: Asked["prompts"];
  readonly choices: readonly Choice[];
  /** Whether it tells how likely tokens were. */
  readonly tells: boolean;
}) {
  const chat = route === "chat", created = Math.floor(Date.now() / 1000);
  const id = `${chat ? "chatcmpl" : "cmpl"}-${crypto.randomUUID()}`;
  const logprobs = (told: readonly ToldText[], from = 0) =>
    !tells ? null : chat ? chatLogProbs(told) : completionLogProbs(told, from);
  const head = (object: string) => ({ id, object, created, model: name });
  const streamed = chat ? "chat.completion.chunk" : "text_completion";
  const usage = () => {
    const prompt_tokens = prompts.reduce((sum, { length }) => sum + length, 0);
    const completion_tokens = choices.reduce((sum, { end }) => sum + (end?.tokens ?? 0), 0);
    return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
  };
  return {
    whole: () => ({
      ...head(chat ? "chat.completion" : "text_completion"),
      choices: choices.map(({ text, told, end }, index) => ({
        index,
        ...chat ? { message: { role: "assistant", content: text } } : { text },
        logprobs: logprobs(told),
        finish_reason: end!.reason,
      })),
      usage: usage(),
    }),
    opening: () =>
      chat
        ? choices.map((_, index) => ({
          ...head(streamed),
          choices: [{
            index,
            delta: { role: "assistant", content: "" },
            logprobs: null,
            finish_reason: null,
          }],
        }))
        : [],
    /** A piece of text, or the end of one when there is none. */
    piece(index: number, { piece, told }: { readonly piece: string; readonly told: readonly ToldText[] }) {
      const { end, text: before } = choices[index],
        text = chat ? { delta: piece === "" ? {} : { content: piece } } : { text: piece };
      return {
        ...head(streamed),
        choices: [{
          index,
          ...text,
          logprobs: piece === "" ? null : logprobs(told, before.length),
          finish_reason: piece === "" ? end?.reason ?? null : null,
        }],
      };
    },
    usage: () => ({ ...head(streamed), choices: [], usage: usage() }),
  };
}

/** Refuses names of other machines, by which a page of a stranger could get here. */
function checkHost({ url }: Request): void {
  if (isLoopback(new URL(url).hostname)) return;
  throw new RequestError("this server answers its own machine alone", { status: 403 });
}

function isLoopback(name: string): boolean {
  return name === "localhost" || name === "127.0.0.1" || name === "[::1]";
}

/** The origin of a page of this machine, which may read the answer; null for any other. */
function originOf(request: Request): string | null {
  const origin = request.headers.get("origin");
  return origin !== null && URL.canParse(origin) && isLoopback(new URL(origin).hostname) ? origin : null;
}

function withOrigin(response: Response, request: Request): Response {
  const origin = originOf(request);
  response.headers.set("vary", "origin");
  if (origin === null) return response;
  // Clients of OpenAI send headers of their own.
  const headers = request.headers.get("access-control-request-headers") ?? "authorization, content-type";
  response.headers.set("access-control-allow-origin", origin);
  response.headers.set("access-control-allow-headers", headers);
  response.headers.set("access-control-allow-methods", "GET, POST, OPTIONS");
  return response;
}

function errorBody(error: unknown) {
  const { param, code, status } = error instanceof RequestError
    ? error
    : { param: null, code: null, status: 500 };
  const known = error instanceof FirnError;
  return {
    error: {
      message: known ? error.message : "the server has failed; its own output says why",
      type: status === 500 && !known ? "server_error" : "invalid_request_error",
      param,
      code,
    },
  };
}

function errorResponse(error: unknown): Response {
  if (!(error instanceof FirnError)) printError(Deno.inspect(error));
  // What the model refuses, such as an option out of its range, is a fault of the request.
  const status = error instanceof RequestError ? error.status : error instanceof FirnError ? 400 : 500;
  return json(errorBody(error), status);
}

function json(value: unknown, status = 200): Response {
  return Response.json(value, { status });
}
