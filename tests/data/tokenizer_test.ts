import { assertEquals, assertRejects } from "@std/assert";
import { DataError, NotFoundError } from "@firn/train";
import { loadTokenizer } from "../../core/data/tokenizer.ts";
import { inFolder } from "./files.ts";

/** A tokenizer in the manner of SentencePiece: words begin with U+2581, unknown characters fall back to bytes. */
const TOKENS = ["<unk>", "<s>", "</s>", "<0xC3>", "<0xA4>", "▁", "a", "b", ".", "▁a", "ab", "▁ab"];
const CONTENT = {
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({
    id,
    content,
    special: true,
    normalized: false,
  })),
  normalizer: {
    type: "Sequence",
    normalizers: [{ type: "Prepend", prepend: "▁" }, {
      type: "Replace",
      pattern: { String: " " },
      content: "▁",
    }],
  },
  pre_tokenizer: null,
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [],
    special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
  },
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
  model: {
    type: "BPE",
    unk_token: "<unk>",
    fuse_unk: true,
    byte_fallback: true,
    vocab: Object.fromEntries(TOKENS.map((token, id) => [token, id])),
    merges: ["▁ a", "a b", "▁a b"],
  },
};

async function inTokenizerFolder(
  files: Readonly<Record<string, unknown>>,
  test: (folder: string) => Promise<void>,
): Promise<void> {
  await inFolder(async (folder) => {
    for (const [name, content] of Object.entries(files)) {
      await Deno.writeTextFile(
        `${folder}/${name}`,
        typeof content === "string" ? content : JSON.stringify(content),
      );
    }
    await test(folder);
  });
}

Deno.test("loadTokenizer encodes as the file says and decodes back", async () => {
  await inTokenizerFolder({ "tokenizer.json": CONTENT }, async (folder) => {
    const { encode, decode, vocabSize } = await loadTokenizer(folder);
    assertEquals(encode("ab a .ä"), [1, 11, 9, 5, 8, 3, 4]);
    assertEquals(decode(encode("ab a .ä")), "ab a .ä");
    assertEquals(decode(new Int32Array([11, 6])), "aba");
    assertEquals(decode([]), "");
    assertEquals(vocabSize, 12);
  });
});

Deno.test("loadTokenizer takes bos and eos from tokenizer_config.json, then from config.json, else null", async () => {
  const model = { bos_token_id: 5, eos_token_id: [6, 7] };
  const cases: readonly (readonly [Record<string, unknown>, readonly [number | null, number | null]])[] = [
    [
      { "tokenizer_config.json": { bos_token: "<s>", eos_token: { content: "</s>" } }, "config.json": model },
      [1, 2],
    ],
    [{ "tokenizer_config.json": { bos_token: null }, "config.json": model }, [5, 6]],
    [{ "config.json": { bos_token_id: null } }, [null, null]],
    [{}, [null, null]],
  ];
  for (const [files, expected] of cases) {
    await inTokenizerFolder({ "tokenizer.json": CONTENT, ...files }, async (folder) => {
      const { bos, eos } = await loadTokenizer(folder);
      assertEquals([bos, eos], expected);
    });
  }
});

Deno.test("loadTokenizer names the file that is missing or broken", async () => {
  const broken: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ "tokenizer.json": '{"model":' }, "tokenizer.json"],
    [{ "tokenizer.json": "[]" }, "tokenizer.json"],
    [{ "tokenizer.json": { ...CONTENT, model: { type: "Unheard" } } }, "tokenizer.json"],
    [{ "tokenizer.json": { model: 1 } }, "tokenizer.json"],
    [{ "tokenizer.json": CONTENT, "tokenizer_config.json": "" }, "tokenizer_config.json"],
    [{ "tokenizer.json": CONTENT, "tokenizer_config.json": { eos_token: "<end>" } }, '"<end>" is not'],
  ];
  for (const [files, seen] of broken) {
    await inTokenizerFolder(files, async (folder) => {
      await assertRejects(() => loadTokenizer(folder), DataError, seen);
    });
  }
  await assertRejects(() => loadTokenizer("no/where"), NotFoundError, '"no/where"');
});
