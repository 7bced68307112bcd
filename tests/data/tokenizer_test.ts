import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { DataError, InputError, NotFoundError } from "@firn/train";
import { loadTokenizer, memoryFileSystem, type Tokenizer } from "@firn/train/data";
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
    assertEquals(encode("ab a .ä"), [11, 9, 5, 8, 3, 4]);
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
    [
      { "tokenizer.json": CONTENT, "tokenizer_config.json": { eos_token: "<end>" } },
      '"eos_token" must be a token of tokenizer.json: got "<end>"',
    ],
  ];
  for (const [files, seen] of broken) {
    await inTokenizerFolder(files, async (folder) => {
      await assertRejects(() => loadTokenizer(folder), DataError, seen);
    });
  }
  await assertRejects(() => loadTokenizer("no/where"), NotFoundError, '"no/where"');
});

/** What `loadTokenizer` says of files in memory. */
async function loaded(files: Readonly<Record<string, unknown>>, options: object = {}): Promise<Tokenizer> {
  const stored = { "tokenizer.json": CONTENT, ...files };
  const fileSystem = memoryFileSystem(
    Object.fromEntries(
      Object.entries(stored).map((
        [name, json],
      ) => [`m/${name}`, typeof json === "string" ? json : JSON.stringify(json)]),
    ),
  );
  return await loadTokenizer("m", { fileSystem, ...options });
}

const withAdded = (token: object) => ({
  ...CONTENT,
  added_tokens: [...CONTENT.added_tokens, { content: "<new>", special: true, ...token }],
});
const withModel = (model: object) => ({ ...CONTENT, model: { ...CONTENT.model, ...model } });
const withCut = (pattern: string) => ({
  ...CONTENT,
  pre_tokenizer: { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false },
});

/** Sequences in sequences. */
function nested(key: string, depth: number): object {
  let part: object = { type: "NFC" };
  for (let i = 0; i < depth; i++) part = { type: "Sequence", [key]: [part] };
  return part;
}

const DEEP = '{"model": ' + "[".repeat(100) + "]".repeat(100) + "}";

const REFUSED: readonly (readonly [what: string, files: Record<string, unknown>, seen: string])[] = [
  [
    "a tokenizer larger than the model",
    { "config.json": { vocab_size: 11 } },
    'must be below the vocab_size 11 of the model: "▁ab" has 11',
  ],
  ["an added id of 2^31", { "tokenizer.json": withAdded({ id: 2 ** 31 }) }, "got 2147483648"],
  ["a negative added id", { "tokenizer.json": withAdded({ id: -1 }) }, "got -1"],
  ["a fractional added id", { "tokenizer.json": withAdded({ id: 12.5 }) }, "got 12.5"],
  ["an added id of another token", { "tokenizer.json": withAdded({ id: 5 }) }, "ids of their own"],
  [
    "an id of 2^31 in the vocabulary",
    { "tokenizer.json": withModel({ vocab: { a: 2 ** 31 }, merges: [] }) },
    "vocab",
  ],
  [
    "one id twice",
    { "tokenizer.json": withModel({ vocab: { a: 1, b: 1 }, merges: [] }) },
    "an id of its own",
  ],
  ["a merge of unknown tokens", { "tokenizer.json": withModel({ merges: ["q r"] }) }, "merges"],
  ["dropout", { "tokenizer.json": withModel({ dropout: 0.1 }) }, '"model.dropout" must be null or 0'],
  ["nested quantifiers", { "tokenizer.json": withCut("(a+)+b") }, "linear time"],
  [
    "an unknown pre-tokenizer",
    { "tokenizer.json": { ...CONTENT, pre_tokenizer: { type: "UnicodeScripts" } } },
    'got "UnicodeScripts"',
  ],
  ["an added token of 257 characters", {
    "tokenizer.json": withAdded({ id: 12, content: "a".repeat(257) }),
  }, "1 to 256 characters"],
  [
    "a merge list that is none",
    { "tokenizer.json": withModel({ merges: 1 }) },
    '"model.merges" must be a list',
  ],
  ["a vocab_size of 12.5", { "config.json": { vocab_size: 12.5 } }, '"vocab_size" must be a whole number'],
  [
    "a tokenizer larger than the text part of a model",
    { "config.json": { text_config: { vocab_size: 11 } } },
    "vocab_size 11",
  ],
  [
    "parts in parts without end",
    { "tokenizer.json": { ...CONTENT, normalizer: nested("normalizers", 6) } },
    "in at most 5 other objects",
  ],
  [
    "a sequence of 33 parts",
    { "tokenizer.json": { ...CONTENT, normalizer: { type: "Sequence", normalizers: Array(33).fill({}) } } },
    '"normalizer.normalizers" must be a list of at most 32',
  ],
  [
    "a replacement of 65 characters",
    {
      "tokenizer.json": {
        ...CONTENT,
        normalizer: { type: "Replace", pattern: { String: "a" }, content: "b".repeat(65) },
      },
    },
    "at most 64 characters",
  ],
  ["alternatives that match the same", { "tokenizer.json": withCut("(a|a)*b") }, "linear time"],
  ["a repeated repetition", { "tokenizer.json": withCut("(a*)*") }, "linear time"],
  ["a long list in place of an object", { "tokenizer.json": DEEP }, "got a list of 1;"],
  ...["bos", "eos", "unk", "pad", "sep", "cls", "mask"].map((which) =>
    [
      `${which}_token that the tokenizer does not have`,
      { "tokenizer_config.json": { [`${which}_token`]: "[NONE]" } },
      `"${which}_token" must be a token of tokenizer.json: got "[NONE]"`,
    ] as const
  ),
  [
    "settings with another token for an id",
    { "tokenizer_config.json": { added_tokens_decoder: { 2: { content: "<end>" } } } },
    '"added_tokens_decoder.2" must be "</s>", as in tokenizer.json: got "<end>"',
  ],
  [
    "settings with an id that the tokenizer does not have",
    { "tokenizer_config.json": { added_tokens_decoder: { 99: { content: "<end>" } } } },
    '"added_tokens_decoder.99" must be an id of tokenizer.json',
  ],
  ["add_eos_token without one", { "tokenizer_config.json": { add_eos_token: true } }, "add_eos_token"],
  [
    "settings of another type",
    { "tokenizer_config.json": { clean_up_tokenization_spaces: "yes" } },
    "true or false",
  ],
  ...["bos_token_id", "eos_token_id", "pad_token_id"].flatMap((key) =>
    ["config.json", "generation_config.json"].flatMap((file) =>
      [1.5, 1e308, 99999, -1, "2", [2, 99999]].map((id) =>
        [
          `${key} ${JSON.stringify(id)} in ${file}`,
          { "config.json": { vocab_size: 12 }, [file]: { vocab_size: 12, [key]: id } },
          `"${key}" must be an id of the vocabulary, a whole number from 0 to 11`,
        ] as const
      )
    )
  ),
];

for (const [what, files, seen] of REFUSED) {
  Deno.test(`loadTokenizer refuses ${what}`, async () => {
    await assertRejects(() => loaded(files), DataError, seen);
  });
}

Deno.test("loadTokenizer compares with the model that it is given", async () => {
  await loaded({ "config.json": { vocab_size: 12 } });
  await loaded({}, { model: { source: { vocab_size: 64 } } });
  await assertRejects(() => loaded({}, { model: { source: { vocab_size: 5 } } }), DataError, "vocab_size 5");
});

Deno.test("loadTokenizer says what the tokenizer puts around a text, and add_bos_token decides", async () => {
  const frame = async (settings: object, post: object | null = CONTENT.post_processor) => {
    const files = {
      "tokenizer.json": { ...CONTENT, post_processor: post },
      "tokenizer_config.json": settings,
    };
    const { before, after } = await loaded(files);
    return [before, after];
  };
  const bert = { type: "BertProcessing", sep: ["</s>", 2], cls: ["<s>", 1] };
  assertEquals(await frame({}), [[1], []]);
  assertEquals(await frame({}, null), [[], []]);
  assertEquals(await frame({}, bert), [[1], [2]]);
  assertEquals(await frame({}, { type: "Sequence", processors: [{ type: "ByteLevel" }, bert] }), [[1], [2]]);
  assertEquals(await frame({ bos_token: "<s>", add_bos_token: false }), [[], []]);
  assertEquals(await frame({ bos_token: "<s>", add_bos_token: true }, null), [[1], []]);
  await assertRejects(() => frame({ add_bos_token: true }), DataError, "add_bos_token");
  await assertRejects(() => frame({}, { ...bert, sep: ["</s>", 99] }), DataError, "got 99");
});

Deno.test("loadTokenizer lists every id that ends a generated text", async () => {
  const { stop } = await loaded({
    "tokenizer_config.json": { eos_token: "</s>" },
    "config.json": { eos_token_id: 2 },
    "generation_config.json": { eos_token_id: [2, 6] },
  });
  assertEquals(stop, [2, 6]);
});

Deno.test("loadTokenizer leaves out a token for images that a model of text has no id for", async () => {
  const files = (settings: object) => ({
    "tokenizer.json": withAdded({ id: 12, content: "<image>" }),
    "tokenizer_config.json": settings,
    "config.json": { vocab_size: 12 },
  });
  const { encode, vocabSize } = await loaded(files({ image_token: "<image>" }));
  assertEquals(vocabSize, 12);
  assertEquals(encode("<image>").every((id) => id < 12), true);
  await assertRejects(() => loaded(files({})), DataError, '"<image>" has 12');
});

Deno.test("a text that would take an expression quadratic time is refused, others are not", async () => {
  const { encode } = await loaded({ "tokenizer.json": withCut(String.raw`\s+$`) });
  assertEquals(encode("ab".repeat(1e5)).length > 0, true);
  assertThrows(
    () => encode("a" + "\t".repeat(2000) + "b"),
    InputError,
    "2000 characters in a row",
  );
});

Deno.test("a tokenizer whose parts double a text again and again is stopped", async () => {
  const double = { type: "Replace", pattern: { String: "a" }, content: "aa" };
  const normalizer = { type: "Sequence", normalizers: Array(30).fill(double) };
  const grown = await loaded({ "tokenizer.json": { ...CONTENT, normalizer } });
  assertThrows(() => grown.encode("a"), InputError, "64 times as many");
  const pre_tokenizer = { type: "Sequence", pretokenizers: Array(30).fill({ type: "ByteLevel" }) };
  const cut = await loaded({ "tokenizer.json": { ...CONTENT, pre_tokenizer } });
  assertThrows(() => cut.encode("é"), InputError, "64 times as many");
});

Deno.test("a long text is not cut where the pre-tokenizer looks over the border", async () => {
  const pre_tokenizer = {
    type: "Split",
    pattern: { Regex: "a b" },
    behavior: "Removed",
    invert: false,
  };
  const vocab = { ...CONTENT.model.vocab, " ": 12 }, normalizer = { type: "NFC" };
  const { encode } = await loaded({
    "tokenizer.json": { ...withModel({ vocab }), normalizer, pre_tokenizer },
  });
  assertEquals(encode("a b".repeat(30_000)), []);
});

Deno.test("an expression that matches nothing does not cut a character in two", async () => {
  const { encode } = await loaded({ "tokenizer.json": withCut(String.raw`(?!\S)`) });
  assertEquals(encode("😀"), [5, 0]);
});
