/**
 * Rows to train on, and templates of chats.
 *
 * @module
 */

import {
  answersOf,
  bestFit,
  chatTemplate,
  encodeHere,
  evaluationBatches,
  type ExampleKind,
  fitSamples,
  loadChatTemplate,
  openRows,
  rowBatches,
  sampleSource,
  splitRows,
} from "@firn/train/data";
import type { Draw } from "../draw.ts";
import { oneOf } from "../draw.ts";
import { mutateBytes } from "../mutate_bytes.ts";
import { mutateJson, mutateJsonFile } from "../mutate_json.ts";
import { makeModel } from "../small_model.ts";
import { type Context, demand, type Format } from "./types.ts";

const CHATS = Array.from({ length: 6 }, (_, i) => ({
  messages: [
    { role: "system", content: "Be ½ kind." },
    { role: "user", content: `Question ${i}, "quoted"?` },
    { role: "assistant", content: null, tool_calls: [{ function: { name: "f", arguments: '{"x": 1}' } }] },
    { role: "tool", content: "\u{1f4a5}\n" },
    { role: "assistant", content: `Answer ${i}` },
  ],
  tools: [{ type: "function", function: { name: "f" } }],
}));

const LINES = CHATS.map((row) => JSON.stringify(row)).join("\n") + "\n";
const TABLE = `prompt,completion\n"a ""b"", c",d\n"two\nlines",é\n1,2\n"x",y\n`;

/** Reads rows as training does, and batches of them. */
async function load({ folder }: Context, name: string): Promise<void> {
  const rows = await openRows(`${folder}/${name}`, { skipBadRows: 1 });
  demand(rows.count > 0 && rows.skipped <= 1, `${rows.count} rows, ${rows.skipped} skipped`);
  const all = (await Promise.all(rows.blocks.keys().map((block) => rows.read(block)))).flat();
  demand(all.length === rows.count, `${all.length} rows of ${rows.count}`);
  demand(all.every(({ line, example }) => line >= 1 && example.kind === rows.kind), "a row of another kind");
  const encode = encodeHere<ExampleKind>((example) => {
    const ids = Int32Array.from(JSON.stringify(example).slice(0, 40), (c) => c.charCodeAt(0));
    return { ids, learned: new Uint8Array(ids.length).fill(1) };
  });
  const { train, heldOut } = splitRows(rows);
  demand(train.count + heldOut.count === rows.count, "rows are lost");
  const options = { length: 16, batch: 2, pack: true, long: "split" } as const;
  const batches = await rowBatches(sampleSource(train, { encode }), options);
  await batches.at(5);
  await evaluationBatches(sampleSource(heldOut, { encode }), options);
  const samples = fitSamples(await sampleSource(train, { encode }).read(0), options);
  demand(
    bestFit(samples.map(({ ids }) => ids.length), 16).flat().length === samples.length,
    "samples are lost",
  );
}

/** Damages one line, as JSON, or any bytes. */
function mutateLine(bytes: Uint8Array, draw: Draw): Uint8Array {
  if (draw(4) === 0) return mutateBytes(bytes, draw);
  const rows = new TextDecoder().decode(bytes).trimEnd().split("\n"), at = draw(rows.length);
  return new TextEncoder().encode(rows.with(at, mutateJson(rows[at], draw)).join("\n") + "\n");
}

const TEMPLATE =
  "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}" +
  "{{ m.tool_calls | tojson(indent=2) if m.tool_calls }}<|end|>{% endgeneration %}{% else %}{{ m['content'] }}<|end|>" +
  "{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

/** Parts of templates that loop, grow, nest, reach out, or are no templates. */
const PARTS: readonly string[] = [
  "{% for i in range(1000000000) %}x{% endfor %}",
  "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
  "{% set n = namespace(s='ab') %}{% for i in range(64) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
  "{% set n = namespace(s=[1, 2]) %}{% for i in range(64) %}{% set n.s = n.s + n.s %}{% endfor %}",
  "{% set n = namespace(s='aaaa') %}{% for i in range(9) %}{% set n.s = n.s.replace('a', n.s) %}{% endfor %}",
  "{% set n = namespace(s='a,a,a') %}{% for i in range(99) %}{% set n.s = n.s.split(',') | join(n.s ~ ',') %}{% endfor %}",
  "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
  "{{ messages.__class__.__mro__[1].__subclasses__() }}",
  "{{ messages.constructor.constructor('return Deno.exit()')() }}",
  "{{ ''.constructor.constructor('while (true) {}')() }}",
  "{{ self }}{{ lipsum.__globals__ }}{{ cycler }}{{ joiner.__init__ }}",
  "{{ Deno.env }}{{ globalThis }}{{ process }}{{ import('x') }}",
  "{% include '/etc/passwd' %}",
  "{% import '/etc/passwd' as p %}{{ p }}",
  "{{ raise_exception('\u001b[2J') }}",
  "{{ strftime_now('%Y'.replace('Y', '%Y%Y%Y%Y')) }}",
  "{% generation %}{% generation %}",
  "{% endgeneration %}",
  "\ufdd0\ufdd1\ufdd1",
  "{% break %}",
  "{{ messages | tojson(indent=100000) }}",
  "{{ 'a' * 1000000000 }}",
  "{{ range(0, 10, 0) }}{{ range(-1, -1000000000, -1) | list | length }}",
  `${"(".repeat(5000)}`,
  `{{ ${"[".repeat(5000)} }}`,
  `{{ ${"-".repeat(5000)}1 }}`,
  `{%${" ".repeat(1999)}if true%}`,
];

function mutateTemplate(bytes: Uint8Array, draw: Draw): Uint8Array {
  if (draw(3) === 0) return mutateBytes(bytes, draw);
  const text = new TextDecoder().decode(bytes),
    tags = [...text.matchAll(/\{[{%]|[%}]\}/g)],
    at = tags[draw(tags.length)].index;
  const part = oneOf(draw, PARTS), tail = draw(2) === 0 ? text.slice(at) : text.slice(at + 2);
  return new TextEncoder().encode(text.slice(0, at) + part + tail);
}

/** Renders conversations, and finds their answers. */
async function render({ folder }: Context): Promise<void> {
  const template = await loadChatTemplate(folder);
  demand(template !== null, "there is no template");
  const began = performance.now(),
    conversation = {
      messages: [
        { role: "user", content: "Hello" },
        { role: "assistant", content: " Hi " },
        { role: "user", content: "{{ 7 * 7 }}{% for %}" },
        { role: "assistant", content: "Bye" },
      ],
    };
  const { text, answers } = answersOf(template!, conversation);
  demand(
    answers.every(([begin, end]) => begin >= 0 && begin <= end && end <= text.length),
    "an answer outside of the text",
  );
  demand(!/[\ufdd0\ufdd1]/.test(text), "marks in the text");
  demand(
    !text.includes("49") || template!.render({ messages: [conversation.messages[0]] }).text.includes("49"),
    "a message ran",
  );
  demand(performance.now() - began < 10_000, "it took more than 10 s");
}

/** The formats of rows and of templates. */
export const rows: readonly Format[] = [
  {
    name: "chat rows",
    count: 120,
    file: "chat.jsonl",
    make: ({ folder }) => Deno.writeTextFile(`${folder}/chat.jsonl`, LINES),
    mutate: mutateLine,
    load: (context) => load(context, "chat.jsonl"),
  },
  {
    name: ".json rows",
    count: 60,
    file: "chat.json",
    make: ({ folder }) => Deno.writeTextFile(`${folder}/chat.json`, JSON.stringify(CHATS, null, 1)),
    mutate: (bytes, draw) => draw(2) === 0 ? mutateBytes(bytes, draw) : mutateJsonFile(bytes, draw),
    load: (context) => load(context, "chat.json"),
  },
  {
    name: ".csv rows",
    count: 60,
    file: "rows.csv",
    make: ({ folder }) => Deno.writeTextFile(`${folder}/rows.csv`, TABLE),
    mutate: mutateBytes,
    load: (context) => load(context, "rows.csv"),
  },
  {
    name: "Parquet rows",
    count: 120,
    file: "chat.parquet",
    make: ({ folder }) =>
      Deno.copyFile(new URL("../../fixtures/rows/chat.parquet", import.meta.url), `${folder}/chat.parquet`),
    mutate: mutateBytes,
    load: (context) => load(context, "chat.parquet"),
  },
  {
    name: "chat template",
    count: 150,
    file: "chat_template.jinja",
    async make({ folder }) {
      await makeModel(folder);
      await Deno.writeTextFile(`${folder}/chat_template.jinja`, TEMPLATE);
      chatTemplate(TEMPLATE);
    },
    mutate: mutateTemplate,
    load: render,
  },
];
