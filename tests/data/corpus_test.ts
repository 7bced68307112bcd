import { DataError, FileError, InputError } from "@firn/train";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type Corpus, corpusOf, memoryFileSystem, openCorpus, splitCorpus } from "@firn/train/data";
import { piecesOf } from "../../core/data/text/pieces.ts";
import type { FileSystem } from "../../core/host/file_system.ts";
import { inFolder } from "./files.ts";

/** The documents of a corpus, whole. */
async function documentsOf(corpus: Corpus): Promise<string[]> {
  const documents = [""];
  for await (const { text, ends } of corpus.pieces()) {
    documents.push(documents.pop()! + text);
    if (ends) documents.push("");
  }
  assertEquals(documents.pop(), "");
  return documents;
}

const SIZES = [1, 2, 3, 5, 7, 64, 1000];
const TEXT =
  "\ufeffAt the caf\u00e9, \u65e5\u672c\u8a9e\u3002\r\n\r\n  \u{1f433} A\ufeff whale; 12 of them.\n".repeat(
    3,
  );

Deno.test("openCorpus gives the same documents whatever is read at once", async () => {
  const rows = ["one", "two\n", "\u65e5\u672c \u{1f433}"].map((text) => `${JSON.stringify({ text })}\r\n\n`);
  const fileSystem = memoryFileSystem({ "a.txt": TEXT, "a.jsonl": rows.join("") });
  for (const chunk of SIZES) {
    const text = await openCorpus("a.txt", { fileSystem, sizes: { chunk } });
    // The mark at the beginning is no text; those elsewhere are. Lines end by line feeds.
    const plain = TEXT.slice(1).replaceAll("\r\n", "\n");
    assertEquals(await documentsOf(text), [plain]);
    assertEquals(text.length, plain.length);
    const lines = await openCorpus("a.jsonl", { fileSystem, sizes: { chunk } });
    assertEquals(await documentsOf(lines), ["one", "two\n", "\u65e5\u672c \u{1f433}"]);
  }
});

Deno.test("openCorpus names the byte that is no UTF-8", async () => {
  const good = new TextEncoder().encode(TEXT);
  const bad: readonly (readonly [number[], number])[] = [
    [[0xff], 0],
    [[0x61, 0xc3], 1],
    [[0x61, 0xc3, 0x28], 1],
    [[0xf0, 0x9f, 0x90], 0],
    [[0xed, 0xa0, 0x80], 0],
    [[0x80], 0],
    [[0x61, 0xc0, 0xaf], 1],
  ];
  for (const [bytes, offset] of bad) {
    const fileSystem = memoryFileSystem({ "a.txt": new Uint8Array([...good, ...bytes]) });
    for (const chunk of SIZES) {
      const seen = `Cannot read "a.txt" as text must be UTF-8: the byte at offset ${
        good.length + offset
      } is 0x`;
      await assertRejects(() => openCorpus("a.txt", { fileSystem, sizes: { chunk } }), DataError, seen);
    }
  }
});

const BROKEN: readonly (readonly [string, string, string])[] = [
  ["a.txt", " \n", "it is empty"],
  ["a.txt", "\ufeff", "it is empty"],
  ["a.jsonl", "", "there is none"],
  ["a.jsonl", "\n \n", "there is none"],
  ["a.jsonl", '{"text":"a"}\n{"text":', "Cannot use line 2 of"],
  ["a.jsonl", '{"text":"a"}\n\n{"txt":"a"}', "Cannot use line 3 of"],
  ["a.jsonl", '{"text":1}', "it is 1"],
  ["a.jsonl", '{"text":""}', "it is blank"],
  ["a.jsonl", "null", "it is null"],
];

Deno.test("openCorpus names the file, and the line, that holds no text", async () => {
  for (const [name, content, seen] of BROKEN) {
    const fileSystem = memoryFileSystem({ [name]: content });
    const error = await assertRejects(() => openCorpus(name, { fileSystem }), DataError, seen);
    assert(error.message.includes(`"${name}"`), error.message);
  }
});

/** Files whose size is only said. */
function sized(size: number): FileSystem {
  return {
    ...memoryFileSystem(),
    open: () =>
      Promise.resolve({
        size,
        read: () => Promise.reject(new Error("read")),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  };
}

Deno.test("openCorpus refuses a file whose ids would not fit, before it reads any", async () => {
  const open = (size: number) => openCorpus("a.txt", { fileSystem: sized(size) });
  await assertRejects(() => open(2 ** 31 + 1), FileError, "it has 2,147,483,649; give a part of it");
  await assertRejects(() => open(2 ** 31), Error, "read");
});

Deno.test("openCorpus refuses folders and devices, and says when a file changes", async () => {
  await inFolder(async (folder) => {
    await assertRejects(() => openCorpus(folder), FileError, "it is a folder; give the path of a file");
    await assertRejects(() => openCorpus("/dev/zero"), FileError, "it is a device, a pipe or a socket");
    const path = `${folder}/a.txt`;
    await Deno.writeTextFile(path, "one two");
    const corpus = await openCorpus(path);
    await Deno.writeTextFile(path, "one two three");
    await assertRejects(() => documentsOf(corpus), DataError, "it had 7 bytes and has 13; start again");
  });
});

Deno.test("corpusOf refuses nothing and blank documents", () => {
  assertThrows(() => corpusOf([]), InputError, "give at least one");
  assertThrows(() => corpusOf(["a", "\n"]), InputError, "number 2 has none");
});

Deno.test("piecesOf cuts before white space after a word, whatever comes at once", async () => {
  const text = "War, and Peace.\n\nWell Prince; 1805 \u65e5\u672c\u8a9e\u3002\u4eba ".repeat(4);
  const cut = (chunk: number) => {
    const chunks = Array.from(
      { length: Math.ceil(text.length / chunk) },
      (_, i) => text.slice(i * chunk, (i + 1) * chunk),
    );
    return Array.fromAsync(piecesOf(chunks, { size: 5, most: 20 }));
  };
  const whole = await cut(text.length);
  assertEquals(whole.map((piece) => piece.text).join(""), text);
  assertEquals(whole.map(({ ends }) => ends), [...Array(whole.length - 1).fill(false), true]);
  assert(whole.length > 10);
  for (const { text } of whole.slice(1)) assert(/^\s/.test(text), text);
  for (const { text } of whole.slice(0, -1)) assert(/[\p{L}\p{N}]$/u.test(text), text);
  for (const chunk of SIZES) assertEquals(await cut(chunk), whole);
});

Deno.test("piecesOf cuts text without spaces before punctuation, and a long word between characters", async () => {
  const cut = (text: string) =>
    Array.fromAsync(piecesOf([text], { size: 4, most: 10 }), (piece) => piece.text);
  assertEquals(await cut("\u4eba\u4eba\u4eba\u4eba\u4eba\u3002\u4eba\u4eba\u4eba\u4eba\u4eba\u4eba\u4eba"), [
    "\u4eba\u4eba\u4eba\u4eba\u4eba",
    "\u3002\u4eba\u4eba\u4eba\u4eba\u4eba\u4eba\u4eba",
  ]);
  const pieces = await cut(`a${"\u{20000}".repeat(12)}`);
  assertEquals(pieces.map((text) => text.length), [9, 10, 6]);
  assert(pieces.every((text) => text.isWellFormed()));
});

const split = async (documents: readonly string[], holdOut?: number) => {
  const { train, heldOut } = await splitCorpus(corpusOf(documents), holdOut);
  const parts = [await documentsOf(train), await documentsOf(heldOut)];
  assertEquals([train, heldOut].map(({ length }) => length), parts.map((part) => part.join("").length));
  return { train: parts[0], heldOut: parts[1] };
};

Deno.test("splitCorpus holds out the last tenth, cut at white space, and loses nothing", async () => {
  const text = "word ".repeat(100);
  const { train, heldOut } = await split([text]);
  assertEquals([...train, ...heldOut].join(""), text);
  assertEquals(heldOut[0].length, 46);
  assertEquals(heldOut[0].startsWith(" word"), true);
});

Deno.test("splitCorpus cuts between documents where it can and inside one where it must", async () => {
  const document = "ab cd";
  assertEquals(await split(Array(10).fill(document)), {
    train: Array(9).fill(document),
    heldOut: [document],
  });
  assertEquals(await split([document, document], 0.3), { train: [document, "ab"], heldOut: [" cd"] });
  // What would be blank is left out.
  assertEquals(await split(["ab", "   cd"], 0.7), {
    train: ["ab"],
    heldOut: ["   cd"],
  });
  assertEquals(await split(["abcd   ", "ef"], 0.5), { train: ["abcd "], heldOut: ["ef"] });
});

Deno.test("splitCorpus cuts text without spaces between characters", async () => {
  for (const text of ["ACGT".repeat(50), "\u4eba".repeat(100), "\u{1f433}".repeat(101)]) {
    const { train, heldOut } = await split([text]);
    assertEquals(train.length * heldOut.length, 1);
    assertEquals(train[0] + heldOut[0], text);
    assertEquals([train[0].isWellFormed(), heldOut[0].isWellFormed()], [true, true]);
  }
});

Deno.test("splitCorpus cuts a file in pieces where it cuts the whole text", async () => {
  const rows = ["ab cd ef", "gh   ", "ij", "klmn ".repeat(9)], text = rows.join("\n");
  const fileSystem = memoryFileSystem({
    "a.txt": text,
    "a.jsonl": rows.map((row) => JSON.stringify({ text: row })).join("\n"),
  });
  for (const holdOut of [0.1, 0.25, 0.6, 0.9]) {
    for (const [path, documents] of [["a.txt", [text]], ["a.jsonl", rows]] as const) {
      for (const size of [1, 3, 10]) {
        const { train, heldOut } = await splitCorpus(
          await openCorpus(path, { fileSystem, sizes: { size } }),
          holdOut,
        );
        assertEquals(
          { train: await documentsOf(train), heldOut: await documentsOf(heldOut) },
          await split(documents, holdOut),
        );
      }
    }
  }
});

Deno.test("splitCorpus refuses to leave a part empty", async () => {
  await assertRejects(() => split(["a b"], 1), InputError, '"holdOut"');
  await assertRejects(() => split(["a b"], 0.9), InputError, "it has 3 characters; give more text");
  await assertRejects(() => split(["a b"], 0.1), InputError, "give more text");
  await assertRejects(() => split(["ab  "], 0.5), InputError, "give more text");
});
