/**
 * Files that were written on Windows teach what the same files of other systems do.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { memoryFileSystem, openCorpus, openRows } from "@firn/train/data";
import { readConfig } from "../../examples/config.ts";
import { whole } from "../../examples/flags.ts";

const FILES: Readonly<Record<string, string>> = {
  "a.txt": "War\n\nand \rPeace\n",
  "a.jsonl": '{"text":"War\\r\\nand"}\n{"text":"Peace"}\n',
  "a.csv": 'text,n\n"War\nand",1\nPeace,2\n',
  "a.json": '[{"text":"War"},\n{"text":"Peace"}]\n',
};
const windows = Object.fromEntries(
  Object.entries(FILES).map(([name, text]) => [name, text.replaceAll("\n", "\r\n")]),
);

Deno.test("line ends of Windows change nothing of a text, cut anywhere, and of rows", async () => {
  const [own, other] = [FILES, windows].map((files) => memoryFileSystem(files));
  for (const chunk of [1, 2, 3, 5, 1000]) {
    const read = async (fileSystem: typeof own) => {
      const pieces = await Array.fromAsync(
        (await openCorpus("a.txt", { fileSystem, sizes: { chunk } })).pieces(),
      );
      return pieces.map(({ text }) => text).join("");
    };
    assertEquals(
      [await read(own), await read(other)],
      [FILES["a.txt"], FILES["a.txt"]],
      `chunks of ${chunk}`,
    );
  }
  for (const name of ["a.jsonl", "a.csv", "a.json"]) {
    const read = async (fileSystem: typeof own) =>
      (await (await openRows(name, { kind: "text", fileSystem })).read(0)).map(({ example }) => example.text);
    assertEquals(await read(other), await read(own), name);
  }
});

Deno.test("line ends of Windows change nothing of a file of flags", () => {
  const table = { steps: whole("steps", 1), batch: whole("rows", 1) };
  const text = "# a run\nsteps = 3\nbatch = 2\n";
  const read = (file: string) => [...readConfig(file, { table, path: "run.toml" })];
  assertEquals(read(text.replaceAll("\n", "\r\n")), read(text));
});
