/**
 * What the torture counts, and that a seed makes the same inputs again.
 *
 * @module
 */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { inFolder } from "../data/files.ts";
import { drawFrom } from "./draw.ts";
import { FORMATS } from "./formats/mod.ts";
import { inputOf } from "./load_inputs.ts";
import { contentOf, differenceOf, progressOf } from "./run_folder.ts";
import { type Failure, tableOf } from "./tally.ts";

Deno.test("tableOf counts failures by column and adds them up", () => {
  const failure = (column: Failure["column"]): Failure => ({ column, part: "a", number: 1, detail: "" });
  const table = tableOf([
    { part: "a", tried: "2 runs", kills: 5, failures: [failure("torn"), failure("torn")] },
    { part: "b", tried: "9 inputs", kills: 0, failures: [failure("hangs")] },
  ]);
  assertEquals(table.split("\n").map((row) => row.trim().split(/ {2,}/)), [
    ["kills", "lost", "torn", "raw", "accepted", "hangs", "over1GB"],
    ["a (2 runs)", "5", "0", "2", "0", "0", "0", "0"],
    ["b (9 inputs)", "0", "0", "0", "0", "0", "1", "0"],
    ["total", "5", "0", "2", "0", "0", "1", "0"],
  ]);
});

Deno.test("a seed and a number make the same input again, and others make another", () => {
  const format = FORMATS.find(({ name }) => name === "metrics.jsonl")!;
  const whole = new TextEncoder().encode('{"kind":"start","config":{"steps":9},"adapter":"none"}\n');
  const make = (seed: number, number: number): string =>
    new TextDecoder().decode(inputOf(format, { whole, seed, number }));
  for (let number = 0; number < 50; number++) assertEquals(make(1, number), make(1, number));
  const all = new Set(Array.from({ length: 50 }, (_, number) => make(1, number)));
  assert(all.size > 30, `${all.size} different inputs`);
  assertNotEquals([0, 1, 2, 3].map((n) => make(1, n)), [0, 1, 2, 3].map((n) => make(2, n)));
  assertEquals(Array.from({ length: 4 }, () => drawFrom(1, 2)(1000)).every((n) => n < 1000), true);
});

Deno.test("progressOf tells a run that is lost from one that has not begun, goes on or is finished", async () => {
  await inFolder(async (folder) => {
    const write = (name: string, text: string) => Deno.writeTextFile(`${folder}/${name}`, text);
    assertEquals(await progressOf(`${folder}/nowhere`), "clean");
    await write("metrics.jsonl", '{"kind":"start"}\n');
    assertEquals(await progressOf(folder), "clean");
    await write("metrics.jsonl", '{"kind":"start"}\n{"kind":"step","step":1}\n');
    assertEquals(await progressOf(folder), "lost");
    await write("checkpoint.1.safetensors", "");
    assertEquals(await progressOf(folder), "resumable");
    await Deno.remove(`${folder}/checkpoint.1.safetensors`);
    await write("metrics.jsonl", '{"kind":"start"}\n{"kind":"step","step":1}\n{"kind":"end"}\n');
    await write("report.html", "<p></p></html>\n");
    assertEquals(await progressOf(folder), "finished");
  });
});

Deno.test("differenceOf finds another model, half a line of a log and a file too many, not another pace", async () => {
  await inFolder(async (folder) => {
    const make = async (name: string, files: Readonly<Record<string, string>>) => {
      await Deno.mkdir(`${folder}/${name}/model`, { recursive: true });
      const all = { "model/config.json": "{}", "metrics.jsonl": '{"stepMs":1,"step":1}\n', ...files };
      for (const [path, text] of Object.entries(all)) {
        await Deno.writeTextFile(`${folder}/${name}/${path}`, text);
      }
      return await contentOf(`${folder}/${name}`);
    };
    const whole = await make("whole", {});
    assertEquals(
      differenceOf(await make("pace", { "metrics.jsonl": '{"stepMs":2,"step":1}\n' }), whole),
      null,
    );
    for (
      const [path, text] of [["model/config.json", "{ }"], ["metrics.jsonl", '{"step'], [
        "x.1-0123456789ab.tmp",
        "",
      ]]
    ) {
      const difference = differenceOf(await make(`other ${path.replace("/", " ")}`, { [path]: text }), whole);
      assertNotEquals(difference, null, path);
    }
  });
});
