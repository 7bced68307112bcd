/**
 * Templates of chats beside those of transformers, their limits, and which tokens are answers.
 *
 * @module
 */

import { DataError, InputError, NotFoundError } from "@firn/train";
import { assert, assertEquals, assertLess, assertRejects, assertThrows } from "@std/assert";
import {
  answersOf,
  chatTemplate,
  type Conversation,
  encodeChat,
  loadChatTemplate,
  loadTokenizer,
  memoryFileSystem,
  type Message,
  messagesOf,
  type Sample,
  type Tokenizer,
} from "@firn/train/data";
import { chatTokenizer, RECORDED, templateOf } from "./chat.ts";

const exampleOf = ({ messages, tools }: Conversation) =>
  ({ kind: "chat", messages: messagesOf(messages), ...tools && { tools } }) as const;

/** The texts of what is learned, stretch by stretch. */
function learnedOf({ ids, learned }: Sample, { decode, stop }: Tokenizer): string[] {
  const texts: string[] = [];
  ids.forEach((id, i) => {
    if (learned[i] === 0) return;
    if (learned[i - 1] !== 1) texts.push("");
    texts[texts.length - 1] += stop.includes(id) ? "$" : decode([id]);
  });
  return texts;
}

Deno.test("templates of ten shapes give the texts, ids and masks of transformers", async () => {
  const tokenizer = await chatTokenizer();
  let rendered = 0, masked = 0;
  for (const [name, cases] of Object.entries(RECORDED.expected)) {
    const template = await templateOf(name);
    for (const [which, { text, ids, mask, error }] of Object.entries(cases)) {
      const { add_generation_prompt: addGenerationPrompt, ...conversation } = RECORDED.conversations[which];
      const example = exampleOf(conversation), label = `${name} ${which}`;
      if (error !== undefined) {
        if (!/alternate|not supported/.test(error)) continue;
        const refused = assertThrows(() => template.render(example, { addGenerationPrompt }), DataError);
        assert(refused.message.includes(error), label);
        continue;
      }
      const own = template.render(example, { addGenerationPrompt }).text;
      assertEquals(own, text, label);
      assertEquals(tokenizer.encode(own), ids, label);
      rendered++;
      if (mask === undefined || addGenerationPrompt) continue;
      const { learned } = encodeChat({ ...tokenizer, stop: [] }, example, { template });
      assertEquals(learned.join(""), mask, label);
      masked++;
    }
  }
  assertLess(45, rendered);
  assertLess(18, masked);
});

const CHAT: readonly Message[] = [
  { role: "user", content: "One" },
  { role: "assistant", content: "First" },
  { role: "user", content: "Two" },
  { role: "assistant", content: "Second" },
];

Deno.test("answers are found by rendering again where a template does not mark them, up to what stops", async () => {
  const tokenizer = await chatTokenizer(), example = { kind: "chat", messages: CHAT } as const;
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ["chatml", ["First$", "Second$"]],
    ["chatml_marked", ["First$", "Second$"]],
    ["llama3", ["First$", "Second$"]],
    ["mistral", [" First$", " Second$"]],
    ["zephyr", ["First$", "Second$"]],
    // The token of "First" begins with the space before it.
    ["vicuna", [" First$", " Second$"]],
    ["gemma", ["First\n", "Second\n"]],
  ];
  for (const [name, texts] of cases) {
    const template = await templateOf(name),
      learned = (options: Parameters<typeof encodeChat>[2]) =>
        learnedOf(encodeChat(tokenizer, example, options), tokenizer);
    assertEquals(learned({ template }), texts, name);
    assertEquals(learned({ template, loss: "completion" }), texts.slice(1), name);
    const { ids } = encodeChat(tokenizer, example, { template });
    assertEquals(encodeChat(tokenizer, example, { template, loss: "all" }), {
      ids,
      learned: new Uint8Array(ids.length).fill(1),
    });
    const later = encodeChat(tokenizer, { ...example, answersFrom: 2 }, { template });
    assertEquals(learnedOf(later, tokenizer), texts.slice(1), name);
  }
});

Deno.test("an answer is found where a template leaves out earlier thoughts, and what it changes is refused by name", async () => {
  const tokenizer = await chatTokenizer(), qwen = await templateOf("qwen3");
  const thoughts = CHAT.map((message) => ({
    ...message,
    content: `<think>\nhm\n</think>\n\n${message.content}`,
  }));
  const learned = (messages: readonly Message[], template = qwen) =>
    learnedOf(encodeChat(tokenizer, { kind: "chat", messages }, { template }), tokenizer);
  // What is decoded has no special tokens, as `<think>` is here.
  assertEquals(learned(thoughts), ["First$", "\nhm\n\n\nSecond$"]);
  // An answer that repeats what is around it, and one that is empty.
  const odd = CHAT.with(1, { role: "assistant", content: "assistant\n<think>" });
  assertEquals(learned(odd), ["assistant\n$", "\n\n\n\nSecond$"]);
  assertEquals(learned(CHAT.with(1, { role: "assistant", content: "" }))[0], "$");
  // Without thoughts, a prompt ends with an empty one, and the last answer is trimmed.
  const fast = await templateOf("qwen3", { enable_thinking: false });
  assertEquals(learned(CHAT.with(1, { role: "assistant", content: "\n First" }), fast), [
    " First$",
    "Second$",
  ]);
  // DeepSeek R1 begins an answer with a thought that it leaves out of every message.
  const r1 = chatTemplate(
    "{% for m in messages %}{{ '<|user|>' if m.role == 'user' else '<|assistant|>' }}{{ m.content.split('</think>')[-1] }}" +
      "{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}",
  );
  assertEquals(learned(CHAT.with(1, { role: "assistant", content: "<b>" }), r1), ["<b>$", "Second$"]);
  const forgets =
    "{% for m in messages %}{{ m.content if loop.last or m.role == 'user' else '...' }};{% endfor %}";
  const refused = (source: string, seen: string) =>
    assertThrows(
      () => answersOf(chatTemplate(source, { path: "own.jinja" }), { messages: CHAT }),
      DataError,
      seen,
    );
  refused(
    forgets,
    'as the chat template of "own.jinja" must keep the text of an answer when more messages follow: it changes that of ' +
      "message 2; mark",
  );
  refused(
    "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}{% if add_generation_prompt %}Think!{% endif %}",
    "must begin an answer as its prompt ends: it does not begin that of message 2",
  );
  const marks = forgets.replace("{{", "{% generation %}{{").replace("}};", "}}{% endgeneration %};");
  assertEquals(answersOf(chatTemplate(marks), { messages: CHAT }).answers.length, 4);
});

Deno.test("what begins the answer that a conversation begins with is not learned", async () => {
  const tokenizer = await chatTokenizer();
  const messages = [{ role: "assistant", content: "Welcome" }, ...CHAT];
  const cases = [["chatml", "Welcome$"], ["zephyr", "Welcome$"], ["llama3", "Welcome$"], ["phi3", "Welcome"]];
  for (const [name, first] of cases) {
    const sample = encodeChat(tokenizer, { kind: "chat", messages }, { template: await templateOf(name) });
    assert(learnedOf(sample, tokenizer)[0].startsWith(first), `${name}: ${learnedOf(sample, tokenizer)}`);
  }
});

Deno.test("an answer of weight 0 is not learned, whether the template marks answers or not", async () => {
  const tokenizer = await loadTokenizer("examples/models/sotu"), plain = "{{ m.content }};";
  const marked = "{% generation %}{{ m.content }};{% endgeneration %}";
  const messages = ["First", "Second"].map((content, i) => ({ role: "assistant", content, weight: i }));
  const of = (source: string, given: readonly Message[] = messages) =>
    learnedOf(
      encodeChat(tokenizer, { kind: "chat", messages: given }, {
        template: chatTemplate(`{% for m in messages %}${source}{% endfor %}`),
      }),
      tokenizer,
    );
  assertEquals(of(plain), ["Second;"]);
  assertEquals(of(marked), ["Second;"]);
  assertEquals(of(plain, messages.map((message) => ({ ...message, weight: 1 }))).join(""), "First;Second;");
  assertThrows(() => of(marked + marked), DataError, "it marks 4 of 2; mark each");
});

const HOSTILE: readonly (readonly [what: string, source: string, seen: string])[] = [
  [
    "doubles a text",
    "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "characters",
  ],
  [
    "adds texts",
    "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "characters",
  ],
  [
    "replaces texts",
    "{% set n = namespace(s='aaaa') %}{% for i in range(9) %}{% set n.s = n.s | replace('a', n.s) %}{% endfor %}",
    "characters",
  ],
  [
    "calls replace",
    "{% set n = namespace(s='aaaa') %}{% for i in range(9) %}{% set n.s = n.s.replace('', n.s) %}{% endfor %}",
    "characters",
  ],
  [
    "prints much",
    `{% for i in range(9999) %}${"0123456789".repeat(40)}{% endfor %}`,
    "characters",
  ],
  [
    "doubles a list",
    "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "steps",
  ],
  ["loops in loops", "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "steps"],
  [
    "loops over lists that it has, without a body",
    "{% set l = range(90000) %}{% for a in l %}{% for b in l %}{% endfor %}{% endfor %}",
    "steps",
  ],
  [
    "leaves loops at once",
    "{% set l = range(90000) %}{% for a in l %}{% for b in l %}{% break %}{% endfor %}{% endfor %}",
    "steps",
  ],
  [
    "looks through lists",
    "{% set l = range(90000) %}{% for a in l %}{% if 'x' in l %}{% endif %}{% endfor %}",
    "steps",
  ],
  ...["{{ n.l | tojson }}", "{{ n.l }}", "{{ 'a' + n.l }}", "{{ 'a' ~ n.l }}", "{{ n.l | string | length }}"]
    .map((
      use,
    ): readonly [string, string, string] => [
      `writes out a list of lists with ${use}`,
      `{% set n = namespace(l=[1]) %}{% for i in range(40) %}{% set n.l = [n.l, n.l] %}{% endfor %}${use}`,
      "steps",
    ]),
  ["makes a long range", "{{ range(10 ** 12) | length }}", ""],
  ["makes an endless range", "{% for i in range(0, 1000000000) %}{% endfor %}", "a range may have"],
  ["has a range without steps", "{{ range(1, 5, 0) }}", ""],
  ["calls itself", "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", ""],
  ["nests", "(".repeat(1e5).replace(/^/, "{{ ") + " }}", ""],
  [
    "reaches for classes",
    "{{ messages.__class__.__mro__ }}{{ ''.__class__ }}{{ range.constructor('x')() }}",
    "",
  ],
  ["reaches for prototypes", "{{ messages[0].constructor.constructor('return Deno')() }}", ""],
  ["names globals", "{{ Deno.readTextFileSync('/etc/passwd') }}", ""],
  [
    "marks an answer twice",
    "{% generation %}{% generation %}a{% endgeneration %}",
    "must begin and end once",
  ],
  ["does not end an answer", "{% generation %}a", "each answer must end"],
  ["has much space", `{{ ${" ".repeat(2500)} }}`, "spaces in a row"],
  ["is long", "x".repeat(2 ** 18 + 1), "it may have 262144 characters"],
  ["is broken", "{% for x in %}", "must be a template of Jinja"],
  ["refuses", "{{ raise_exception('Only tools!') }}", "it refuses the conversation: Only tools!"],
];

Deno.test("a template has access to nothing, and ends within its limits", () => {
  for (const [what, source, seen] of HOSTILE) {
    const began = performance.now();
    assertThrows(() => chatTemplate(source, { path: "m" }).render({ messages: CHAT }), DataError, seen, what);
    assertLess(performance.now() - began, 4000, what);
  }
});

Deno.test("loadChatTemplate takes the template where transformers takes it", async () => {
  const text = (name: string) => JSON.stringify({ eos_token: { content: "</s>" }, chat_template: name });
  const named = [{ name: "default", template: "d{{ eos_token }}" }, { name: "tool_use", template: "t" }];
  const render = async (
    files: Record<string, string>,
    conversation: Conversation = { messages: CHAT },
    file?: string,
  ) => {
    const template = await loadChatTemplate("m", {
      file,
      fileSystem: memoryFileSystem({ "m/config.json": "{}", ...files }),
    });
    return template && template.render(conversation).text;
  };
  assertEquals(await render({}), null);
  assertEquals(await render({ "m/tokenizer_config.json": text("own{{ eos_token }}") }), "own</s>");
  assertEquals(
    await render({ "m/tokenizer_config.json": text("own"), "m/chat_template.jinja": "file" }),
    "file",
  );
  assertEquals(
    await render({ "m/tokenizer_config.json": text("own"), "m/chat_template.json": text("json") }),
    "json",
  );
  assertEquals(
    await render({ "m/tokenizer_config.json": text("own"), "f.jinja": "flag" }, undefined, "f.jinja"),
    "flag",
  );
  const list = JSON.stringify({ chat_template: named }),
    tools = { messages: CHAT, tools: [{ type: "function" }] };
  assertEquals(await render({ "m/tokenizer_config.json": list }), "d");
  assertEquals(await render({ "m/tokenizer_config.json": list }, tools), "t");
  const more = { "m/chat_template.jinja": "file", "m/additional_chat_templates/tool_use.jinja": "more" };
  assertEquals(await render(more, tools), "more");
  await assertRejects(() => render({}, undefined, "none.jinja"), NotFoundError);
  await assertRejects(
    () => render({ "m/tokenizer_config.json": '{"chat_template":[1]}' }),
    DataError,
    "must be a text",
  );
  const other = JSON.stringify({ chat_template: [{ name: "rag", template: "x" }] });
  await assertRejects(
    () => render({ "m/tokenizer_config.json": other }),
    InputError,
    'must be called "default"',
  );
});
