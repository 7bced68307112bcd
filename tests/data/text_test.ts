import { InputError, NotFoundError } from "@firn/train";
import { assertEquals, assertRejects } from "@std/assert";
import { openText } from "../../examples/text.ts";
import { inFolder } from "./files.ts";

Deno.test("openText opens a text file as one document and rows of JSON as several", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/a.txt`, "one\ntwo");
    await Deno.writeTextFile(`${folder}/a.JSONL`, '{"text":"one"}\n{"text":"two"}');
    for (const [name, documents] of [["a.txt", ["one\ntwo"]], ["a.JSONL", ["one", "two"]]] as const) {
      const corpus = await openText(`${folder}/${name}`);
      assertEquals(await Array.fromAsync(corpus.pieces(), ({ text }) => text), [...documents]);
    }
  });
});

Deno.test("openText opens rows of every format, by a pattern and by a column of another name, too", async () => {
  await inFolder(async (folder) => {
    const files = {
      "b.csv": "id,body\n1,one\n2,two",
      "b.tsv": "id\tbody\n1\tone\n2\ttwo",
      "b.json": '[{"body":"one"},{"body":"two"}]',
      "b1.jsonl": '{"body":"one"}',
      "b2.jsonl": '{"body":"two"}',
    };
    for (const [name, content] of Object.entries(files)) {
      await Deno.writeTextFile(`${folder}/${name}`, content);
    }
    for (const name of ["b.csv", "b.tsv", "b.json", "b?.jsonl"]) {
      const corpus = await openText(`${folder}/${name}`, { columns: { text: "body" } });
      assertEquals(await Array.fromAsync(corpus.pieces(), ({ text }) => text), ["one", "two"], name);
    }
  });
});

Deno.test("openText refuses files that do not exist and sources of unknown kind", async () => {
  await assertRejects(() => openText("no/such.txt"), NotFoundError, '"no/such.txt"');
  for (const source of ["sonnets", "-", "a.gguf", ""]) {
    await assertRejects(() => openText(source), InputError, `"${source}"`);
  }
});
