import { assert, assertEquals } from "@std/assert";

const FOLDER = new URL("../../policies/", import.meta.url);

/** What parts of transformers are called, by any family of models. */
const NAMES =
  /_proj|attn|attention|mlp|ffn|feed_?forward|lm_head|embed_tokens|transformer|\bheads?\b|\b(query|key|value)s?_|rotary|token|llama|gpt|bert|vit\b/gi;

/** The sources without comments. */
const SOURCES = [...Deno.readDirSync(FOLDER)].map(({ name }) => {
  const text = Deno.readTextFileSync(new URL(name, FOLDER));
  return { name, code: text.replace(/\/\*\*[^]*?\*\//g, "").replace(/^ *\/\/.*$/gm, ""), text };
});

Deno.test("no policy names a part of a transformer in its code", () => {
  assert(SOURCES.length > 20 && SOURCES.every(({ code }) => code.includes("export")));
  assertEquals(
    SOURCES.flatMap(({ name, code }) => code.match(NAMES)?.map((found) => `${name}: ${found}`) ?? []),
    [],
  );
});

Deno.test("no policy's doc speaks of a parameter's name outside of examples", () => {
  const prose = SOURCES.map(({ name, text }) => ({ name, text: text.replace(/```ts[^]*?```/g, "") }));
  assertEquals(
    prose.filter(({ text }) => /_proj|self_attn|lm_head|embed_tokens/.test(text)).map(({ name }) => name),
    [],
  );
});
