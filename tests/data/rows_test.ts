/**
 * Rows of files: formats, columns, kinds, and what is said of bad ones.
 *
 * @module
 */

import { DataError, InputError, NotFoundError } from "@firn/train";
import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import {
  type ExampleKind,
  type FileSystem,
  memoryFileSystem,
  openRows,
  type OpenRowsOptions,
  type Placed,
  RowError,
  type Rows,
  splitRows,
} from "@firn/train/data";
import { blocksOf, recordsOf } from "../../core/data/rows/blocks.ts";
import { filesOf } from "../../core/data/rows/glob.ts";
import { delimitedLines, lines, listItems } from "../../core/data/rows/records.ts";

async function allOf<K extends ExampleKind>(rows: Rows<K>): Promise<Placed<K>[]> {
  return (await Promise.all(rows.blocks.keys().map((block) => rows.read(block)))).flat();
}

function open(
  files: Record<string, string | Uint8Array>,
  options: OpenRowsOptions & { source?: string } = {},
) {
  const { source = Object.keys(files)[0], ...others } = options;
  return openRows(source, { ...others, fileSystem: memoryFileSystem(files) });
}

const TEXTS = ["plain", 'a "quoted", one', "two\nlines", "\u65e5\u672c \u{1f433}\t!"];
const quote = (text: string): string => `"${text.replaceAll('"', '""')}"`;
const FORMATS: Readonly<Record<string, string>> = {
  "a.jsonl": TEXTS.map((text) => JSON.stringify({ text })).join("\r\n\n"),
  "b.ndjson": TEXTS.map((text) => JSON.stringify({ text })).join("\n") + "\n",
  "c.json": JSON.stringify(TEXTS.map((text) => ({ text, other: { list: [1, "]"] } })), null, 2),
  "d.json": TEXTS.map((text) => JSON.stringify({ text })).join("\n"),
  "e.csv": `id,text\n${TEXTS.map((text, i) => `${i},${quote(text)}`).join("\n")}\n`,
  "g.csv": `"id; or none";text\n${TEXTS.map((text, i) => `${i};${quote(text)}`).join("\n")}\n`,
  "f.tsv": `\ufefftext\tid\r\n${TEXTS.map((text, i) => `${quote(text)}\t${i}`).join("\r\n")}`,
};

Deno.test("openRows reads the same rows from JSON lines, JSON, CSV and TSV", async () => {
  for (const [name, content] of Object.entries(FORMATS)) {
    const rows = await open({ [name]: content });
    assertEquals([rows.kind, rows.count, rows.skipped], ["text", TEXTS.length, 0], name);
    assertEquals(
      (await allOf(rows)).map(({ example }) => example),
      TEXTS.map((text) => ({ kind: "text" as const, text })),
      name,
    );
  }
});

Deno.test("openRows names the line where each row begins", async () => {
  const at = async (name: string) =>
    (await allOf(await open({ [name]: FORMATS[name] }))).map(({ line }) => line);
  assertEquals(await at("a.jsonl"), [1, 3, 5, 7]);
  assertEquals(await at("e.csv"), [2, 3, 4, 6]);
  assertEquals(await at("c.json"), [2, 11, 20, 29]);
});

Deno.test("a pattern asks for nothing above the folder before its first mark, which alone a run may read", async () => {
  const files = memoryFileSystem({ "/a/b/c/x.txt": "", "/a/b/c/d/y.txt": "" });
  const fileSystem: FileSystem = {
    ...files,
    async stat(path) {
      assert(path.startsWith("/a/b/c/"), `"${path}" is asked for`);
      return await files.stat(path);
    },
  };
  assertEquals(await filesOf("/a/b/c/*.txt", fileSystem), ["/a/b/c/x.txt"]);
  assertEquals(await filesOf("/a/b/c/*/y.txt", fileSystem), ["/a/b/c/d/y.txt"]);
});

Deno.test("a pattern names files in order, through folders", async () => {
  const row = (text: string): string => JSON.stringify({ text });
  const files = {
    "d/b.jsonl": row("b"),
    "d/a.jsonl": row("a"),
    "d/x/c.jsonl": row("c"),
    "d/.h.jsonl": row("h"),
    "d/a.txt": "t",
  };
  const texts = async (source: string) =>
    (await allOf(await open(files, { source }))).map(({ example }) => (example as { text: string }).text);
  assertEquals(await texts("d/*.jsonl"), ["a", "b"]);
  assertEquals(await texts("d/**/*.jsonl"), ["a", "b", "c"]);
  assertEquals(await texts("d/[!a].jsonl"), ["b"]);
  assertEquals(await texts("d/?.{txt,jsonl}"), ["a", "t", "b"]);
  await assertRejects(() => texts("d/*.csv"), NotFoundError, 'as "d/*.csv" matches none');
  await assertRejects(() => texts("d/[b-a].csv"), InputError, 'as "[b-a].csv" must be a pattern');
  await assertRejects(() => texts("d"), InputError, 'it is a folder; name its files, such as "d/*.jsonl"');
});

const KINDS: readonly (readonly [row: unknown, example: unknown])[] = [
  [{ prompt: "a", completion: "b" }, { kind: "completion", prompt: "a", completion: "b" }],
  [{ instruction: "a", input: "", output: "b" }, { kind: "completion", prompt: "a", completion: "b" }],
  [{ instruction: "a", input: "i", output: "b" }, { kind: "completion", prompt: "a\n\ni", completion: "b" }],
  [
    { messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }] },
    { kind: "chat", messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }] },
  ],
  [
    { conversations: [{ from: "human", value: "a" }, { from: "gpt", value: "b" }], tools: '[{"name":"f"}]' },
    {
      kind: "chat",
      messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }],
      tools: [{ name: "f" }],
    },
  ],
  [
    { conversations: [{ from: "Human", value: "a" }, { from: "model", value: "b" }] },
    {
      kind: "chat",
      messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }],
    },
  ],
  [
    {
      messages: [{
        role: "assistant",
        content: null,
        tool_calls: [{ function: { name: "f", arguments: '{"x":1}' } }],
      }, { role: "user", content: [{ type: "text", text: "a" }, { type: "text", text: "b" }] }],
    },
    {
      kind: "chat",
      messages: [{
        role: "assistant",
        content: null,
        tool_calls: [{ function: { name: "f", arguments: { x: 1 } } }],
      }, { role: "user", content: "ab" }],
    },
  ],
  [
    { prompt: [{ role: "user", content: "a" }], completion: [{ role: "assistant", content: "b" }] },
    {
      kind: "chat",
      messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }],
      answersFrom: 1,
    },
  ],
  [
    { prompt: "a", chosen: "b", rejected: "c" },
    {
      kind: "preference",
      prompt: [{ role: "user", content: "a" }],
      chosen: [{ role: "assistant", content: "b" }],
      rejected: [{ role: "assistant", content: "c" }],
    },
  ],
  [{ image: "a.png", label: 3 }, { kind: "image", image: "a.png", label: "3" }],
];

Deno.test("openRows knows what a row is by its columns", async () => {
  for (const [row, example] of KINDS) {
    const [placed] = await allOf(await open({ "a.jsonl": JSON.stringify(row) }));
    assertEquals(placed.example as unknown, example);
  }
  const [labelled] = await allOf(await open({ "a.csv": "text,label\nspam,1\n" }, { kind: "label" }));
  assertEquals(labelled.example, { kind: "label", text: "spam", label: "1" });
});

Deno.test("openRows takes columns by other names, and from within objects", async () => {
  const row = JSON.stringify({ q: "a", prompt: "no", deep: { answer: "b" } });
  const columns = { prompt: "q", completion: "deep.answer" };
  const [{ example }] = await allOf(await open({ "a.jsonl": row }, { columns }));
  assertEquals(example, { kind: "completion", prompt: "a", completion: "b" });
});

Deno.test("columns that are named say what a row is, whatever other columns it has", async () => {
  const messages = [{ role: "user", content: "a" }, { role: "assistant", content: "b" }];
  const content = JSON.stringify({ messages, prompt: "a", completion: "b", body: "c", text: "d" });
  const of = async (columns: Record<string, string>) => {
    const rows = await open({ "a.jsonl": content }, { columns });
    return [rows.kind, (await allOf(rows))[0].example];
  };
  assertEquals(await of({ text: "body" }), ["text", { kind: "text", text: "c" }]);
  const completion = { kind: "completion", prompt: "a", completion: "c" } as const;
  assertEquals(await of({ completion: "body" }), ["completion", completion]);
  assertEquals(await of({}), ["chat", { kind: "chat", messages }]);
});

Deno.test("a row of another kind than those before is told from one with a slip, and unknown columns are asked for", async () => {
  const refused = async (rows: readonly object[], options: OpenRowsOptions = {}): Promise<string> => {
    const content = rows.map((row) => JSON.stringify(row)).join("\n");
    return (await assertRejects(() => open({ "a.jsonl": content }, options), RowError)).rule;
  };
  const completion = { prompt: "a", completion: "b" };
  assertEquals(
    await refused([{ text: "a" }, completion]),
    "all rows must be of one kind: it is of kind completion, and those before are of kind text; mix files of several kinds by weights",
  );
  assertEquals(await refused([{ text: "a" }, { body: "b" }]), 'there must be text in "text": it is missing');
  assertEquals(
    await refused([completion], { kind: "text" }),
    'there must be text in "text": it is missing',
  );
  assertMatch(
    await refused([{ body: "b" }]),
    /it has "body"; say which of its columns is which, as in text=body$/,
  );
});

Deno.test("a JSON list of long rows ends wherever its characters do, by either name", async () => {
  for (const shift of [0, 1, 2]) {
    const rows = [{ text: "\u65e5".repeat(5000) + "a".repeat(shift) }];
    assertEquals((await open({ "a.json": JSON.stringify(rows) })).count, 1);
    assertEquals((await open({ "a.jsonl": JSON.stringify(rows, null, 1) })).count, 1);
  }
});

Deno.test("a column without a name is left out", async () => {
  const [{ example }] = await allOf(await open({ "a.csv": ",text\n0,a\n" }));
  assertEquals(example, { kind: "text", text: "a" });
});

const GOOD = '{"text":"a"}';
const BAD: readonly (readonly [name: string, content: string | Uint8Array, seen: string])[] = [
  ["a.jsonl", `${GOOD}\n{"text":`, 'Cannot use line 2 of "a.jsonl" as a row must be a JSON object: '],
  [
    "a.jsonl",
    `${GOOD}\n\n[1]`,
    'Cannot use line 3 of "a.jsonl" as a row must be a JSON object: it is a list',
  ],
  ["a.jsonl", `{"body":"a"}`, 'it has "body"'],
  ["a.jsonl", new Uint8Array([0x7b, 0xff, 0x7d]), "text must be UTF-8"],
  ["a.json", `[${GOOD} ${GOOD}]`, "commas between"],
  ["a.json", `[1, ${GOOD}]`, "commas between"],
  ["a.json", `["a"]`, "commas between"],
  ["a.json", `[${GOOD},\n`, 'its list must end with "]"'],
  ["a.csv", "text,b\na,b\nc\n", 'Cannot use line 3 of "a.csv" as a row must have the 2 columns'],
  ["a.csv", 'text\n"a\nb\n', 'Cannot use line 2 of "a.csv" as its quotes must close'],
  ["a.csv", new Uint8Array([0xff, 0xfe, 0x61, 0, 0x0a, 0]), "text must be UTF-8: its first line is not"],
  ["a.csv", "text,text\na,b\n", "must name the columns, each once"],
  ["a.csv", ",\na,b\n", "must name the columns, each once"],
  ["a.jsonl", '{"messages":[]}', '"messages" must be a list with a message'],
  ["a.jsonl", '{"messages":[{"role":"user"}]}', 'message 1 must have text in "content"'],
  ["a.jsonl", '{"messages":[{"content":"a"}]}', 'message 1 must have a "role"'],
  ["a.jsonl", '{"messages":[{"role":"user","content":[{"type":"image"}]}]}', "list of parts with text"],
  ["a.jsonl", "", "there is none"],
  ["a.json", "[]", "there is none"],
  ["a.parquet", "PAR1", "must be a Parquet file"],
];

Deno.test("openRows says which row cannot be used, and why", async () => {
  for (const [name, content, seen] of BAD) {
    await assertRejects(() => open({ [name]: content }), DataError, seen);
  }
  await assertRejects(() => open({ "a.xml": "" }), InputError, "its name must end in .jsonl");
});

Deno.test("openRows leaves out as many bad rows as it may, and reads the others as if these were not there", async () => {
  const content = [GOOD, "x", '{"text":"b"}', "{}", '{"text":"c"}'].join("\n");
  const error = await assertRejects(
    () => open({ "a.jsonl": content }, { skipBadRows: 1 }),
    RowError,
    "bad row 2",
  );
  assertEquals([error.place.line, error.place.file], [4, "a.jsonl"]);
  const rows = await open({ "a.jsonl": content }, { skipBadRows: 2 });
  assertEquals([rows.count, rows.skipped], [3, 2]);
  assertEquals((await allOf(rows)).map(({ line }) => line), [1, 3, 5]);
});

Deno.test("the fingerprint of rows tells every byte and the columns apart", async () => {
  const of = async (content: string, options: OpenRowsOptions = {}) =>
    (await open({ "a.jsonl": content }, options)).fingerprint;
  const row = '{"text":"abc","body":"abd"}';
  assertEquals(await of(row), await of(row));
  for (let i = 9; i < 12; i++) {
    assertNotEquals(await of(row), await of(`${row.slice(0, i)}z${row.slice(i + 1)}`));
  }
  assertNotEquals(await of(row), await of(row, { columns: { text: "body" } }));
});

Deno.test("blocks of any size hold the same records, each whole", async () => {
  const cases = [
    { content: FORMATS["a.jsonl"], records: lines, later: lines },
    { content: FORMATS["e.csv"], records: () => delimitedLines(","), later: () => delimitedLines(",") },
    { content: FORMATS["c.json"], records: () => listItems(0), later: () => listItems(1) },
  ];
  for (const { content, records, later } of cases) {
    const fileSystem = memoryFileSystem({ a: content }), text = new TextDecoder();
    await using file = await fileSystem.open("a");
    const whole = recordsOf(await file.read(0, file.size), { records: records(), line: 1 });
    for (const size of [1, 7, 60, 1000]) {
      const found: [string, number][] = [];
      for await (const span of blocksOf(file, { path: "a", records: records(), begin: 0, line: 1, size })) {
        const own = span.begin === 0 ? records() : later();
        for (const { bytes, line } of recordsOf(span.bytes, { records: own, line: span.line })) {
          found.push([text.decode(bytes), line]);
        }
      }
      assertEquals(found, whole.map(({ bytes, line }) => [text.decode(bytes), line]));
    }
  }
});

Deno.test("splitRows holds out one row of ten wherever it stands", async () => {
  const rows = await open({ "a.jsonl": Array.from({ length: 25 }, (_, i) => `{"text":"${i}"}`).join("\n") });
  const { train, heldOut } = splitRows(rows);
  assertEquals((await allOf(heldOut)).map(({ line }) => line), [10, 20]);
  assertEquals([train.count, heldOut.count, (await allOf(train)).length], [23, 2, 23]);
  assertNotEquals(train.fingerprint, heldOut.fingerprint);
});

Deno.test("openRows reads Parquet: lists of structs by blocks, and images as bytes", async () => {
  const rows = await openRows("tests/fixtures/rows/chat.parquet");
  assertEquals([rows.kind, rows.count, rows.blocks.map(({ count }) => count)], ["chat", 5, [2, 2, 1]]);
  const all = await allOf(rows);
  assertEquals(all.map(({ unit, line }) => [unit, line]), [1, 2, 3, 4, 5].map((line) => ["row", line]));
  assertEquals(all[3].example, {
    kind: "chat",
    messages: [
      { role: "user", content: "Question 3?" },
      { role: "assistant", content: "Answer 3 \u2603." },
    ],
  });
  const [{ example: { image, label } }] = await allOf(
    await openRows("tests/fixtures/rows/images.parquet", { kind: "image" }),
  );
  assertEquals([label, String.fromCharCode(...(image as Uint8Array).subarray(1, 4))], ["3", "PNG"]);
});
