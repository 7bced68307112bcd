/**
 * The routes of OpenAI, asked without a network: what a server answers is a function of the request.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import { chatTemplate, loadTokenizer } from "@firn/train/data";
import { generate, logProbabilities } from "@firn/train/infer";
import { loadModel } from "@firn/train/hub";
import { openaiRoutes } from "../../examples/openai_routes.ts";
import { requestQueue } from "../../examples/request_queue.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const folder = "examples/models/sotu";
const model = await loadModel(gpu, folder), tokenizer = await loadTokenizer(folder, { model });
const reader = { gpu, model, tokenizer, folder };
const queue = requestQueue(reader, { most: 4 });
Deno.test.afterAll(() => queue[Symbol.dispose]());
const template = chatTemplate("{% for m in messages %}{{ m.content }}\n{% endfor %}");
const options = { ...reader, queue, template, name: "sotu", maxTokens: 8 };
const routes = openaiRoutes(options);
const base = "http://127.0.0.1:8080/v1";

// deno-lint-ignore no-explicit-any
type Json = any;

function post(path: string, body: unknown, more: RequestInit = {}): Promise<Response> {
  const headers = { "content-type": "application/json", ...more.headers as Record<string, string> };
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return routes(new Request(base + path, { method: "POST", body: text, ...more, headers }));
}

async function greedyText(prompt: string, maxTokens: number): Promise<string> {
  const ids = await Array.fromAsync(
    generate(gpu, model, { prompt: tokenizer.encode(prompt), maxTokens, stop: tokenizer.stop }),
  );
  return tokenizer.decode(ids);
}

/** The JSON of the events of a stream, and whether it ends as it should. */
async function eventsOf(response: Response): Promise<Json[]> {
  assertEquals(response.headers.get("content-type"), "text/event-stream");
  const lines = (await response.text()).split("\n\n").filter((line) => line !== "");
  assertEquals(lines.pop(), "data: [DONE]");
  return lines.map((line) => JSON.parse(line.replace(/^data: /, "")));
}

Deno.test("the completion route gives the text that generate gives, and counts tokens", async () => {
  const prompt = "The state of the",
    response = await post("/completions", { prompt, temperature: 0, max_tokens: 6 });
  assertEquals(response.status, 200);
  const { object, model: name, choices: [choice], usage }: Json = await response.json();
  assertEquals([object, name, choice.finish_reason], ["text_completion", "sotu", "length"]);
  assertEquals(choice.text, await greedyText(prompt, 6));
  const prompt_tokens = tokenizer.encode(prompt).length;
  assertEquals(usage, { prompt_tokens, completion_tokens: 6, total_tokens: prompt_tokens + 6 });
});

Deno.test("the chat route renders messages, and streams the same text in pieces with usage at the end", async () => {
  const messages = [{ role: "user", content: [{ type: "text", text: "The people of" }] }];
  const asked = { messages, temperature: 0, max_tokens: 6 };
  const { choices: [{ message, finish_reason }] }: Json = await (await post("/chat/completions", asked))
    .json();
  assertEquals([message.role, message.content], ["assistant", await greedyText("The people of\n", 6)]);
  const events = await eventsOf(
    await post("/chat/completions", { ...asked, stream: true, stream_options: { include_usage: true } }),
  );
  assertEquals(events[0].choices[0].delta, { role: "assistant", content: "" });
  assertEquals(events.map((event) => event.choices[0]?.delta.content ?? "").join(""), message.content);
  assertEquals(events.at(-2).choices[0].finish_reason, finish_reason);
  assertEquals([events.at(-1).choices, events.at(-1).usage.completion_tokens], [[], 6]);
  assert(events.every((event) => event.object === "chat.completion.chunk" && event.id === events[0].id));
});

/** Waits until something holds; a test that waits in vain fails. */
async function until(holds: () => boolean): Promise<void> {
  for (const end = performance.now() + 20_000; !holds();) {
    if (performance.now() > end) throw new Error(`waited in vain for ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

Deno.test("requests that wait are one batch, each with its own options, stop and length", async () => {
  const prompt = "The state of the", whole = await greedyText(prompt, 6), stop = whole.slice(4, 8);
  const asked = [
    { prompt, temperature: 0, max_tokens: 6 },
    { prompt, temperature: 0, max_tokens: 6, stop: [stop] },
    {
      prompt: ["The people", tokenizer.encode("The navy")[0]].slice(0, 1),
      temperature: 1,
      seed: 3,
      max_tokens: 2,
      n: 2,
    },
  ];
  const pending = asked.map((body) => post("/completions", body));
  await until(() => queue.working === 4);
  const [first, second, third]: Json[] = await Promise.all(
    (await Promise.all(pending)).map((one) => one.json()),
  );
  assertEquals(first.choices[0].text, whole);
  assertEquals([second.choices[0].text, second.choices[0].finish_reason], [
    whole.slice(0, whole.indexOf(stop)),
    "stop",
  ]);
  assertEquals(third.choices.map(({ index }: Json) => index), [0, 1]);
  assertEquals(third.usage.completion_tokens, 4);
});

Deno.test("a stream that nobody reads any more does not hold up others", async () => {
  const response = await post("/completions", { prompt: "The", max_tokens: 400, stream: true });
  const body = response.body!.getReader();
  await body.read();
  await body.cancel();
  assertEquals((await post("/completions", { prompt: "The", max_tokens: 1 })).status, 200);
});

Deno.test("a client that has gone is not worked for any more, streamed or not", async () => {
  const client = new AbortController(), { signal } = client;
  const pending = post("/completions", { prompt: "The", max_tokens: 200, temperature: 0 }, { signal });
  await until(() => queue.working === 1);
  client.abort();
  assertEquals((await pending).status, 499);
  assertEquals((await post("/completions", { prompt: "The", max_tokens: 1 })).status, 200);
});

Deno.test("the largest seed has several answers, and a field that is null, or off as in other servers, is as one that is absent", async () => {
  const asked = {
    prompt: "The",
    seed: 2 ** 53 - 1,
    n: 2,
    max_completion_tokens: null,
    max_tokens: 1,
    stream: null,
    top_k: -1,
    no_repeat_ngram_size: 0,
  };
  const response = await post("/completions", asked), { usage }: Json = await response.json();
  assertEquals([response.status, usage.completion_tokens], [200, 2]);
});

Deno.test("a field that is refused is named as the request has it", async () => {
  const { error }: Json = await (await post("/completions", { prompt: "a", top_p: 7 })).json();
  assertEquals(error.param, "top_p");
});

Deno.test("the server names its model", async () => {
  const list: Json = await (await routes(new Request(`${base}/models`))).json();
  assertEquals([list.object, list.data[0].id], ["list", "sotu"]);
  assertEquals((await routes(new Request(`${base}/models/sotu`))).status, 200);
});

Deno.test("errors have OpenAI's form and status", async () => {
  const cases: readonly (readonly [Promise<Response>, number, RegExp])[] = [
    [post("/completions", "{"), 400, /must be JSON/],
    [post("/completions", []), 400, /must be a JSON object/],
    [post("/completions", {}), 400, /"prompt" must be a text/],
    [post("/completions", { prompt: "" }), 400, /must not be empty/],
    [post("/completions", { prompt: [99999] }), 400, /ids of tokens must be from 0/],
    [post("/completions", { prompt: "a", top_p: 7 }), 400, /"top_p" must be a number from 0 to 1/],
    [post("/completions", { prompt: "a", logit_bias: { 9999: 1 } }), 400, /"logit_bias" must hold/],
    [post("/completions", { prompt: "a", stream: "yes" }), 400, /"stream" must be true or false/],
    [post("/completions", { prompt: "a", n: 17 }), 400, /"n" must be at most 16/],
    [post("/completions", { prompt: Array(3000).fill("a") }), 400, /2048 texts at most/],
    [
      openaiRoutes({ ...options, template: chatTemplate("{{ '' }}") })(
        new Request(`${base}/chat/completions`, {
          method: "POST",
          body: '{"messages":[{"role":"user","content":"a"}]}',
          headers: { "content-type": "application/json" },
        }),
      ),
      400,
      /"messages" must have at least one token/,
    ],
    [routes(new Request(`${base}/models/%zz`)), 404, /the model is called "sotu"/],
    [post("/completions", { prompt: "a", temperature: "hot" }), 400, /"temperature" must be a number/],
    [post("/completions", { prompt: "a", max_tokens: 0 }), 400, /"max_tokens" must be a whole number/],
    [post("/completions", { prompt: "a", echo: true }), 400, /"echo" is not supported/],
    [
      post("/chat/completions", { messages: [{ role: "user", content: "a" }], tool_choice: "required" }),
      400,
      /"tool_choice" is not supported/,
    ],
    [post("/completions", { prompt: "the ".repeat(3000) }), 400, /the model reads \d+ tokens at most/],
    [post("/completions", "x".repeat(2 ** 22 + 1)), 413, /bytes at most/],
    [post("/completions", "{}", { headers: { "content-type": "text/plain" } }), 415, /application\/json/],
    [post("/chat/completions", { messages: [] }), 400, /"messages" must be a list/],
    [post("/nowhere", {}), 404, /no route/],
    [routes(new Request(`${base}/completions`)), 405, /GET is not allowed/],
    [routes(new Request(`${base}/models/gpt`)), 404, /the model is called "sotu"/],
    [routes(new Request("http://evil.example/v1/models")), 403, /its own machine/],
    [
      openaiRoutes({ ...options, template: null })(
        new Request(`${base}/chat/completions`, {
          method: "POST",
          body: '{"messages":[]}',
          headers: { "content-type": "application/json" },
        }),
      ),
      400,
      /no chat template/,
    ],
  ];
  for (const [pending, status, message] of cases) {
    const response = await pending, { error }: Json = await response.json();
    assertMatch(error.message, message);
    assertEquals([response.status, error.type], [status, "invalid_request_error"], error.message);
  }
});

Deno.test("a chat shows the template its tools, and none where none may be chosen", async () => {
  const tools = [{ type: "function", function: { name: "weather", parameters: {} } }];
  const own = {
    ...options,
    template: chatTemplate("{{ tools | length if tools else 'none' }} {{ messages[0].content }}"),
  };
  const promptTokens = async (more: object): Promise<number> => {
    const body = JSON.stringify({ messages: [{ role: "user", content: "a" }], max_tokens: 1, ...more });
    const headers = { "content-type": "application/json" };
    const { usage }: Json = await (await openaiRoutes(own)(
      new Request(`${base}/chat/completions`, { method: "POST", body, headers }),
    )).json();
    return usage.prompt_tokens;
  };
  const count = (text: string): number => tokenizer.encode(text).length;
  assertEquals(await promptTokens({ tools, tool_choice: "auto" }), count("1 a"));
  assertEquals(await promptTokens({ tools, tool_choice: "none" }), count("none a"));
});

Deno.test("pages of this machine may read answers, those of others may not", async () => {
  const ask = (origin: string) => routes(new Request(`${base}/models`, { headers: { origin } }));
  const allowed = (response: Response): string | null => response.headers.get("access-control-allow-origin");
  assertEquals(allowed(await ask("http://localhost:3000")), "http://localhost:3000");
  assertEquals(allowed(await ask("https://evil.example")), null);
  // The client of OpenAI in a page sends headers of its own, which the browser asks about first.
  const headers = {
    origin: "http://localhost:3000",
    "access-control-request-headers": "content-type,x-stainless-os",
  };
  const asked = await routes(new Request(`${base}/models`, { method: "OPTIONS", headers }));
  assertEquals(asked.headers.get("access-control-allow-headers"), "content-type,x-stainless-os");
});

Deno.test("a request that comes while others are worked on joins them at the next token, and changes none of their texts", async () => {
  const own = requestQueue(reader, { most: 3 });
  using _ = own;
  const begun: number[] = [], texts = new Map<number, string>(), ended: number[] = [];
  const ask = (
    n: number,
    { prompt, maxTokens, presence = 0 }: { prompt: string; maxTokens: number; presence?: number },
  ) => ({
    ids: tokenizer.encode(prompt),
    sampling: { temperature: 0.8, seed: n, presencePenalty: presence },
    maxTokens,
    stop: [],
    onText(piece: string) {
      if (!begun.includes(n)) begun.push(n);
      texts.set(n, (texts.get(n) ?? "") + piece);
    },
    onEnd: () => void ended.push(n),
    onError: (error: unknown) => {
      throw error;
    },
    cancelled: () => false,
  });
  const long = { prompt: "The state of the union", maxTokens: 120, presence: 0.5 };
  const short = { prompt: "We", maxTokens: 4, presence: 0.5 };
  const until = async (holds: () => boolean) => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
  };
  own.add([ask(1, long), ask(2, short)]);
  await until(() => begun.includes(1));
  // It takes the place of one that has ended, then there is one more than places.
  await until(() => ended.includes(2));
  own.add([ask(3, short), ask(4, { ...short, prompt: "The navy of the United States" })]);
  await until(() => ended.length === 4);
  assertEquals(ended, [2, 3, 4, 1]);
  for (const [n, asked] of [[1, long], [3, short]] as const) {
    const alone = requestQueue(reader, { most: 1 });
    using _ = alone;
    const shared = texts.get(n), again = ended.length;
    texts.delete(n);
    alone.add([ask(n, asked)]);
    await until(() => ended.length > again);
    assertEquals(texts.get(n), shared);
  }
});

Deno.test("logprobs of both routes are those of the text's tokens, whole and streamed", async () => {
  const prompt = "The state of the", ids = tokenizer.encode(prompt);
  const asked = { prompt, temperature: 0, max_tokens: 5, logprobs: 2 };
  const { choices: [{ text, logprobs }] }: Json = await (await post("/completions", asked)).json();
  assertEquals(logprobs.tokens.join(""), text);
  const [wanted] = await logProbabilities(gpu, model, {
    texts: [{ ids: [...ids, ...tokenizer.encode(text)], from: ids.length }],
  });
  assertEquals(logprobs.token_logprobs.length, 5);
  logprobs.token_logprobs.forEach((value: number, i: number) => assertAlmostEquals(value, wanted[i], 1e-3));
  logprobs.top_logprobs.forEach((top: Json, i: number) => {
    assertEquals(Object.keys(top).length, 2);
    assertEquals(top[logprobs.tokens[i]], logprobs.token_logprobs[i]);
  });
  assertEquals(logprobs.text_offset[4], text.length - logprobs.tokens[4].length);
  const streamed = (await eventsOf(await post("/completions", { ...asked, stream: true })))
    .flatMap(({ choices: [choice] }) => choice.logprobs === null ? [] : [choice.logprobs]);
  for (const field of ["tokens", "token_logprobs", "text_offset"]) {
    assertEquals(streamed.flatMap((piece) => piece[field]), logprobs[field]);
  }
  const messages = [{ role: "user", content: "The people of" }];
  const chat = { messages, temperature: 0, max_tokens: 5, logprobs: true, top_logprobs: 1 };
  const { choices: [answer] }: Json = await (await post("/chat/completions", chat)).json();
  const { content }: Json = answer.logprobs;
  assertEquals(content.map(({ token }: Json) => token).join(""), answer.message.content);
  for (const { token, logprob, bytes, top_logprobs: [top] } of content) {
    assertEquals(top, { token, logprob, bytes });
    assertEquals(new TextDecoder().decode(Uint8Array.from(bytes)), token);
  }
  const plain: Json = await (await post("/completions", { ...asked, logprobs: null })).json();
  assertEquals(plain.choices[0].logprobs, null);
  // Tokens of a text that a stop ends are none of it.
  const cut: Json = await (await post("/completions", { ...asked, stop: logprobs.tokens[2] })).json();
  assertEquals(cut.choices[0].logprobs.tokens.join(""), cut.choices[0].text);
  for (
    const [path, more] of [
      ["/completions", { logprobs: 6 }],
      ["/completions", { logprobs: true }],
      ["/chat/completions", { logprobs: false }],
      ["/chat/completions", { logprobs: true, top_logprobs: 21 }],
    ] as const
  ) {
    const { error }: Json = await (await post(path, { ...path === "/completions" ? asked : chat, ...more }))
      .json();
    assertMatch(error.message, /logprobs" must be/);
  }
});
