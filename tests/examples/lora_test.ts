/**
 * The example `lora` on pairs of its own.
 *
 * @module
 */

import { assertEquals, assertLess, assertMatch } from "@std/assert";
import { inFolder } from "../data/files.ts";
import { example } from "./process.ts";

Deno.test("lora predicts held-out completions better than both baselines, and writes an adapter", async () => {
  await inFolder(async (folder) => {
    const row = (i: number) =>
      `${i} times it was asked:,the people of the United States have the honor to say ${i}.`;
    const lines = ["q,a", ...Array.from({ length: 30 }, (_, i) => row(i))];
    await Deno.writeTextFile(`${folder}/pairs.csv`, lines.join("\n"));
    const { code, stdout, stderr } = await example("lora", [
      ...["--data", `${folder}/pairs.csv`, "--columns", "prompt=q,completion=a", "--out", `${folder}/out`],
      ...["--steps", "10", "--batch", "4", "--length", "48", "--rank", "4", "--targets", "*.down_proj"],
    ], folder);
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^data {8}27 pairs to learn, 3 held out, \d+ tokens learned$/m);
    const [counts, before, after] = ["counts of tokens", "without adapter", "with the adapter"].map((name) =>
      Number(stdout.match(new RegExp(`^${name} +([\\d.]+)`, "m"))![1])
    );
    assertLess(after, counts);
    assertLess(after, 0.7 * before);
    const names = (await Array.fromAsync(Deno.readDir(`${folder}/out`))).map(({ name }) => name).sort();
    assertEquals(names.includes("adapter_model.safetensors"), true);
  });
});
